"""What takes something away from an example: a hole, noise."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon.data.augment.base import Augmentation, floats_of, images_of
from neuralmon.data.dataset import Batch
from neuralmon.fields import FractionNumber, NonNegativeNumber


@dataclasses.dataclass(frozen=True)
class Cutout(Augmentation):
    """Paints one square over each image (DeVries & Taylor, "Improved Regularization of CNNs with Cutout", 2017).

    Its centre is any pixel of the image, so that it may lie partly outside.

    Attributes:
      pixels: side of the square; its fraction is dropped.
      fill: what it is painted with: 0 is black, as in a border; the paper paints the mean of the training images.
    """

    pixels: NonNegativeNumber = 8.0
    fill: FractionNumber = 0.0

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        images = images_of(self, batch)
        side = jnp.broadcast_to(jnp.asarray(self.pixels, jnp.float32), (2, len(images)))
        inside = rectangles(key, side, *images.shape[1:3])
        return {**batch, "inputs": jnp.where(inside[..., None], jnp.asarray(self.fill, images.dtype), images)}


@dataclasses.dataclass(frozen=True)
class Noise(Augmentation):
    """Adds independent normal noise to each number of the inputs, of any shape; it may lead out of 0 ... 1.

    Attributes:
      stddev: its standard deviation, in the inputs' units before normalisation.
    """

    stddev: NonNegativeNumber = 0.1

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        inputs = floats_of(self, batch)
        noise = jax.random.normal(key, inputs.shape, inputs.dtype)
        return {**batch, "inputs": inputs + jnp.asarray(self.stddev, inputs.dtype) * noise}


def rectangles(key: Array, sides: Float[Array, "2 n"], height: int, width: int) -> Bool[Array, "n height width"]:
    """Returns masks of rectangles of these heights and widths, each about any pixel and cut to the image."""
    random = jax.random.uniform(key, (2, sides.shape[1], 1))
    masks = []
    for size, side, place in zip((height, width), jnp.floor(sides)[:, :, None], random, strict=True):
        start = jnp.minimum(jnp.floor(place * size), size - 1) - jnp.floor(side / 2)
        masks.append((jnp.arange(size) >= start) & (jnp.arange(size) < start + side))
    return masks[0][:, :, None] & masks[1][:, None, :]
