"""Long short-term memory over all steps: a loop of products, or one function that keeps the matrix in the cache."""

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from neuralmon.ops.native import available
from neuralmon.ops.native import lstm as native
from neuralmon.ops.native.choice import native_or_plain
from neuralmon.ops.reference import is_reference

State: TypeAlias = dict[str, Array]


def lstm(
    projected: Float[Array, "time batch 4*features"],
    matrix: Float[Array, "features 4*features"],
    state: State,
    reverse: bool = False,
) -> tuple[State, Float[Array, "time batch features"]]:
    """Returns the state after the last step, and the hidden states after all steps.

    With i, f, g, o the four parts of `projected` + h @ `matrix`, of the step and the hidden state h before it:

        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)

    Everything is float32 and CPU where the compiled part of the package does it: each thread then runs some examples'
    whole sequences.

    Args:
      projected: what the inputs contribute.
      matrix: what the hidden state is multiplied by.
      state: "hidden" and "cell" before the first step, each (batch, features).
      reverse: whether to run from the last step to the first.
    """
    operands = projected, matrix, state["hidden"], state["cell"]
    fast = available() and not is_reference() and native.covers(projected)
    if not fast or {array.dtype for array in operands} != {jnp.dtype(jnp.float32)}:
        last, (hidden, *_) = _scan(*operands, reverse=reverse)
        return last, hidden
    hidden, last_hidden, last_cell = _lstm(reverse, *operands)
    return {"hidden": last_hidden, "cell": last_cell}, hidden


def _step(state: State, projected: Array, product: Array) -> tuple[State, Array]:
    i, f, g, o = jnp.split(projected.astype(product.dtype) + product, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state["cell"] + i * g
    return {"hidden": o * jnp.tanh(c), "cell": c}, jnp.concatenate([i, f, g, o], axis=-1)


def _scan(
    projected: Array, matrix: Array, h: Array, c: Array, *, reverse: bool
) -> tuple[State, tuple[Array, Array, Array]]:
    """The last state; the hidden states, the cell states and the gates of all steps."""

    def body(state: State, projected: Array) -> tuple[State, tuple[Array, Array, Array]]:
        after, gates = _step(state, projected, state["hidden"] @ matrix)
        return after, (after["hidden"], after["cell"], gates)

    return lax.scan(body, {"hidden": h, "cell": c}, projected, reverse=reverse)


def _plain(*operands: Array, reverse: bool) -> tuple[Array, Array, Array]:
    return _scan(*operands, reverse=reverse)[1]


def _results(reverse: bool, hidden: Array, cell: Array) -> tuple[Array, Array, Array]:
    last = 0 if reverse else -1
    return hidden, hidden[last], cell[last]


def _plain_gradients(reverse: bool, operands: tuple[Array, ...], g: tuple[Array, ...]) -> tuple[Array, ...]:
    def results(*operands: Array) -> tuple[Array, ...]:
        return _results(reverse, *_plain(*operands, reverse=reverse)[:2])

    return jax.vjp(results, *operands)[1](g)


def _native_gradients(*arrays: Array, reverse: bool) -> tuple[Array, ...]:
    (_, matrix, h, c), (hidden, cell, gates), g = arrays[:4], arrays[4:7], arrays[7:]
    return native.backward(gates, hidden, cell, h, c, matrix, *g, reverse=reverse)


_steps = native_or_plain(
    "lstm",
    lambda projected, matrix, h, c, reverse: [
        *[h.update(shape=(projected.shape[0], *h.shape)) for _ in ("hidden", "cell")],
        projected,
    ],
    _plain,
    native.forward,
)
# Of the operands, what `_steps` made of them, and the gradients of `_results`.
_gradients = native_or_plain(
    "lstm_gradients",
    lambda *arrays, reverse: list(arrays[:4]),
    lambda *arrays, reverse: _plain_gradients(reverse, arrays[:4], arrays[7:]),
    _native_gradients,
)


# What the gradient of the gradient goes through.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _differentiable_steps(reverse: bool, *operands: Array) -> list[Array]:
    return _steps(*operands, reverse=reverse)


_differentiable_steps.defvjp(
    lambda reverse, *operands: (_steps(*operands, reverse=reverse), operands),
    lambda reverse, operands, g: jax.vjp(partial(_plain, reverse=reverse), *operands)[1](tuple(g)),
)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _differentiable_gradients(reverse: bool, operands: Any, kept: Any, g: Any) -> tuple[Array, ...]:
    return tuple(_gradients(*operands, *kept, *g, reverse=reverse))


def _second_gradients(reverse: bool, saved: Any, gs: Any) -> tuple[Any, ...]:
    operands, kept, g = saved
    d_operands, d_g = jax.vjp(partial(_plain_gradients, reverse), operands, g)[1](gs)
    return d_operands, jax.tree.map(jnp.zeros_like, kept), d_g


_differentiable_gradients.defvjp(
    lambda reverse, *saved: (tuple(_gradients(*saved[0], *saved[1], *saved[2], reverse=reverse)), saved),
    _second_gradients,
)


def _forward(reverse: bool, *operands: Array) -> tuple[Any, Any]:
    kept = _differentiable_steps(reverse, *operands)
    return _results(reverse, *kept[:2]), (operands, kept)


_lstm = jax.custom_vjp(lambda reverse, *operands: _forward(reverse, *operands)[0], nondiff_argnums=(0,))
_lstm.defvjp(_forward, lambda reverse, saved, g: _differentiable_gradients(reverse, *saved, g))
