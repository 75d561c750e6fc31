"""MNIST's digits as sequences: what a recurrent network sees of an image is one row, or one pixel, at a time."""

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data.mnist import Mnist
from neuralmon.fields import NonNegativeInt

_SIDE = 28


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialMnist(Mnist):
    """MNIST row by row, 28 steps of 28 pixels, or pixel by pixel, 784 steps of one, from the top left.

    Images are stored, augmented and predicted as those of `Mnist`; only then they become (28, 28) or (784, 1). In the
    permuted task the pixels come in an order drawn at random, the same for all images, so that what belongs together
    lies far apart.

    Source: Le, Jaitly & Hinton, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units", 2015
    (arXiv:1504.00941), sec. 4.2.

    Attributes:
      step: what a step of the sequence is: "row" or "pixel".
      permutation: seed of the order of the pixels; None: the order in which one reads.
    """

    step: Literal["row", "pixel"] = "row"
    permutation: NonNegativeInt | None = None

    def order(self) -> np.ndarray:
        """Returns the pixels (784,), numbered row by row, in the order in which they come."""
        pixels = np.arange(_SIDE * _SIDE)
        if self.permutation is None:
            return pixels
        # Of NumPy's generators only the bits are the same in all its versions.
        return np.argsort(np.random.PCG64(self.permutation).random_raw(pixels.size), kind="stable")

    def normalize(self, inputs: Float[Array, "batch 28 28 1"]) -> Float[Array, "batch time pixels"]:
        """Returns the sequences, with the training images' mean 0 and variance 1."""
        pixels = super().normalize(inputs).reshape(-1, _SIDE * _SIDE)
        if self.permutation is not None:
            pixels = jnp.take(pixels, jnp.asarray(self.order()), axis=1)
        return pixels.reshape(-1, *((_SIDE, _SIDE) if self.step == "row" else (_SIDE * _SIDE, 1)))
