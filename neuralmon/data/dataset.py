"""The contract of a dataset."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array

from neuralmon.errors import RunError

# `inputs`, `targets` and `weights` (0 = padding), each with the batch as its first axis.
Batch: TypeAlias = Mapping[str, Array]


@runtime_checkable
class Column(Protocol):
    """One feature of all examples of a split: an array, a memory-mapped one, or what reads examples when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of examples, then one example's shape."""
        ...

    @property
    def dtype(self) -> np.dtype:
        """The type of the elements."""
        ...

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Returns the examples with these numbers, in this order."""
        ...


@dataclasses.dataclass(frozen=True)
class Rows:
    """Some rows of a column, in any order and as often as one likes: a column again, of which nothing is copied."""

    column: Any
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Column.shape`."""
        return (len(self.rows), *self.column.shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """See `Column.dtype`."""
        return np.dtype(self.column.dtype)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """See `Column.__getitem__`."""
        return np.asarray(self.column[self.rows[rows]])


def whole(column: Any) -> np.ndarray:
    """Returns all examples of a column, in memory."""
    return column if isinstance(column, np.ndarray) else np.asarray(column[np.arange(column.shape[0])])


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is known of a dataset before its examples are read.

    Attributes:
      features: shape and dtype of one example's features as stored, without a batch axis.
      sizes: number of examples of each split: "train", and any of "validation" and "test".
      class_names: names of the classes in the order of their numbers; () where the targets are no classes.
      target_mean: what `prepare` subtracts from numeric targets before they are divided by `target_stddev`, so that
        metrics and predictions can be given in the data's own units; one number for each target, or () for none.
      target_stddev: what `prepare` divides numeric targets by; as many as in `target_mean`.
      vocab_size: number of different tokens, where examples are made of tokens; None where they are not.
      source_vocab_size: number of different tokens of what a sequence is made from, where those have numbers of their
        own; None where they do not.
    """

    features: Mapping[str, jax.ShapeDtypeStruct]
    sizes: Mapping[str, int]
    class_names: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_stddev: tuple[float, ...] = ()
    vocab_size: int | None = None
    source_vocab_size: int | None = None

    @property
    def num_classes(self) -> int | None:
        """Number of classes, or None."""
        return len(self.class_names) or None

    def stored_bytes(self) -> int:
        """Returns how much memory all examples take as stored."""
        example = sum(math.prod(feature.shape) * feature.dtype.itemsize for feature in self.features.values())
        return example * sum(self.sizes.values())

    def batch(self, batch_size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Returns the shapes of a batch as stored, `weights` (batch,) float32 included."""
        features = {
            name: jax.ShapeDtypeStruct((batch_size, *feature.shape), feature.dtype)
            for name, feature in self.features.items()
        }
        return {**features, "weights": jax.ShapeDtypeStruct((batch_size,), np.float32)}


@runtime_checkable
class Dataset(Protocol):
    """What the examples are. Implementations are frozen dataclasses; for labelled ones see `LabelledDataset`.

    What a dataset may have beside these three methods:

    - `pipeline`, a field: "auto", "device" or "stream" (see `LabelledDataset`); without it, "auto".
    - `resolve()`, which returns the dataset with what only the data can decide filled in; called once, before the rest.
    - `read_inputs(path)`, which returns (names, inputs as stored) of new examples in a file or folder, for predictions.
    """

    def spec(self) -> Spec:
        """Returns what is known without reading the examples."""
        ...

    def load(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns every split's features as stored: arrays or other `Column`s.

        It opens what can be read a few examples at a time (files, memory-mapped arrays) rather than reading it: of a
        dataset that is streamed, only the examples of a few batches are in memory.
        """
        ...

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """Returns the batch as the model takes it: converted, normalised and, if `train`, augmented.

        Pure and traced: it runs inside the compiled step. `key` is used only if `train`. There are no targets in a
        batch that is to be predicted.
        """
        ...


def load_checked(dataset: Dataset) -> Mapping[str, Mapping[str, Any]]:
    """Returns what a dataset loads; what is not as its spec says is refused."""
    spec, splits = dataset.spec(), dataset.load()
    for split, size in spec.sizes.items():
        for name, feature in spec.features.items():
            expected, column = f"{feature.dtype}{[size, *feature.shape]}", splits.get(split, {}).get(name)
            found = "nothing" if column is None else f"{column.dtype}{list(column.shape)}"
            if found != expected:
                raise RunError(f"dataset: load() gave {found} as {name!r} of {split!r}, but spec() says {expected}")
    return splits
