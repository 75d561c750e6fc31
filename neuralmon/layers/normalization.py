"""Normalisation: each unit or channel brought to mean 0 and variance 1, then scaled and shifted.

Linen's layers with the settings that all models share, and with the exact variance: the fast one, mean of squares minus
squared mean, loses digits.
"""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from neuralmon.fields import Dtype
from neuralmon.layers.initializers import Initializer, ones


class BatchNorm(nn.BatchNorm):
    """Linen's batch normalisation, whose running statistics keep their type.

    Linen's would take that of the batch's, so that in float64 a step would not end with what it began with.
    """

    @nn.nowrap  # so that Linen's is seen as the call, once
    def __call__(
        self, x: Float[Array, "batch *spatial channels"], use_running_average: bool | None = None, *, mask: Any = None
    ) -> Float[Array, "batch *spatial channels"]:
        """See `flax.linen.BatchNorm`."""
        before = dict(self.variables.get("batch_stats", {}))
        outputs = super().__call__(x, use_running_average, mask=mask)
        if self.is_mutable_collection("batch_stats"):
            for name, old in before.items():
                self.put_variable("batch_stats", name, self.get_variable("batch_stats", name).astype(old.dtype))
        return outputs


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
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=False,
        scale_init=scale_init,
        name=name,
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
