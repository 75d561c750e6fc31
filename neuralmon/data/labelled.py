"""What all datasets of inputs with targets share: facts found in the data, augmentation, unequal classes, streaming."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.data.augment import Augmentation
from neuralmon.data.dataset import Batch, Rows, Spec, whole
from neuralmon.errors import RequestError

# Leads from an augmentation's key to the next one's: no number that an augmentation would fold in itself.
_NEXT = 0x6E65_7874


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableColumn:
    """A column of a table.

    Attributes:
      name: as in the table's head.
      categories: its words, sorted, if it holds words; () if it holds numbers.
      mean: mean of its numbers over the training rows.
      stddev: their standard deviation; 1 if they are all the same.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    stddev: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What only the data can decide. It is found once and recorded with the run, so that a folder tells all of it.

    Attributes:
      sizes: number of examples of each split, as they lie there.
      shape: shape of one example's inputs as stored.
      dtype: type of the inputs as stored.
      target_shape: shape of one example's targets.
      target_dtype: type of the targets.
      class_names: names of the classes in the order of their numbers; () where the targets are no classes.
      class_counts: number of training examples of each class.
      target_mean: mean of each numeric target over the training examples.
      target_stddev: their standard deviations.
      columns: the columns of a table that make the inputs, in order.
      fingerprint: a hash over what the data is made of, by which another content is noticed.
    """

    sizes: Mapping[str, int]
    shape: tuple[int, ...]
    dtype: str = "uint8"
    target_shape: tuple[int, ...] = ()
    target_dtype: str = "int32"
    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_stddev: tuple[float, ...] = ()
    columns: tuple[TableColumn, ...] = ()
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledDataset(abc.ABC):
    """Inputs with targets. A subclass says what it finds in the data (`examine`) and where the examples are (`read`).

    Attributes:
      augment: what is done to training batches, in this order: (Shift(2), Flip()).
      class_weights: factor of the loss of each class's training examples: a number for each class in their order, or
        "balanced": inversely proportional to how often a class occurs; None: all alike.
      balanced_sampling: an epoch has as many examples of each class as of the most frequent one, the others' repeated.
      pipeline: "device": all examples live on the device and batches are gathered there; "stream": batches are read
        while training goes on, in the same order; "auto": stream what is larger than a quarter of the memory.
      facts: what only the data can decide; leave it out, it is filled in.
    """

    augment: tuple[Augmentation, ...] = ()
    class_weights: tuple[float, ...] | Literal["balanced"] | None = None
    balanced_sampling: bool = False
    pipeline: Literal["auto", "device", "stream"] = "auto"
    facts: Facts | None = None

    # Whether `examine` says the same on every machine, as for data that is part of the package: nothing to record.
    known_facts: ClassVar[bool] = False

    @abc.abstractmethod
    def examine(self) -> Facts:
        """Finds out what only the data can decide, and refuses with a RequestError what is wrong with it."""

    @abc.abstractmethod
    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """Returns the columns "inputs" and "targets" of every split, as the facts say. Called on a resolved dataset."""

    def to_float(self, inputs: Array) -> Array:
        """Returns stored inputs as float32: bytes become 0 to 1, on which most augmentations work; floats stay."""
        return inputs.astype(jnp.float32) / 255.0 if inputs.dtype == jnp.uint8 else inputs.astype(jnp.float32)

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs, after augmentation, as the model takes them."""
        return inputs

    def resolve(self) -> "LabelledDataset":
        """See `Dataset`."""
        if self.facts is not None:
            return self
        facts = self.examine()
        classes, weights = len(facts.class_counts), self.class_weights
        if not classes and (self.balanced_sampling or weights is not None):
            field = "balanced_sampling" if self.balanced_sampling else "class_weights"
            why = "it does not count them (Facts.class_counts)" if facts.class_names else "its targets are no classes"
            raise RequestError(f"dataset.{field} does not fit this data: {why}")
        if self.balanced_sampling and weights == "balanced":
            raise RequestError("dataset: balanced_sampling and class_weights=balanced do the same: give one of them")
        if isinstance(weights, tuple) and len(weights) != classes:
            what = f"dataset.class_weights: {len(weights)} weights for {classes} classes"
            raise RequestError(f"{what} ({', '.join(facts.class_names[:20])}); give one for each, or balanced")
        if isinstance(weights, tuple) and min(weights) < 0:
            raise RequestError(f"dataset.class_weights: {min(weights):g} is below 0; allowed is 0 or more")
        return self if self.known_facts else dataclasses.replace(self, facts=facts)

    def spec(self) -> Spec:
        """See `Dataset.spec`."""
        facts = self._facts()
        sizes = dict(facts.sizes)
        if self.balanced_sampling:
            sizes["train"] = max(facts.class_counts) * sum(count > 0 for count in facts.class_counts)
        return Spec(
            features={
                "inputs": jax.ShapeDtypeStruct(facts.shape, np.dtype(facts.dtype)),
                "targets": jax.ShapeDtypeStruct(facts.target_shape, np.dtype(facts.target_dtype)),
            },
            sizes=sizes,
            class_names=facts.class_names,
            target_mean=facts.target_mean,
            target_stddev=facts.target_stddev,
        )

    def load(self) -> dict[str, dict[str, Any]]:
        """See `Dataset.load`."""
        splits = {name: dict(columns) for name, columns in self.read().items()}
        if self.balanced_sampling:
            rows = balanced_rows(whole(splits["train"]["targets"]))
            splits["train"] = {name: Rows(column, rows) for name, column in splits["train"].items()}
        return splits

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """See `Dataset.prepare`."""
        facts = self._facts()
        batch = dict(batch)
        if "targets" in batch and facts.target_stddev:
            mean, stddev = (np.reshape(x, facts.target_shape) for x in (facts.target_mean, facts.target_stddev))
            batch["targets"] = ((batch["targets"] - mean) / stddev).astype(jnp.float32)
        if train:
            if self.class_weights is not None:
                factors = jnp.asarray(self._class_factors(), jnp.float32)
                batch["weights"] = batch["weights"] * factors[batch["targets"]]
            for augmentation in self.augment:
                if not augmentation.takes_bytes:
                    batch["inputs"] = self.to_float(batch["inputs"])
                batch = dict(augmentation(key, batch))
                key = jax.random.fold_in(key, _NEXT)
        return {**batch, "inputs": self.normalize(self.to_float(batch["inputs"]))}

    def _facts(self) -> Facts:
        return self.facts or self.examine()

    def _class_factors(self) -> tuple[float, ...]:
        counts = self._facts().class_counts
        if isinstance(self.class_weights, tuple):
            return self.class_weights
        occurring = sum(count > 0 for count in counts)
        return tuple(sum(counts) / (occurring * count) if count else 0.0 for count in counts)


def balanced_rows(targets: np.ndarray) -> np.ndarray:
    """Returns row numbers among which each class that occurs is as frequent as the most frequent one in `targets`."""
    members = [np.flatnonzero(targets == value) for value in np.unique(targets)]
    return np.concatenate([np.resize(rows, max(map(len, members))) for rows in members])
