"""The product of a dense layer."""

import math
from typing import Any

import jax
from jax import lax

from neuralmon.ops.reference import is_reference


def dot_general(lhs: jax.Array, rhs: jax.Array, dimension_numbers: Any, *args: Any, **options: Any) -> jax.Array:
    """`jax.lax.dot_general`, for `nn.Dense(dot_general=ops.dot_general)`.

    A product of many places, `[*places, inputs]` with `[inputs, outputs]`, is done as one of two matrices: of more axes
    XLA:CPU makes transposed copies for the gradient of the weights. Everything else is handed to `jax.lax`.
    """
    dense = ((lhs.ndim - 1,), (0,)), ((), ())
    given = tuple(tuple(map(tuple, axes)) for axes in dimension_numbers)
    if is_reference() or lhs.ndim < 3 or rhs.ndim != 2 or given != dense:
        return lax.dot_general(lhs, rhs, dimension_numbers, *args, **options)
    rows = lhs.reshape(math.prod(lhs.shape[:-1]), lhs.shape[-1])
    product = lax.dot_general(rows, rhs, (((1,), (0,)), ((), ())), *args, **options)
    return product.reshape(*lhs.shape[:-1], rhs.shape[-1])
