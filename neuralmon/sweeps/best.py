"""Which trials are kept: those of the best configurations, each with all its seeds."""

import dataclasses
import statistics
from collections.abc import Mapping
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


@dataclasses.dataclass(frozen=True)
class Settled:
    """What follows from a configuration's last trial: what is now kept, what no more, and whether it is the best."""

    kept: list[Ended] = dataclasses.field(default_factory=list)
    dropped: list[int] = dataclasses.field(default_factory=list)
    leader: bool = False


class Best:
    """Ranks configurations by the mean of their trials' objectives.

    Args:
      direction: whether more or less of the objective is better.
      repeats: trials of a configuration.
      count: how many configurations are kept; None: all.
      in_memory: the kept states stay here, since there is no folder; else those of the best configuration alone.
    """

    def __init__(self, direction: Direction, repeats: int, count: int | None, in_memory: bool) -> None:
        self._sign = 1.0 if direction == "max" else -1.0
        self._repeats, self._count, self._held = repeats, count, count if in_memory else 1
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
    def configurations(self) -> list[list[Ended]]:
        """The trials of each complete configuration, the best first."""
        return [self._configurations[name] for _, _, name in self._ranking]

    def wants(self, trial: Trial, objective: float | None) -> bool:
        """Returns whether the final state of a trial may be one of those that are kept."""
        if objective is None:
            return False
        if self._repeats > 1 or self._count is None or len(self._ranking) < self._count:
            return True
        return (-self._sign * objective, trial.number) < self._ranking[self._count - 1][:2]

    def add(self, trial: Trial, row: Row, history: list[dict[str, Any]], state: Any | None) -> Settled:
        """Takes a trial that has ended."""
        name = trial.configuration
        trials = self._configurations.setdefault(name, [])
        trials.append(Ended(trial, row, history, state))
        if len(trials) < self._repeats:
            return Settled()
        score = self._score(trials)
        if score is None:
            self._forget(name)
            return Settled()
        self._ranking = sorted([*self._ranking, (score, min(one.trial.number for one in trials), name)])
        top = [ranked for _, _, ranked in self._ranking[: self._count]]
        below = [ranked for _, _, ranked in self._ranking[len(top) : len(top) + 1]]
        dropped = [one.trial.number for fallen in below if fallen != name for one in self._configurations[fallen]]
        for _, _, one in self._ranking[self._held :] if self._held is not None else ():
            self._forget(one)
        return Settled(trials if name in top else [], dropped, leader=top[:1] == [name])

    def complete(self, rows: Mapping[int, Row]) -> dict[int, Row]:
        """Returns those of an earlier launch's rows whose configuration is complete.

        The states of an incomplete one are nowhere, so that its trials are trained again.
        """
        if self._repeats == 1:
            return dict(rows)
        counts: dict[str, int] = {}
        names = {number: Trial(number, row["values"]).configuration for number, row in rows.items()}
        for name in names.values():
            counts[name] = counts.get(name, 0) + 1
        return {number: row for number, row in rows.items() if counts[names[number]] >= self._repeats}

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
