"""Text from a model that predicts the next token.

A model that writes has three methods, as `GPT` and the recurrent models have them:

- `decode(tokens, cache, lengths) -> (logits, cache)` reads on, and gives the logits of the token that comes next;
- `empty_cache(batch_size, max_length)` gives what it knows before it has read anything: keys and values, or states;
- `unstacked(variables, cache)` gives both in the form in which a loop over tokens reads them fastest.

`context_length` says how many tokens its cache has room for at most; a model without it reads on for ever.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

_CHUNK = 16  # tokens that a stream writes between two looks at them
_PADDED = 32  # prompts are filled up to a multiple of it, so that few lengths are compiled


class Writing(NamedTuple):
    """Texts that are being written.

    Attributes:
      logits: (batch, vocab_size) of the token that comes next.
      cache: what the model has read.
      seen: (batch, vocab_size), whether a token is in a text already; None where nobody asks.
    """

    logits: Float[Array, "batch vocab_size"]
    cache: Any
    seen: Bool[Array, "batch vocab_size"] | None


@functools.partial(jax.jit, static_argnames=("model", "num_tokens", "top_k"))
def generate(
    model: nn.Module,
    variables: dict,
    prompts: Int[Array, "batch time"],
    num_tokens: int,
    key: jax.Array,
    lengths: Int[Array, " batch"] | None = None,
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
    repetition_penalty: float | Array | None = None,
) -> Int[Array, "batch num_tokens"]:
    """Returns the `num_tokens` tokens that follow each prompt; one compiled program, with one loop over the tokens.

    Args:
      model: one that writes (see the module's docstring).
      variables: of the model.
      prompts: tokens, padded at the end where they are of different lengths; read in one pass.
      num_tokens: how many tokens to add.
      key: of the random choices.
      lengths: how many tokens of each prompt are real, at least 1; None: all.
      temperature: see `sample_token`; a traced number.
      top_k: see `sample_token`.
      top_p: see `sample_token`; a traced number.
      repetition_penalty: see `sample_token`; a traced number.

    Raises:
      ValueError: prompts and new tokens together are more than the model's `context_length`, prompts are not
        (batch, time), or `num_tokens` or `top_k` is too small.
    """
    if prompts.ndim != 2 or num_tokens < 0:
        raise ValueError(f"generate takes prompts (batch, time), not {prompts.shape}, and adds 0 or more tokens")
    room = prompts.shape[1] + num_tokens
    variables, writing = _read(model, variables, prompts, lengths, room, repetition_penalty is not None)
    write = functools.partial(
        _write_token, model, variables, key, temperature=temperature, top_k=top_k, top_p=top_p,
        repetition_penalty=repetition_penalty,
    )  # fmt: skip
    return jax.lax.scan(write, writing, jnp.arange(num_tokens))[1].T


def stream(
    model: nn.Module,
    variables: dict,
    prompts: list[np.ndarray],
    num_tokens: int,
    key: jax.Array,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
) -> Iterator[Int[np.ndarray, "batch tokens"]]:
    """Yields the tokens that follow each prompt, a few at a time: (batch, 16) and, at the end, the rest.

    The tokens are those of `generate` as long as they fit into the model's `context_length`. Beyond it, the latest half
    of them is read anew and writing goes on: the model then knows nothing of what came before.

    Args:
      model: one that writes (see the module's docstring).
      variables: of the model.
      prompts: tokens of each text, at least one.
      num_tokens: how many tokens to add, any number.
      key: of the random choices.
      temperature: see `sample_token`.
      top_k: see `sample_token`.
      top_p: see `sample_token`.
      repetition_penalty: see `sample_token`; it knows of all tokens, also of those that do not fit any more.
    """
    texts = [np.asarray(prompt, np.int32) for prompt in prompts]
    most = getattr(model, "context_length", None)
    choice = {"temperature": temperature, "top_p": top_p, "repetition_penalty": repetition_penalty}
    done, room, reading, writing = 0, 0, variables, None
    while done < num_tokens:
        if room == 0:
            limit = max(map(len, texts)) if most is None else most
            kept = [text if len(text) < limit or most is None else text[-max(limit // 2, 1) :] for text in texts]
            longest = max(map(len, kept))
            width = min(-(-longest // _PADDED) * _PADDED, most or 2**30)
            tokens = np.stack([np.pad(text, (0, width - len(text))) for text in kept])
            lengths = np.array([len(text) for text in kept], np.int32)
            seen = None if writing is None else writing.seen
            reading, writing = _begin(model, variables, tokens, lengths, most or width, repetition_penalty is not None)
            if seen is not None:
                writing = writing._replace(seen=seen)
            # The last token is chosen, but there is no room to read it.
            room = num_tokens if most is None else most - longest
        count = min(_CHUNK, num_tokens - done, room)
        writing, new = _write(model, reading, writing, key, done, count, top_k=top_k, **choice)
        found = np.asarray(new)[:, :count]
        texts = [np.concatenate([text, row]) for text, row in zip(texts, found, strict=True)]
        done, room = done + count, room - count
        yield found


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _begin(
    model: nn.Module, variables: dict, tokens: Array, lengths: Array, room: int, looks_back: bool
) -> tuple[dict, Writing]:
    return _read(model, variables, tokens, lengths, room, looks_back)


@functools.partial(jax.jit, static_argnums=0, static_argnames="top_k")
def _write(
    model: nn.Module, variables: dict, writing: Writing, key: jax.Array, start: Array, count: Array, **choice: Any
) -> tuple[Writing, Int[Array, "batch chunk"]]:
    """Writes tokens number `start` to `start + count`; `count` is traced, so that any number is the same program."""
    new = jnp.zeros((_CHUNK, writing.logits.shape[0]), jnp.int32)

    def step(index: Array, state: tuple[Writing, Array]) -> tuple[Writing, Array]:
        writing, token = _write_token(model, variables, key, state[0], start + index, **choice)
        return writing, state[1].at[index].set(token)

    writing, new = jax.lax.fori_loop(0, count, step, (writing, new))
    return writing, new.T


def _read(
    model: nn.Module, variables: dict, tokens: Array, lengths: Array | None, room: int, looks_back: bool
) -> tuple[dict, Writing]:
    """Reads prompts; returns the variables as a loop takes them, and the state before the first token."""
    cache = model.empty_cache(tokens.shape[0], room)
    logits, cache = model.apply(variables, tokens, cache, lengths, method="decode")
    seen = None
    if looks_back:
        real = jnp.ones_like(tokens, bool) if lengths is None else jnp.arange(tokens.shape[1]) < lengths[:, None]
        rows = jnp.arange(tokens.shape[0])[:, None]
        seen = jnp.zeros(logits.shape, bool).at[rows, tokens].max(real)
    variables, cache = model.unstacked(variables, cache)
    return variables, Writing(logits, cache, seen)


def _write_token(
    model: nn.Module, variables: dict, key: jax.Array, writing: Writing, number: Array, **choice: Any
) -> tuple[Writing, Int[Array, " batch"]]:
    """Chooses the token number `number` of each text and reads it."""
    token = sample_token(jax.random.fold_in(key, number), writing.logits, seen=writing.seen, **choice)
    logits, cache = model.apply(variables, token[:, None], writing.cache, method="decode")
    seen = writing.seen
    if seen is not None:
        seen = seen.at[jnp.arange(len(token)), token].set(True)
    return Writing(logits, cache, seen), token.astype(jnp.int32)


def sample_token(
    key: jax.Array,
    logits: Float[Array, "batch vocab_size"],
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
    repetition_penalty: float | Array | None = None,
    seen: Bool[Array, "batch vocab_size"] | None = None,
) -> Int[Array, " batch"]:
    """Returns a token of each example, drawn with the probabilities softmax(logits / temperature).

    Args:
      key: of the random choice.
      logits: of the next token.
      temperature: below 1 the likely tokens become likelier; 0: always the likeliest.
      top_k: only so many of the likeliest tokens are drawn from, ties with the last of them too; None: all.
      top_p: see `choice_logits`.
      repetition_penalty: see `choice_logits`.
      seen: the tokens that `repetition_penalty` acts on; None: none.

    Raises:
      ValueError: `top_k` is less than 1.
    """
    logits = choice_logits(logits, temperature, top_k, top_p, repetition_penalty, seen)
    return jax.lax.cond(
        jnp.asarray(temperature) <= 0, lambda: logits.argmax(axis=-1), lambda: jax.random.categorical(key, logits)
    )


def choice_logits(
    logits: Float[Array, "batch vocab_size"],
    temperature: float | Array = 1.0,
    top_k: int | None = None,
    top_p: float | Array | None = None,
    repetition_penalty: float | Array | None = None,
    seen: Bool[Array, "batch vocab_size"] | None = None,
) -> Float[Array, "batch vocab_size"]:
    """Returns the logits that a token is drawn by: -inf where it cannot be, and not divided by a temperature of 0.

    The penalty acts first, then the temperature, then `top_k`, then `top_p`.

    Args:
      logits: of the next token.
      temperature: what they are divided by.
      top_k: see `sample_token`.
      top_p: only the fewest of the likeliest tokens that have this probability together stay, ties with the last of
        them too (Holtzman et al., "The Curious Case of Neural Text Degeneration", ICLR 2020, section 3.1); None: all.
      repetition_penalty: what positive logits of tokens in `seen` are divided by, and negative ones multiplied with
        (Keskar et al., "CTRL", arXiv:1909.05858, section 4.1); None: 1.
      seen: the tokens that are there already.
    """
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k}: give at least 1, or None to draw from all")
    if repetition_penalty is not None and seen is not None:
        less = jnp.where(logits > 0, logits / repetition_penalty, logits * repetition_penalty)
        logits = jnp.where(seen, less, logits)
    logits = logits / jnp.where(jnp.asarray(temperature) > 0, temperature, 1.0)
    if top_k is not None:
        least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None:
        ordered = jnp.sort(logits, axis=-1, descending=True)
        probabilities = jax.nn.softmax(ordered)
        # A token stays if those before it do not reach the probability yet; so the likeliest always stays.
        stays = jnp.cumsum(probabilities, axis=-1) - probabilities < top_p
        least = jnp.min(jnp.where(stays, ordered, jnp.inf), axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits
