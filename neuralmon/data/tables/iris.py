"""Fisher's irises, shipped with the package."""

import dataclasses
from importlib import resources
from typing import Literal

import numpy as np
from jaxtyping import Array

from neuralmon.data.labelled import Facts, LabelledDataset
from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.tables.csv_dataset import Csv

_SPECIES: tuple[Literal["setosa", "versicolor", "virginica"], ...] = ("setosa", "versicolor", "virginica")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Iris(LabelledDataset):
    """150 irises: length and width of sepal and petal in cm, (4,) float32; 50 of each of three species.

    Source: R. A. Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7(2), 1936.

    Attributes:
      species: which of setosa, versicolor and virginica there are, two or all three.
      split: how the flowers are cut into training, validation and test examples.
    """

    species: tuple[Literal["setosa", "versicolor", "virginica"], ...] = _SPECIES
    split: Split = dataclasses.field(default_factory=RandomSplit)

    def _table(self) -> Csv:
        names = tuple(name for name in _SPECIES if name in self.species)
        return Csv(
            path=str(resources.files("neuralmon.data") / "embedded" / "iris.csv"),
            target="target",
            target_kind="class",
            only=tuple(str(_SPECIES.index(name)) for name in names),
            class_names=names,
            split=self.split,
            facts=self.facts,
        )

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        return self._table().examine()

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        return self._table().read()

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs with mean 0 and variance 1 over the training rows."""
        return self._table().normalize(inputs)

    def read_inputs(self, path: str) -> tuple[tuple[str, ...], np.ndarray]:
        """See `Csv.read_inputs`."""
        return self._table().read_inputs(path)
