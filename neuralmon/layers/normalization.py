"""Normalisation: each unit or channel brought to mean 0 and variance 1, then scaled and shifted.

Linen's layers with the settings that all models share, and with the exact variance: the fast one, mean of squares minus
squared mean, loses digits.
"""

import flax.linen as nn

from neuralmon.fields import Dtype
from neuralmon.layers.initializers import Initializer, ones


def batch_norm(
    train: bool,
    dtype: Dtype,
    name: str | None = None,
    *,
    momentum: float = 0.9,
    epsilon: float = 1e-5,
    scale_init: Initializer = ones,
) -> nn.BatchNorm:
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
    return nn.BatchNorm(
        use_running_average=not train,
        momentum=momentum,
        epsilon=epsilon,
        dtype=dtype,
        use_fast_variance=False,
        scale_init=scale_init,
        name=name,
    )
