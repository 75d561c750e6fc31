"""Which trials are kept: those of the best configurations, each with all its seeds."""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

from neuralmon.sweeps.folder import Row
from neuralmon.sweeps.search import Direction
from neuralmon.sweeps.trials import Trial, Trials


@dataclasses.dataclass(frozen=True)
class Ended:
    """A trial that has ended: its row, its metrics in between, and its state if that is kept in memory."""

    trial: Trial
    row: Row
    history: list[dict[str, Any]]
    state: Any | None


class Best:
    """Ranks configurations by the mean of their trials' objectives.

    Args:
      direction: whether more or less of the objective is better.
      repeats: trials of a configuration.
      count: how many configurations are kept; None: all.
    """

    def __init__(self, direction: Direction, repeats: int, count: int | None) -> None:
        self._sign = 1.0 if direction == "max" else -1.0
        self._repeats, self._count = repeats, count
        self._configurations: dict[str, list[Ended]] = {}
        self._ranking: list[tuple[float, int, str]] = []  # ascending; the first is the best

    @property
    def leader(self) -> list[Ended]:
        """The trials of the best configuration; [] if none was finished."""
        return self._configurations[self._ranking[0][2]] if self._ranking else []

    @property
    def trial(self) -> Ended | None:
        """The best trial of the best configuration."""
        return min(self.leader, key=self._rank_of_trial, default=None)

    @property
    def kept(self) -> list[Ended]:
        """The trials of the configurations that are kept."""
        return [one for _, _, name in self._ranking[: self._count] for one in self._configurations[name]]

    def wants(self, trial: Trial, objective: float | None) -> bool:
        """Returns whether the final state of a trial may be one of those that are kept."""
        if objective is None:
            return False
        if self._repeats > 1 or self._count is None or len(self._ranking) < self._count:
            return True
        return (-self._sign * objective, trial.number) < self._ranking[self._count - 1][:2]

    def add(self, ended: Ended) -> bool:
        """Takes a trial that has ended; returns whether others are kept now."""
        name = ended.trial.configuration
        trials = self._configurations.setdefault(name, [])
        trials.append(ended)
        if len(trials) < self._repeats:
            return False
        score = self._score(trials)
        if score is None:
            self._forget(name)
            return False
        others = [ranked for ranked in self._ranking if ranked[2] != name]
        self._ranking = sorted([*others, (score, min(one.trial.number for one in trials), name)])
        for _, _, one in self._ranking[self._count :] if self._count is not None else ():
            self._forget(one)
        return name in [ranked for _, _, ranked in self._ranking[: self._count]]

    def release(self, which: Callable[[int], bool]) -> None:
        """Forgets states of trials, but not of the best configuration's."""
        for _, _, name in self._ranking[1:]:
            if all(which(one.trial.number) for one in self._configurations[name]):
                self._forget(name)

    def restore(self, ended: Ended) -> None:
        """Takes a trial that was trained again, with its state."""
        trials = self._configurations[ended.trial.configuration]
        place = next(index for index, one in enumerate(trials) if one.trial.number == ended.trial.number)
        trials[place] = dataclasses.replace(trials[place], history=ended.history, state=ended.state)

    def described(self, trials: Trials) -> dict[str, Any]:
        """Returns the best trial as data for best.json."""
        best = self.trial
        if best is None:
            return {}
        experiment = trials.experiment(best.trial)
        objectives = [one.row["objective"] for one in self.leader if one.row["objective"] is not None]
        return {
            "format": 1,
            "experiment": experiment.to_json(),
            "trial": best.trial.number,
            "values": dict(best.trial.values),
            "objective": best.row["objective"],
            "seeds": objectives if self._repeats > 1 else [],
        }

    def _forget(self, name: str) -> None:
        trials = self._configurations[name]
        if any(one.state is not None for one in trials):
            self._configurations[name] = [dataclasses.replace(one, history=[], state=None) for one in trials]

    def _score(self, trials: list[Ended]) -> float | None:
        """Returns what configurations are sorted by, the best first; None: one of the trials came to no end."""
        objectives = [one.row["objective"] for one in trials if one.row["status"] == "finished"]
        if len(objectives) < len(trials) or None in objectives:
            return None
        return -self._sign * statistics.fmean(objectives)

    def _rank_of_trial(self, one: Ended) -> tuple[float, int]:
        return -self._sign * one.row["objective"], one.trial.number
