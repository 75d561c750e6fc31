"""MNIST, shipped with the package."""

import dataclasses
from importlib import resources
from typing import ClassVar

import numpy as np
from jaxtyping import Array

from neuralmon.data.images.files import read_images
from neuralmon.data.labelled import Facts, LabelledDataset

# Of all pixels of the 60,000 training images, divided by 255.
_MEAN, _STDDEV = 0.1307, 0.3081
_VALIDATION = 5_000
_COUNTS = (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949)
_VALIDATION_COUNTS = (489, 530, 493, 509, 499, 458, 482, 563, 494, 483)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mnist(LabelledDataset):
    """70,000 handwritten digits, 28 x 28 grey pixels: 55,000 for training, 5,000 for validation, 10,000 for the test.

    The validation split is the last 5,000 of the 60,000 published training images.

    Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits"; LeCun et al. 1998. The files' MD5 sums
    are the canonical ones (see `embedded/README.md`).

    Attributes:
      join_validation: train on all 60,000 training images, without a validation split: for a final run.
      pixel_range: what black and white are for the model, such as (-1, 1) for a generator that ends in tanh; None: all
        pixels together have mean 0 and variance 1.
    """

    join_validation: bool = False
    pixel_range: tuple[float, float] | None = None

    known_facts: ClassVar[bool] = True

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        counts = np.array(_COUNTS) - (0 if self.join_validation else np.array(_VALIDATION_COUNTS))
        validation = {} if self.join_validation else {"validation": _VALIDATION}
        return Facts(
            sizes={"train": int(counts.sum()), **validation, "test": 10_000},
            shape=(28, 28, 1),
            class_names=tuple("0123456789"),
            class_counts=tuple(counts.tolist()),
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        splits: dict[str, dict[str, np.ndarray]] = {}
        with (resources.files("neuralmon.data") / "embedded" / "mnist.npz").open("rb") as file, np.load(file) as arrays:
            for name in ("train", "test"):
                splits[name] = {
                    "inputs": arrays[f"{name}_images"][..., None],
                    "targets": arrays[f"{name}_labels"].astype(np.int32),
                }
        if not self.join_validation:
            published = splits.pop("train")
            splits["train"] = {name: array[:-_VALIDATION] for name, array in published.items()}
            splits["validation"] = {name: array[-_VALIDATION:] for name, array in published.items()}
        return splits

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns (names, images as stored) of an image, a folder of images or a .npy file: white digits on black."""
        return read_images(path, (28, 28, 1))

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs within `pixel_range`, or with the training images' mean 0 and variance 1."""
        if self.pixel_range is not None:
            black, white = self.pixel_range
            return black + (white - black) * inputs
        return (inputs - _MEAN) / _STDDEV
