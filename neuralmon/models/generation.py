"""Text from a model that predicts the next token."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


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
) -> Int[Array, "batch num_tokens"]:
    """Returns the `num_tokens` tokens that follow each prompt; one compiled program, with one loop over the tokens.

    Args:
      model: has `decode`, `empty_cache` and `unstacked` as `GPT` has them.
      variables: of the model.
      prompts: tokens, padded at the end where they are of different lengths; read in one pass.
      num_tokens: how many tokens to add.
      key: of the random choices.
      lengths: how many tokens of each prompt are real, at least 1; None: all.
      temperature: see `sample_token`; a traced number.
      top_k: see `sample_token`.

    Raises:
      ValueError: prompts and new tokens together are more than the model's `context_length`, prompts are not
        (batch, time), or `num_tokens` or `top_k` is too small.
    """
    if prompts.ndim != 2 or num_tokens < 0:
        raise ValueError(f"generate takes prompts (batch, time), not {prompts.shape}, and adds 0 or more tokens")
    cache = model.empty_cache(prompts.shape[0], prompts.shape[1] + num_tokens)
    logits, cache = model.apply(variables, prompts, cache, lengths, method="decode")
    variables, cache = model.unstacked(variables, cache)

    def step(carry: tuple, key: jax.Array) -> tuple[tuple, Array]:
        logits, cache = carry
        token = sample_token(key, logits, temperature, top_k)
        return model.apply(variables, token[:, None], cache, method="decode"), token

    _, tokens = jax.lax.scan(step, (logits, cache), jax.random.split(key, num_tokens))
    return tokens.T


def sample_token(
    key: jax.Array, logits: Float[Array, "batch vocab_size"], temperature: float | Array = 1.0, top_k: int | None = None
) -> Int[Array, " batch"]:
    """Returns a token of each example, drawn with the probabilities softmax(logits / temperature).

    Args:
      key: of the random choice.
      logits: of the next token.
      temperature: below 1 the likely tokens become likelier; 0: always the likeliest.
      top_k: only so many of the likeliest tokens are drawn from, ties with the last of them too; None: all.

    Raises:
      ValueError: `top_k` is less than 1.
    """
    if top_k is not None:
        if top_k < 1:
            raise ValueError(f"top_k={top_k}: give at least 1, or None to draw from all")
        least = jax.lax.top_k(logits, min(top_k, logits.shape[-1]))[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return jax.lax.cond(
        jnp.asarray(temperature) <= 0,
        lambda: logits.argmax(axis=-1),
        lambda: jax.random.categorical(key, logits / temperature),
    )
