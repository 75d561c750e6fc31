"""Scaled dot-product attention: as two products with a softmax between them, or in one pass that keeps no weights."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon.ops.native import attention as native
from neuralmon.ops.native import available
from neuralmon.ops.native.choice import differentiable
from neuralmon.ops.reference import is_reference


def attention(
    query: Float[Array, "batch query heads dim"],
    key: Float[Array, "batch key heads dim"],
    value: Float[Array, "batch key heads value_dim"],
    mask: Bool[Array, "#batch #heads #query key"] | None = None,
) -> Float[Array, "batch query heads value_dim"]:
    """Returns softmax(Q K^T / sqrt(dim)) V: what each query takes from all values (Vaswani et al. 2017, eq. 1).

    Arguments and errors are those of `attention_weights`. In float32 on CPU, where the compiled part of the package is
    there, the weights never leave the cache: outputs and gradients are computed block by block (Dao et al.,
    "FlashAttention", NeurIPS 2022).
    """
    if value.shape[:3] != key.shape[:3]:
        what = f"values (batch, time, heads, dim) {value.shape} do not fit keys {key.shape}"
        raise ValueError(f"attention: {what}: they may differ in their dim only")
    types = {query.dtype, key.dtype, value.dtype}
    if is_reference() or not available() or types != {jnp.dtype(jnp.float32)}:
        return _plain(query, key, value, mask)
    _check(query, key, mask)
    (outputs,) = _attention(query, key, value, mask)
    return outputs


def _plain(query: Array, key: Array, value: Array, mask: Array | None) -> Array:
    weights = attention_weights(query, key, mask)
    return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)


def _native(*operands: Array) -> tuple[tuple[Array], tuple[Array]]:
    outputs, logarithms = native.forward(*operands)
    return (outputs,), (logarithms,)


_attention = differentiable(
    "attention",
    lambda *operands: (_plain(*operands),),
    _native,
    lambda operands, results, kept, g: (*native.backward(*operands, *results, *kept, *g), None),
)


def attention_weights(
    query: Float[Array, "batch query heads dim"],
    key: Float[Array, "batch key heads dim"],
    mask: Bool[Array, "#batch #heads #query key"] | None = None,
) -> Float[Array, "batch heads query key"]:
    """Returns softmax(Q K^T / sqrt(dim)): how much each query takes from each key (Vaswani et al. 2017, eq. 1).

    Args:
      query: one vector for each place that asks.
      key: one vector for each place that may answer.
      mask: True where a query may look; None: everywhere. A query that may look nowhere gets zeros.

    The weights are computed in float32 at least, whatever the type of the inputs.

    Raises:
      ValueError: queries and keys differ in more than their number, or the mask is not such a mask. Nothing of it is
        broadcast but what the shapes above mark by #.
    """
    _check(query, key, mask)
    precise = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=precise) * query.shape[-1] ** -0.5
    if mask is None:
        return jax.nn.softmax(scores)
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(precise).min))
    return jnp.where(mask, weights, 0)


def _check(query: Array, key: Array, mask: Array | None) -> None:
    shape = (query.shape[0], query.shape[2], query.shape[1], key.shape[1])
    if (*query.shape[:1], *query.shape[2:]) != (*key.shape[:1], *key.shape[2:]):
        what = f"queries (batch, time, heads, dim) {query.shape} do not fit keys {key.shape}"
        raise ValueError(f"attention: {what}: they may differ in their time only")
    if mask is not None:
        fits = mask.ndim == 4 and all(own in (1, full) for own, full in zip(mask.shape, shape, strict=True))
        if not fits or mask.dtype != bool:
            what = f"{shape} (batch, heads, query, key), each of them or 1"
            raise ValueError(f"an attention mask is Boolean of shape {what}, not {mask.dtype} of shape {mask.shape}")
