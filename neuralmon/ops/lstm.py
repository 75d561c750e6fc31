"""Long short-term memory over all steps: a loop of products, or one function that keeps the matrix in the cache."""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from neuralmon.ops.native import available
from neuralmon.ops.native import lstm as native
from neuralmon.ops.native.choice import differentiable
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
    form = _lstm if fast and {array.dtype for array in operands} == {jnp.dtype(jnp.float32)} else _plain
    hidden, last_hidden, last_cell = form(*operands, reverse=reverse)
    return {"hidden": last_hidden, "cell": last_cell}, hidden


def _step(state: State, projected: Array, product: Array) -> State:
    i, f, g, o = jnp.split(projected.astype(product.dtype) + product, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * state["cell"] + i * g
    return {"hidden": o * jnp.tanh(c), "cell": c}


def _plain(projected: Array, matrix: Array, h: Array, c: Array, *, reverse: bool) -> tuple[Array, Array, Array]:
    def body(state: State, projected: Array) -> tuple[State, Array]:
        after = _step(state, projected, state["hidden"] @ matrix)
        return after, after["hidden"]

    last, hidden = lax.scan(body, {"hidden": h, "cell": c}, projected, reverse=reverse)
    return hidden, last["hidden"], last["cell"]


def _native(*operands: Array, reverse: bool) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    hidden, cell, gates = native.forward(*operands, reverse=reverse)
    last = 0 if reverse else -1
    return (hidden, hidden[last], cell[last]), (cell, gates)


def _native_gradients(operands: Any, results: Any, kept: Any, g: Any, *, reverse: bool) -> tuple[Array, ...]:
    (_, matrix, h, c), (hidden, _, _), (cell, gates) = operands, results, kept
    return native.backward(gates, hidden, cell, h, c, matrix, *g, reverse=reverse)


_lstm = differentiable("lstm", _plain, _native, _native_gradients)
