"""MNIST, shipped with the package."""

import dataclasses
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.data import augment
from neuralmon.data.dataset import Batch, Spec
from neuralmon.fields import NonNegativeNumber

# Of all pixels of the 60,000 training images, divided by 255.
_MEAN, _STDDEV = 0.1307, 0.3081
_VALIDATION = 5_000


@dataclasses.dataclass(frozen=True)
class Mnist:
    """70,000 handwritten digits, 28 x 28 grey pixels: 55,000 for training, 5,000 for validation, 10,000 for the test.

    The validation split is the last 5,000 of the 60,000 published training images.

    Source: LeCun, Cortes & Burges, "The MNIST database of handwritten digits"; LeCun et al. 1998. The files' MD5 sums
    are the canonical ones (see `embedded/README.md`).

    Attributes:
      shift: training images are moved by up to so many pixels in either direction; None: not at all.
      join_validation: train on all 60,000 training images, without a validation split: for a final run.
    """

    shift: NonNegativeNumber | None = None
    join_validation: bool = False

    def spec(self) -> Spec:
        """See `Dataset.spec`."""
        train = (
            {"train": 60_000} if self.join_validation else {"train": 60_000 - _VALIDATION, "validation": _VALIDATION}
        )
        return Spec(
            features={
                "inputs": jax.ShapeDtypeStruct((28, 28, 1), np.uint8),
                "targets": jax.ShapeDtypeStruct((), np.int32),
            },
            sizes={**train, "test": 10_000},
            class_names=tuple("0123456789"),
        )

    def load(self) -> dict[str, dict[str, np.ndarray]]:
        """See `Dataset.load`."""
        splits: dict[str, dict[str, np.ndarray]] = {}
        with (resources.files("neuralmon.data") / "embedded" / "mnist.npz").open("rb") as file, np.load(file) as arrays:
            for name in ("train", "test"):
                splits[name] = {
                    "inputs": arrays[f"{name}_images"][..., None],
                    "targets": arrays[f"{name}_labels"].astype(np.int32),
                }
        if not self.join_validation:
            whole = splits.pop("train")
            splits["train"] = {name: array[:-_VALIDATION] for name, array in whole.items()}
            splits["validation"] = {name: array[-_VALIDATION:] for name, array in whole.items()}
        return splits

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """Returns inputs as float32 with the training images' mean 0 and variance 1 (see `Dataset.prepare`)."""
        images = batch["inputs"]
        if train and self.shift is not None:
            images = augment.shift(key, images, self.shift)
        return {**batch, "inputs": (images.astype(jnp.float32) / 255.0 - _MEAN) / _STDDEV}
