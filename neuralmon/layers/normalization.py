"""Normalisation: each unit or channel brought to mean 0 and variance 1, then scaled and shifted.

With the settings that all models share, and with the exact variance: the fast one, mean of squares minus squared mean,
loses digits.
"""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon import ops
from neuralmon.fields import Dtype
from neuralmon.layers.initializers import Initializer, ones, zeros


class BatchNorm(nn.Module):
    """Batch normalisation of the last axis, fast on CPU, with the variables of Linen's.

    The running statistics keep their type. Linen's take that of the batch's, so that in float64 a step would not end
    with what it began with.

    Attributes:
      use_running_average: whether the running statistics normalise, and stay as they are, instead of the batch's.
      momentum: share of the running statistics that each training step keeps.
      epsilon: what is added to the variance.
      dtype: type of the outputs.
      scale_init: initialiser of the scale.
      bias_init: initialiser of the bias.
    """

    use_running_average: bool | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: Dtype = jnp.float32
    scale_init: Initializer = ones
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch *spatial channels"],
        use_running_average: bool | None = None,
        *,
        mask: Bool[Array, "..."] | None = None,
    ) -> Float[Array, "batch *spatial channels"]:
        """Returns `x` normalised; what `mask` has as False does not count in the batch's statistics."""
        average = nn.merge_param("use_running_average", self.use_running_average, use_running_average)
        channels = x.shape[-1:]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", self.scale_init, channels, jnp.float32)
        bias = self.param("bias", self.bias_init, channels, jnp.float32)

        x = x.astype(jnp.promote_types(self.dtype, jnp.float32))
        mean, variance = running_mean.value, running_variance.value
        if not average:
            mean, variance = ops.moments(x, mask)
            if not self.is_initializing():
                for running, batch in ((running_mean, mean), (running_variance, variance)):
                    moved = self.momentum * running.value + (1 - self.momentum) * batch
                    running.value = moved.astype(running.value.dtype)
        return ops.normalise(x, mean, variance, scale, bias, self.epsilon).astype(self.dtype)


def batch_norm(
    train: bool,
    dtype: Dtype,
    name: str | None = None,
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    scale_init: Initializer = ones,
) -> BatchNorm:
    """Returns batch normalisation: over all axes of (batch, ..., channels) but the last.

    The defaults are PyTorch's, which calls 1 - `momentum` the momentum; the running variance is, as in Flax, that of
    the batches themselves, where PyTorch's is n / (n - 1) times as large. Parameters and statistics are float32.

    Source: Ioffe & Szegedy, "Batch Normalization", ICML 2015, algorithms 1 and 2.

    Args:
      train: whether the batch's statistics normalise, and move the running ones in "batch_stats"; else those do.
      dtype: type of the outputs.
      name: name of the layer.
      momentum: share of the running statistics that each training step keeps.
      epsilon: what is added to the variance.
      scale_init: initialiser of the scale.
    """
    return BatchNorm(
        use_running_average=not train, momentum=momentum, epsilon=epsilon, dtype=dtype, scale_init=scale_init, name=name
    )


def layer_norm(epsilon: float, dtype: Dtype, name: str | None = None) -> nn.LayerNorm:
    """Returns layer normalisation: over the last axis, each example and place by itself, in float32 at least.

    Source: Ba, Kiros & Hinton, "Layer Normalization", arXiv:1607.06450, 2016, eq. 4.

    Args:
      epsilon: what is added to the variance.
      dtype: type of the outputs.
      name: name of the layer.
    """
    return nn.LayerNorm(epsilon, dtype=dtype, use_fast_variance=False, name=name)
