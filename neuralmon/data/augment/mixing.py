"""Mixtures of two examples of a batch.

The first example of the batch makes a pair with the last, the second with the last but one, and so on: batches come
shuffled, so who is paired is chance already. The two of a pair share one draw and each becomes a mixture of both. So
both targets keep the whole weight of their examples, however unequal (`class_weights`), and half as much is drawn.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.data.augment.base import Augmentation, floats_of, images_of
from neuralmon.data.augment.corruption import rectangles
from neuralmon.data.dataset import Batch
from neuralmon.errors import RequestError
from neuralmon.fields import NonNegativeNumber

# Of so small an alpha the share is 0 or 1 to float32, and of much smaller ones it would be 0/0.
_SMALLEST_ALPHA = 1e-3


@dataclasses.dataclass(frozen=True)
class Mixup(Augmentation):
    """Takes the weighted mean of two examples (Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018).

    Inputs x and y become share * x + (1 - share) * y, with share ~ Beta(alpha, alpha) for each pair of examples; the
    targets' weights are divided in the same way. Inputs of any shape.

    Attributes:
      alpha: 0: nothing is mixed; 1: all shares are equally probable; the more, the nearer to halves.
    """

    alpha: NonNegativeNumber = 0.2

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        inputs = floats_of(self, batch)
        size = len(inputs)
        share = beta(key, self.alpha, (size + 1) // 2)[_pair(size)]
        own = share.reshape(-1, *[1] * (inputs.ndim - 1)).astype(inputs.dtype)
        return _mixture(self, batch, own * inputs + (1 - own) * inputs[_partner(size)], share)


@dataclasses.dataclass(frozen=True)
class CutMix(Augmentation):
    """Puts a rectangle of one image into another (Yun et al., "CutMix", ICCV 2019).

    The rectangle is at the same place in both. Its sides are sqrt(1 - share) of the image's, with share ~ Beta(alpha,
    alpha) for each pair of examples; it is cut to the image, and the targets' weights are divided as the area is then.

    Attributes:
      alpha: 0: nothing is mixed; 1: all areas are equally probable; the more, the nearer to halves.
    """

    alpha: NonNegativeNumber = 1.0

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        images = images_of(self, batch)
        size, height, width, _ = images.shape
        share = beta(key, self.alpha, (size + 1) // 2)
        sides = jnp.sqrt(1 - share) * jnp.asarray([[height], [width]], jnp.float32)
        inside = rectangles(jax.random.fold_in(key, 3), sides, height, width)[_pair(size)]
        share = 1 - inside.sum(axis=(1, 2)).astype(jnp.float32) / (height * width)
        return _mixture(self, batch, jnp.where(inside[..., None], images[_partner(size)], images), share)


def beta(key: Array, alpha: float | Array, count: int) -> Float[Array, " count"]:
    """Draws from Beta(alpha, alpha); 1 where alpha is 0. `alpha` may be traced."""
    alpha = jnp.asarray(alpha, jnp.float32)
    shape = jnp.maximum(alpha, _SMALLEST_ALPHA)
    # `fold_in(key, 1)` may be the next augmentation's key, and it is also what splitting the key here would give.
    drawn = jax.random.beta(jax.random.fold_in(key, 2), shape, shape, (count,))
    return jnp.where(alpha > 0, drawn, 1.0)


def _partner(size: int) -> Array:
    return jnp.arange(size)[::-1]


def _pair(size: int) -> Array:
    return jnp.minimum(jnp.arange(size), _partner(size))


def _mixture(augmentation: Augmentation, batch: Batch, inputs: Array, share: Float[Array, " batch"]) -> Batch:
    name = type(augmentation).__name__
    if "second_targets" in batch:
        raise RequestError(
            f"dataset.augment: {name} cannot mix examples that are mixtures already; take one of Mixup and CutMix"
        )
    if "targets" not in batch:
        raise RequestError(f"dataset.augment: {name} mixes targets, and this data has none: leave it out for this data")
    partner, weights, targets = _partner(len(share)), jnp.asarray(batch["weights"]), jnp.asarray(batch["targets"])
    return {
        **batch,
        "inputs": inputs,
        "weights": weights * share,
        "second_targets": targets[partner],
        "second_weights": weights[partner] * (1 - share),
    }
