"""Attention in C++: float32, on CPU, without a matrix of all queries and keys."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Mask = Bool[Array, "#batch #heads #query #key"]


def forward(
    query: Float[Array, "batch query heads dim"],
    key: Float[Array, "batch key heads dim"],
    value: Float[Array, "batch key heads value_dim"],
    mask: Mask | None = None,
) -> tuple[Float[Array, "batch query heads value_dim"], Float[Array, "batch heads query"]]:
    """Returns softmax(Q K^T / sqrt(dim)) V, and of each query the logarithm of the sum of its exponentials.

    Args:
      query: one vector for each place that asks.
      key: one vector for each place that may answer.
      value: what it answers.
      mask: True where a query may look; None: everywhere. A query that may look nowhere gets zeros, and minus
        infinity for the logarithm.

    Raises:
      TypeError: the arrays are not float32, or the mask is not Boolean.
    """
    mask = _checked(mask, query, key, value)
    batch, time, heads, _ = query.shape
    results = (_float32(batch, time, heads, value.shape[-1]), _float32(batch, heads, time))
    outputs, lse = jax.ffi.ffi_call("neuralmon_attention", results)(query, key, value, mask)
    return outputs, lse


def backward(
    query: Float[Array, "batch query heads dim"],
    key: Float[Array, "batch key heads dim"],
    value: Float[Array, "batch key heads value_dim"],
    mask: Mask | None,
    outputs: Float[Array, "batch query heads value_dim"],
    lse: Float[Array, "batch heads query"],
    gradient: Float[Array, "batch query heads value_dim"],
) -> tuple[
    Float[Array, "batch query heads dim"],
    Float[Array, "batch key heads dim"],
    Float[Array, "batch key heads value_dim"],
]:
    """Returns the gradients of query, key and value, by the gradient of `outputs` and what `forward` returned.

    The weights are computed anew from `lse` (Dao et al., "FlashAttention", NeurIPS 2022, section 3.1).

    Raises:
      TypeError: the arrays are not float32, or the mask is not Boolean.
    """
    mask = _checked(mask, query, key, value, outputs, lse, gradient)
    results = tuple(_float32(*array.shape) for array in (query, key, value))
    call = jax.ffi.ffi_call("neuralmon_attention_gradients", results)
    query_gradient, key_gradient, value_gradient = call(query, key, value, mask, outputs, lse, gradient)
    return query_gradient, key_gradient, value_gradient


def _checked(mask: Mask | None, *arrays: Array) -> Mask:
    mask = jnp.ones((1, 1, 1, 1), bool) if mask is None else mask
    types = [str(array.dtype) for array in (*arrays, mask)]
    if types != ["float32"] * len(arrays) + ["bool"]:
        raise TypeError(f"native attention is of float32 arrays and a Boolean mask, not {', '.join(types)}")
    return mask


def _float32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)
