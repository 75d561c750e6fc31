"""Beam search: what a model that writes token by token finds likeliest, or nearly."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuralmon.layers import select_examples

Decode = Callable[[Int[Array, " beams"], Any], tuple[Float[Array, "beams vocab_size"], Any]]


@functools.partial(jax.jit, static_argnames=("model", "max_length", "beam_size"))
def translate(
    model: nn.Module,
    variables: dict,
    source: Array,
    begin_id: int | Array,
    end_id: int | Array,
    max_length: int,
    beam_size: int = 1,
    length_penalty: float | Array = 0.6,
) -> tuple[Int[Array, "batch max_length"], Float[Array, " batch"]]:
    """Returns what a model with an encoder writes about each source, and its score; one compiled program.

    The encoder runs once, its outputs are projected once for each layer of the decoder, and each token is read once.

    Args:
      model: has `memorize`, `empty_cache` and `decode` as `Transformer` and `Captioner` have them.
      variables: of the model.
      source: what the encoder reads, the batch first.
      begin_id: the token with which every target begins; it is no part of the result.
      end_id: the token with which it ends; behind it the result is filled with it.
      max_length: most tokens that are written, the end's included.
      beam_size: see `beam_search`; 1: the likeliest token at each place.
      length_penalty: see `beam_search`.

    Raises:
      ValueError: the model cannot read such a source, or has learned positions for fewer than `max_length` tokens.
    """
    batch = len(source)
    memory, mask = model.apply(variables, source, method="memorize")
    memory, mask = select_examples((memory, mask), jnp.repeat(jnp.arange(batch), beam_size))

    def decode(tokens: Array, cache: Any) -> tuple[Array, Any]:
        logits, cache = model.apply(variables, tokens[:, None], memory, mask, cache, method="decode")
        return logits[:, 0], cache

    start = jnp.full(batch, begin_id, jnp.int32)
    return beam_search(
        decode, model.empty_cache(batch, max_length), start, end_id, max_length, beam_size, length_penalty
    )


def beam_search(
    decode: Decode,
    cache: Any,
    start: Int[Array, " batch"],
    end_id: int | Array,
    max_length: int,
    beam_size: int = 1,
    length_penalty: float | Array = 0.6,
) -> tuple[Int[Array, "batch max_length"], Float[Array, " batch"]]:
    """Returns the best sequence found for each example, and its score: log P(Y) / lp(Y), lp(Y) = ((5 + |Y|) / 6)^alpha.

    The `beam_size` likeliest beginnings of each example are continued by every token, and the likeliest of these are
    continued in turn. A continuation by `end_id` that is among them is a finished sequence Y; |Y| counts its tokens,
    `end_id` too. An example's search ends with `beam_size` finished ones, when what is not finished cannot become
    better than the best that is, or at `max_length` tokens, where beginnings count as sequences. With one beam this is
    greedy: the likeliest token at each place; with as many as there are sequences nothing better exists.

    Source: Wu et al., "Google's Neural Machine Translation System", arXiv:1609.08144, eq. 14, without its coverage.

    Args:
      decode: (last token of each beam, cache) -> (logits of the next, cache); an example's beams lie side by side.
      cache: what `decode` keeps of `batch` examples: arrays with the example as first axis, or objects with a method
        `select(examples)` such as `KeyValueCache`.
      start: the token that is read first; it is no part of the result.
      end_id: the token that ends a sequence; behind it the result is filled with it.
      max_length: most tokens of a sequence, the end's included.
      beam_size: beginnings that are kept of each example.
      length_penalty: alpha, 0 or more: 0 prefers short sequences, which have the greater probability.
    """
    batch, ranks = len(start), jnp.arange(2 * beam_size)
    examples = jnp.arange(batch)

    def penalised(log_probability: Array, length: Any) -> Array:
        return log_probability / ((5.0 + length) / 6.0) ** length_penalty

    def active(beams: _Beams) -> Array:
        attainable = penalised(beams.log_probability.max(axis=1), max_length)
        return (beams.finished < beam_size) & (beams.best_score < attainable)

    def step(beams: _Beams) -> _Beams:
        logits, cache = decode(beams.last.reshape(-1), beams.cache)
        log_probability = jax.nn.log_softmax(logits.astype(jnp.float32)).reshape(batch, beam_size, -1)
        vocab_size = log_probability.shape[-1]
        continued = (beams.log_probability[:, :, None] + log_probability).reshape(batch, -1)
        # Of twice as many at most half end, since each beam ends in one way.
        likeliest, places = jax.lax.top_k(continued, min(2 * beam_size, continued.shape[1]))
        origins, tokens = places // vocab_size, (places % vocab_size).astype(jnp.int32)
        ends, length = tokens == end_id, beams.length + 1

        counts = ends & (ranks[: tokens.shape[1]] < beam_size) & (likeliest > -jnp.inf) & active(beams)[:, None]
        scores = jnp.where(counts, penalised(likeliest, length), -jnp.inf)
        winner = scores.argmax(axis=1)
        score, origin = scores[examples, winner], origins[examples, winner]
        better = score > beams.best_score

        alive, kept = jax.lax.top_k(jnp.where(ends, -jnp.inf, likeliest), beam_size)
        origins, tokens = jnp.take_along_axis(origins, kept, axis=1), jnp.take_along_axis(tokens, kept, axis=1)
        return _Beams(
            length=length,
            tokens=beams.tokens[examples[:, None], origins].at[:, :, beams.length].set(tokens),
            last=tokens,
            log_probability=alive,
            cache=select_examples(cache, (examples[:, None] * beam_size + origins).reshape(-1)),
            # The place of its end is filled with `end_id` already.
            best=jnp.where(better[:, None], beams.tokens[examples, origin], beams.best),
            best_score=jnp.where(better, score, beams.best_score),
            finished=beams.finished + counts.sum(axis=1),
        )

    first = _Beams(
        length=jnp.int32(0),
        tokens=jnp.full((batch, beam_size, max_length), end_id, jnp.int32),
        last=jnp.repeat(start[:, None], beam_size, axis=1),
        # The beams begin alike: one of them is enough.
        log_probability=jnp.where(jnp.arange(beam_size) == 0, 0.0, jnp.full((batch, beam_size), -jnp.inf)),
        cache=select_examples(cache, jnp.repeat(examples, beam_size)),
        best=jnp.full((batch, max_length), end_id, jnp.int32),
        best_score=jnp.full(batch, -jnp.inf),
        finished=jnp.zeros(batch, jnp.int32),
    )
    last = jax.lax.while_loop(lambda beams: (beams.length < max_length) & active(beams).any(), step, first)
    unfinished = penalised(last.log_probability[:, 0], max_length)
    better = active(last) & (unfinished > last.best_score)
    return jnp.where(better[:, None], last.tokens[:, 0], last.best), jnp.where(better, unfinished, last.best_score)


@flax.struct.dataclass
class _Beams:
    length: Int[Array, ""]
    tokens: Int[Array, "batch beam max_length"]
    last: Int[Array, "batch beam"]
    log_probability: Float[Array, "batch beam"]
    cache: Any
    best: Int[Array, "batch max_length"]
    best_score: Float[Array, " batch"]
    finished: Int[Array, " batch"]
