"""MNIST, shipped with the package."""

import dataclasses
from importlib import resources
from typing import Annotated, ClassVar, TypeAlias

import numpy as np
from jaxtyping import Array

from neuralmon.data.images.files import read_images
from neuralmon.data.labelled import Facts, LabelledDataset
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt, Range

# Of all pixels of the 60,000 training images, divided by 255.
_MEAN, _STDDEV = 0.1307, 0.3081
_VALIDATION = 5_000
_COUNTS = (5_923, 6_742, 5_958, 6_131, 5_842, 5_421, 5_918, 6_265, 5_851, 5_949)
_VALIDATION_COUNTS = (489, 530, 493, 509, 499, 458, 482, 563, 494, 483)
_TEST_COUNTS = (980, 1_135, 1_032, 1_010, 982, 892, 958, 1_028, 974, 1_009)

Digit: TypeAlias = Annotated[int, Range(0, 9)]


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
      classes: the digits that there are, numbered in this order; those of other digits are left out in every split.
      examples: how many training images of each digit are taken, the first ones; None: all.
    """

    join_validation: bool = False
    pixel_range: tuple[float, float] | None = None
    classes: tuple[Digit, ...] = tuple(range(10))
    examples: PositiveInt | None = None

    known_facts: ClassVar[bool] = True

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        classes = list(self.classes)
        if len(set(classes)) != len(classes) or len(classes) < 2:
            raise RequestError(f"dataset.classes: {self.classes}; give two different digits or more, each once")
        joined, validation, test = (np.array(counts)[classes] for counts in (_COUNTS, _VALIDATION_COUNTS, _TEST_COUNTS))
        train = joined if self.join_validation else joined - validation
        if self.examples and self.examples > train.min():
            fewest = f"{classes[train.argmin()]} has {train.min():,}"
            raise RequestError(f"dataset.examples: {self.examples:,} is more than there are of each digit: {fewest}")
        train = train if self.examples is None else np.full_like(train, self.examples)
        sizes = {"train": train, **({} if self.join_validation else {"validation": validation}), "test": test}
        return Facts(
            sizes={name: int(counts.sum()) for name, counts in sizes.items()},
            shape=(28, 28, 1),
            class_names=tuple(map(str, classes)),
            class_counts=tuple(train.tolist()),
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
        return {name: self._chosen(columns, name) for name, columns in splits.items()}

    def _chosen(self, columns: dict[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
        """Returns the images of `classes` with their numbers, and of them the first `examples` of each to train on."""
        first = self.examples if split == "train" else None
        if self.classes == tuple(range(10)) and first is None:
            return columns
        numbers = np.full(10, -1, np.int32)
        numbers[list(self.classes)] = np.arange(len(self.classes))
        targets = numbers[columns["targets"]]
        rows = np.sort(np.concatenate([np.flatnonzero(targets == one)[:first] for one in range(len(self.classes))]))
        return {"inputs": columns["inputs"][rows], "targets": targets[rows]}

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns (names, images as stored) of an image, a folder of images or a .npy file: white digits on black."""
        return read_images(path, (28, 28, 1))

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs within `pixel_range`, or with the training images' mean 0 and variance 1."""
        if self.pixel_range is not None:
            black, white = self.pixel_range
            return black + (white - black) * inputs
        return (inputs - _MEAN) / _STDDEV
