"""The running average of the parameters, which often does better on new data than the parameters themselves."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Tree = Any


def averaged(decay: Float[Array, ""] | float, step: Int[Array, ""] | int, average: Tree, params: Tree) -> Tree:
    """Returns the average after one more update: average + (1 - d) (params - average).

    d = min(decay, (1 + step) / (10 + step)) is small at first, so that the initial parameters are soon forgotten.

    Source: Polyak & Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the rule for d is that of
    TensorFlow's `ExponentialMovingAverage` with `num_updates`.

    Args:
      decay: what the average keeps of itself at each update, 0 to 1, such as 0.999; may be traced.
      step: the update's number, counted from 0; may be traced.
      average: the average so far; before the first update, the initial parameters.
      params: the parameters after the update, a tree like `average`.
    """
    count = jnp.asarray(step, jnp.float32)
    gain = 1.0 - jnp.minimum(jnp.asarray(decay, jnp.float32), (1.0 + count) / (10.0 + count))
    return jax.tree.map(lambda old, new: old + gain.astype(old.dtype) * (new - old), average, params)
