"""The LSTM in C++: float32, on CPU, a few examples' whole sequences at a time."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def covers(projected: Float[Array, "time batch 4*features"]) -> bool:
    """Whether arrays of these sizes are for the native part: whole vectors, and a matrix that a cache can hold."""
    time, batch, columns = projected.shape
    return time > 0 and batch > 0 and columns % 64 == 0 and columns <= 4 * 512


def forward(
    projected: Float[Array, "time batch 4*features"],
    matrix: Float[Array, "features 4*features"],
    hidden_before: Float[Array, "batch features"],
    cell_before: Float[Array, "batch features"],
    *,
    reverse: bool = False,
) -> tuple[
    Float[Array, "time batch features"], Float[Array, "time batch features"], Float[Array, "time batch 4*features"]
]:
    """Returns the hidden states, the cell states and the gates after each step.

    Args:
      projected: what the inputs contribute to the input gate, the forget gate, the candidate and the output gate.
      matrix: what the hidden state before is multiplied by, of the same gates.
      hidden_before: before the first step.
      cell_before: before the first step.
      reverse: whether to run from the last step to the first.

    Raises:
      TypeError: the arrays are not float32.
      ValueError: `covers` says no, or the shapes do not fit.
    """
    time, batch, columns = projected.shape
    state = batch, columns // 4
    _check(
        (projected, (time, batch, columns)),
        *((matrix, (columns // 4, columns)), (hidden_before, state), (cell_before, state)),
    )
    results = _float32(time, *state), _float32(time, *state), _float32(time, batch, columns)
    call = jax.ffi.ffi_call("neuralmon_lstm", results)
    hidden, cell, gates = call(projected, matrix, hidden_before, cell_before, reverse=reverse)
    return hidden, cell, gates


def backward(
    gates: Float[Array, "time batch 4*features"],
    hidden: Float[Array, "time batch features"],
    cell: Float[Array, "time batch features"],
    hidden_before: Float[Array, "batch features"],
    cell_before: Float[Array, "batch features"],
    matrix: Float[Array, "features 4*features"],
    hidden_gradient: Float[Array, "time batch features"],
    last_hidden_gradient: Float[Array, "batch features"],
    last_cell_gradient: Float[Array, "batch features"],
    *,
    reverse: bool = False,
) -> tuple[
    Float[Array, "time batch 4*features"],
    Float[Array, "features 4*features"],
    Float[Array, "batch features"],
    Float[Array, "batch features"],
]:
    """Returns the gradients of all that `forward` was given, in its order.

    Args:
      gates: what `forward` returned.
      hidden: what `forward` returned.
      cell: what `forward` returned.
      hidden_before: as given to `forward`.
      cell_before: as given to `forward`.
      matrix: as given to `forward`.
      hidden_gradient: gradient of the hidden states after each step.
      last_hidden_gradient: what is to be added to it of the hidden state after the last step.
      last_cell_gradient: gradient of the cell state after the last step.
      reverse: as given to `forward`.

    Raises:
      TypeError: the arrays are not float32.
      ValueError: `covers` says no, or the shapes do not fit.
    """
    time, batch, columns = gates.shape
    state = batch, columns // 4
    _check(
        (gates, (time, batch, columns)),
        *((matrix, (columns // 4, columns)), (hidden_gradient, (time, *state))),
        *((array, (time, *state)) for array in (hidden, cell)),
        *((array, state) for array in (hidden_before, cell_before, last_hidden_gradient, last_cell_gradient)),
    )
    results = tuple(_float32(*shape) for shape in ((time, batch, columns), matrix.shape, state, state))
    call = jax.ffi.ffi_call("neuralmon_lstm_gradients", results)
    given = gates, hidden, cell, hidden_before, cell_before, matrix
    d_projected, d_matrix, d_hidden, d_cell = call(
        *given, hidden_gradient, last_hidden_gradient, last_cell_gradient, reverse=reverse
    )
    return d_projected, d_matrix, d_hidden, d_cell


def _check(*arrays: tuple[Array, tuple[int, ...]]) -> None:
    types = {str(array.dtype) for array, _ in arrays}
    if types != {"float32"}:
        raise TypeError(f"the native LSTM is of float32 arrays, not {', '.join(sorted(types))}")
    if not covers(arrays[0][0]) or any(array.shape != shape for array, shape in arrays):
        raise ValueError(f"the native LSTM is not of shapes {', '.join(str(array.shape) for array, _ in arrays)}")


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
