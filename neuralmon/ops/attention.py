"""Scaled dot-product attention."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


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
    """
    precise = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=precise) * query.shape[-1] ** -0.5
    if mask is None:
        return jax.nn.softmax(scores)
    weights = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(precise).min))
    return jnp.where(mask, weights, 0)
