"""Rounds in which everybody has a turn, so that what slows the machine slows all of them."""

import dataclasses
import statistics
from collections.abc import Callable, Mapping

TOLERANCE = 0.15  # of the machine's speed, from one round to another


@dataclasses.dataclass(frozen=True)
class Settings:
    """How long is measured.

    Attributes:
      rounds: rounds that count.
      seconds: length of a turn.
      losses: steps whose losses are compared.
      tries: whether a contender may try several ways to do the same before.
    """

    rounds: int = 9
    seconds: float = 1.5
    losses: int = 10
    tries: bool = True

    @classmethod
    def chosen(cls, quick: bool) -> "Settings":
        return cls(rounds=3, seconds=0.5, losses=5, tries=False) if quick else cls()


@dataclasses.dataclass(frozen=True)
class Round:
    """Attributes: the machine's speed before it, and a number by contender."""

    machine: float
    numbers: Mapping[str, float]


def measured(
    count: int, turns: Mapping[str, Callable[[], float]], machine: Callable[[], float]
) -> tuple[list[Round], list[Round]]:
    """Returns `count` rounds of all turns, and those that were disturbed and done again, at most as many.

    A round is disturbed where the machine's speed before it is more than `TOLERANCE` off the median of all rounds. If
    too many are, the first ones of them count nevertheless.
    """
    rounds: list[Round] = []
    while len(rounds) < 2 * count:
        rounds.append(Round(machine(), {name: turn() for name, turn in turns.items()}))
        calm, disturbed = sorted_out(rounds)
        if len(calm) >= count:
            return calm, disturbed
    missing = count - len(calm)
    return [*calm, *disturbed[:missing]], disturbed[missing:]


def sorted_out(rounds: list[Round]) -> tuple[list[Round], list[Round]]:
    """Returns the calm rounds and the disturbed ones."""
    middle = statistics.median(one.machine for one in rounds)
    calm = [one for one in rounds if abs(one.machine / middle - 1) <= TOLERANCE]
    return calm, [one for one in rounds if one not in calm]
