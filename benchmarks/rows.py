"""A row of the table: the same work done by several contenders, in rounds."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

OURS = "neuralmon"


@dataclasses.dataclass(frozen=True)
class Spread:
    """The middle of some numbers, and the least and the greatest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


@dataclasses.dataclass(frozen=True)
class Row:
    """What was measured of one work. In a round every contender had its turn, so ratios are taken within rounds.

    Attributes:
      work: what is done, as the table calls it: "MLP 784-256-10, batch 128".
      unit: what the numbers are: "examples/s", "s", "tokens/s".
      rounds: one mapping a round, from a contender's name to its number. "neuralmon" is in every round.
      more_is_better: whether a larger number is a better one (a rate), or a smaller one is (a time).
      details: anything else that is to be kept in the JSON file.
      note: a short remark for the table.
    """

    work: str
    unit: str
    rounds: Sequence[Mapping[str, float]]
    more_is_better: bool = True
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def contenders(self) -> list[str]:
        """Names of all contenders, neuralmon first."""
        names = dict.fromkeys(name for numbers in self.rounds for name in numbers)
        return [OURS, *(name for name in names if name != OURS)]

    def values(self, contender: str) -> list[float]:
        return [numbers[contender] for numbers in self.rounds if contender in numbers]

    def ratios(self, contender: str) -> list[float]:
        """How many times better neuralmon is than `contender`, by round; above 1: it is ahead."""
        pairs = [(numbers[OURS], numbers[contender]) for numbers in self.rounds if contender in numbers]
        return [ours / theirs if self.more_is_better else theirs / ours for ours, theirs in pairs]
