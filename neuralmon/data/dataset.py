"""The contract of a dataset."""

import dataclasses
from collections.abc import Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array

# `inputs`, `targets` and `weights` (0 = padding), each with the batch as its first axis.
Batch: TypeAlias = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a dataset before it is read.

    Attributes:
      features: shape and dtype of one example's features as stored, without a batch axis.
      sizes: number of examples of each split: "train", and any of "validation" and "test".
      class_names: names of the classes in the order of their numbers; () where the targets are no classes.
    """

    features: Mapping[str, jax.ShapeDtypeStruct]
    sizes: Mapping[str, int]
    class_names: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None."""
        return len(self.class_names) or None

    def model_sizes(self) -> dict[str, int]:
        """Returns the sizes that a model may leave to the data by saying None."""
        return {} if self.num_classes is None else {"num_classes": self.num_classes}

    def batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of a batch as stored, `weights` (batch,) float32 included."""
        features = {
            name: jax.ShapeDtypeStruct((batch_size, *feature.shape), feature.dtype)
            for name, feature in self.features.items()
        }
        return {**features, "weights": jax.ShapeDtypeStruct((batch_size,), np.float32)}


@runtime_checkable
class Dataset(Protocol):
    """What the examples are. Implementations are frozen dataclasses."""

    def spec(self) -> Spec:
        """Returns what is known without reading the data."""
        ...

    def load(self) -> Mapping[str, Mapping[str, np.ndarray]]:
        """Returns every split's features as stored, each with the examples as its first axis."""
        ...

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """Returns the batch as the model takes it: converted, normalised and, if `train`, augmented.

        Pure and traced: it runs inside the compiled step. `key` is used only if `train`.
        """
        ...
