"""Lines of handwritten digits, put together from MNIST's: something to read."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Array

from neuralmon.data.images.files import read_images
from neuralmon.data.labelled import Facts
from neuralmon.data.mnist import Mnist
from neuralmon.data.sequences.generated import GeneratedSequences
from neuralmon.fields import NonNegativeInt, PositiveInt

_SIDE = 28
_CLOSEST = 16  # pixels from the left edge of one digit to that of the next, at least; at most they lie side by side


@dataclasses.dataclass(frozen=True, kw_only=True)
class DigitStrings(GeneratedSequences):
    """Images (28, 28 * max_length, 1) of 1 to `max_length` digits, all lengths as likely; the targets are the digits.

    Targets are (max_length,) int32, the digits and behind them -1. A digit begins 16 to 28 pixels behind the one
    before, so that neighbours may touch or overlap, and the line begins anywhere it fits. Training strings are made of
    MNIST's training digits only, validation strings of its validation digits, test strings of its test digits: no
    writer of a test digit has been seen.

    Attributes:
      max_length: the most digits in a string.
    """

    max_length: PositiveInt = 5
    train_size: PositiveInt = 20_000
    validation_size: NonNegativeInt = 2_000
    test_size: NonNegativeInt = 5_000

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        return Facts(
            sizes=self.sizes,
            shape=(_SIDE, _SIDE * self.max_length, 1),
            class_names=tuple("0123456789"),
            target_shape=(self.max_length,),
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        digits = Mnist().read()
        return {name: self._draw(random, self.sizes[name], digits[name]) for name, random in self.generators().items()}

    def _draw(self, random: np.random.Generator, size: int, digits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        shape = size, self.max_length
        present = np.arange(self.max_length) < random.integers(1, self.max_length + 1, size)[:, None]
        chosen = random.integers(0, len(digits["targets"]), shape)
        advance = random.integers(_CLOSEST, _SIDE + 1, shape) * present
        # Of the room that is left behind the last digit, a random part is in front of the first.
        lefts = np.cumsum(advance, axis=1) - advance
        ends = (lefts + _SIDE * present).max(axis=1)
        lefts += random.integers(0, _SIDE * self.max_length - ends + 1)[:, None]
        images = np.zeros((size, _SIDE, _SIDE * self.max_length, 1), np.uint8)
        for row, place in np.argwhere(present):
            window = images[row, :, lefts[row, place] : lefts[row, place] + _SIDE]
            np.maximum(window, digits["inputs"][chosen[row, place]], out=window)
        return {"inputs": images, "targets": np.where(present, digits["targets"][chosen], -1).astype(np.int32)}

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns (names, images as stored) of an image, a folder of images or a .npy file: white digits on black."""
        return read_images(path, (_SIDE, _SIDE * self.max_length, 1))

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs of about mean 0 and variance 1."""
        return Mnist().normalize(inputs)
