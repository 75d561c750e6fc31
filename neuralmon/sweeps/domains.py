"""What a place of an experiment may be in a sweep: listed values, or a distribution to draw from; nothing imports jax.

Every domain has `at(u)`: the value at a fraction u in [0, 1) of it, so that a sampler needs uniform numbers only.
Numbers are rounded to six significant digits: what a table shows is what was trained with.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

from neuralmon.errors import RequestError


class Text(str):
    """A value as it was written on the command line; what it means depends on where it goes."""


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A value as records say it."""

    data: Any


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Real numbers from `low` to `high`, all equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(self, self.low, self.high)

    def at(self, u: float) -> float:
        """Returns low + u (high - low)."""
        return _within(self.low + u * (self.high - self.low), self.low, self.high)

    def __str__(self) -> str:
        return f"uniform({self.low}, {self.high})"


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Real numbers above 0 from `low` to `high` whose logarithms are equally likely."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check(self, self.low, self.high)
        if self.low <= 0:
            raise RequestError(f"{self}: only numbers above 0 have a logarithm")

    def at(self, u: float) -> float:
        """Returns low (high / low)^u."""
        return _within(self.low * (self.high / self.low) ** u, self.low, self.high)

    def __str__(self) -> str:
        return f"loguniform({self.low}, {self.high})"


@dataclasses.dataclass(frozen=True)
class IntUniform:
    """Whole numbers from `low` to `high`, both included, all equally likely."""

    low: int
    high: int

    def __post_init__(self) -> None:
        _check(self, self.low, self.high)
        if not (isinstance(self.low, int) and isinstance(self.high, int)):
            raise RequestError(f"{self}: both ends are whole numbers")

    def at(self, u: float) -> int:
        """Returns the number at u."""
        return min(self.high, self.low + math.floor(u * (self.high - self.low + 1)))

    def __str__(self) -> str:
        return f"int({self.low}, {self.high})"


@dataclasses.dataclass(frozen=True, init=False)
class Choice:
    """One of some values, all equally likely; in a grid each of them."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def at(self, u: float) -> Any:
        """Returns the value at u."""
        return self.values[min(len(self.values) - 1, math.floor(u * len(self.values)))]

    def __len__(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        return f"choice({', '.join(map(str, self.values))})"


Distribution: TypeAlias = Uniform | LogUniform | IntUniform
Domain: TypeAlias = Distribution | Choice


def steps(low: float, high: float, count: int, log: bool) -> Choice:
    """Returns `count` numbers from `low` to `high`, equal steps (or factors, if `log`) apart; whole if all can be."""
    if count < 1 or low > high or (count == 1 and low != high):
        what = "a range has at least two numbers" if count == 1 else "there is no number in this range"
        raise RequestError(f"{low}:{high}:{'log:' if log else ''}{count}: {what}")
    if log and low <= 0:
        raise RequestError(f"{low}:{high}:log:{count}: only numbers above 0 have a logarithm")
    kind, last = LogUniform if log else Uniform, max(count - 1, 1)
    inner = [kind(low, high).at(index / last) for index in range(1, count - 1)] if low < high else [low] * (count - 2)
    values = [low, *inner, high][:count]
    if all(isinstance(end, int) for end in (low, high)) and all(float(value).is_integer() for value in values):
        return Choice(*map(int, values))
    return Choice(*map(float, values))


def rounded(value: float) -> float:
    """Returns the number to six significant digits."""
    return float(f"{value:.6g}")


def _within(value: float, low: float, high: float) -> float:
    return float(min(max(rounded(value), low), high))


def _check(domain: Any, low: float, high: float) -> None:
    for end in (low, high):
        if isinstance(end, bool) or not isinstance(end, int | float) or not math.isfinite(end):
            raise RequestError(f"{domain}: its ends are finite numbers")
    if not low < high:
        raise RequestError(f"{domain}: there is nothing between {low} and {high}")


def as_choice(values: Sequence[Any]) -> Choice:
    """Returns listed values, of which there must be one, and none twice."""
    if not len(values):
        raise RequestError("there are no values")
    for index, value in enumerate(values):
        if any(type(value) is type(other) and value is not other and value == other for other in values[:index]):
            raise RequestError(f"{value!s:.100} is there twice")
    return Choice(*values)
