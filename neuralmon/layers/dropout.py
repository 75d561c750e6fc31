"""Dropout whose rate may be a traced number."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import FractionNumber


class Dropout(nn.Module):
    """Sets each element to zero with probability `rate` and divides the others by 1 - `rate`.

    `flax.linen.Dropout` compares its rate in Python, so a rate that is an argument of the compiled program fails there.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, 2014
    (in the inverted form, which leaves evaluation untouched).

    Attributes:
      rate: probability that an element is dropped, at 1 everything is zero; None: no dropout, and no cost.
    """

    rate: FractionNumber | None = 0.5

    @nn.compact
    def __call__(self, inputs: Float[Array, "..."], train: bool = False) -> Float[Array, "..."]:
        """Returns `inputs` unchanged unless `train`; consumes one key of the stream "dropout" when `train`."""
        if not train or self.rate is None:
            return inputs
        keep = 1.0 - jnp.asarray(self.rate, jnp.float32)
        mask = jax.random.bernoulli(self.make_rng("dropout"), keep, inputs.shape)
        scale = jnp.where(keep > 0, 1.0 / jnp.where(keep > 0, keep, 1.0), 0.0).astype(inputs.dtype)
        return jnp.where(mask, inputs * scale, jnp.zeros((), inputs.dtype))
