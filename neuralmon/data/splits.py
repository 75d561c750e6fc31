"""How data that comes in one piece is cut into training, validation and test examples."""

import abc
import dataclasses
from typing import Annotated, TypeAlias

import numpy as np

from neuralmon.errors import RequestError
from neuralmon.fields import NonNegativeInt, Range

Share: TypeAlias = Annotated[float, Range(0, 0.9)]

_STREAM = 0x73706C74


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split(abc.ABC):
    """Cuts rows into three parts; each example is in exactly one of them.

    Attributes:
      validation: fraction of the rows on which settings are chosen; 0: none.
      test: fraction of the rows that is evaluated once, at the end; 0: none.
    """

    validation: Share = 0.1
    test: Share = 0.1

    @abc.abstractmethod
    def order(self, size: int) -> np.ndarray:
        """Returns the rows 0 ... size - 1 in the order in which training, validation and test rows are cut off."""

    def counts(self, size: int, test: bool = True, validation: bool = True, of: str = "rows") -> dict[str, int]:
        """Returns the number of rows of each split; no "test" or "validation" if False, for data that has its own.

        Args:
          size: number of rows in all.
          test: whether there is a test split.
          validation: whether there is a validation split.
          of: what is counted, for messages.

        Raises:
          RequestError: a split would have no row.
        """
        shares = {**({"validation": self.validation} if validation else {}), **({"test": self.test} if test else {})}
        wanted = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        if sum(shares.values()) >= 1:
            raise RequestError(f"dataset.split leaves nothing for training ({wanted}); the sum has to be below 1")
        counts = {name: round(share * size) for name, share in shares.items() if share > 0}
        counts = {"train": size - sum(counts.values()), **counts}
        if empty := [name for name, count in counts.items() if count < 1]:
            advice = f"give more {of}, or change dataset.split"
            raise RequestError(f"{size} {of} are too few: none is left for {empty[0]} ({wanted}); {advice}")
        return counts

    def rows(self, size: int, test: bool = True, validation: bool = True) -> dict[str, np.ndarray]:
        """Returns the rows of each split, ascending (see `counts`)."""
        counts = self.counts(size, test, validation)
        ends = np.cumsum(list(counts.values()))[:-1]
        return {name: np.sort(rows) for name, rows in zip(counts, np.split(self.order(size), ends), strict=True)}


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomSplit(Split):
    """Rows are drawn at random, the same ones each time.

    Attributes:
      seed: of the draw; it has nothing to do with `training.seed`, so that runs of other seeds share the splits.
    """

    seed: NonNegativeInt = 0

    def order(self, size: int) -> np.ndarray:
        """See `Split.order`."""
        # NumPy promises the bits of PCG64 for all its versions, but not those of `permutation`. A stream of its own:
        # data drawn with default_rng(seed) would be cut by its values, since these would be the same numbers.
        return np.argsort(np.random.PCG64([self.seed, _STREAM]).random_raw(size), kind="stable")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChronologicalSplit(Split):
    """The first rows are for training, the next for validation, the last for the test: no row is before its past."""

    def order(self, size: int) -> np.ndarray:
        """See `Split.order`."""
        return np.arange(size)
