"""What a sweep gives back."""

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.sweeps.folder import Row
from neuralmon.sweeps.importance import Importance, Method, importance
from neuralmon.sweeps.schedule import schedule_of
from neuralmon.sweeps.search import Direction
from neuralmon.sweeps.space import SEED
from neuralmon.syntax import write_text

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class BestTrial:
    """The best trial of a sweep.

    Attributes:
      experiment: trained with `nm.train`, it ends in the same parameters.
      number: the trial's.
      values: what the sweep made of the experiment, by path.
      metrics: of its end by split: "validation" and "test".
      command: the command line that trains it, or None for an experiment that came from no file.
    """

    experiment: Experiment
    number: int
    values: Mapping[str, Any]
    metrics: Mapping[str, Mapping[str, Any]]
    command: str | None


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """A sweep that has ended.

    Attributes:
      rows: a row per trial, in the order of their numbers, as in trials.jsonl.
      metric: what trials are compared by, on the validation split.
      direction: whether more or less of it is better.
      best: the best trial of the configuration with the best mean over its seeds; None: no trial came to its end.
      spread: of that configuration's seeds, by split and metric: "mean", "sd" and "count"; {} for one seed.
      ensemble: metrics of the average of what they say, by split; {} where there is none.
      seconds: what the launch that ended the sweep took, in parts.
      compilations: programs that were compiled for training, one per structure.
      workdir: the sweep's folder, or None.
    """

    rows: Sequence[Row]
    metric: str
    direction: Direction
    best: BestTrial | None
    spread: Mapping[str, Mapping[str, Mapping[str, float]]]
    ensemble: Mapping[str, Mapping[str, Any]]
    seconds: Mapping[str, float]
    compilations: int
    workdir: Path | None

    @property
    def table(self) -> list[dict[str, Any]]:
        """A flat dictionary per trial: its number, values by path, status, objective and validation metrics."""
        return [
            {
                "trial": row["trial"],
                **{path: _cell(value) for path, value in row["values"].items()},
                "status": row["status"],
                "step": row["step"],
                **row["metrics"],
                "seconds": row["seconds"],
            }
            for row in self.rows
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """Returns the table as a DataFrame.

        Raises:
          RequestError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise RequestError("the table as a DataFrame needs pandas: pip install pandas") from None
        return pandas.DataFrame(self.table)

    @property
    def configurations(self) -> list[dict[str, Any]]:
        """A dictionary per configuration, the best first: its values, and "mean", "sd" and "count" over its seeds."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(write_text({"dict": _without_seed(row["values"])}), []).append(row)
        sign, found = -1.0 if self.direction == "max" else 1.0, []
        for rows in groups.values():
            scores = [row["objective"] for row in rows if row["status"] == "finished" and row["objective"] is not None]
            if scores:
                found.append({**_without_seed(rows[0]["values"]), **mean_and_sd(scores), "trials": len(rows)})
        # Where a seed came to no end, its configuration does not lead.
        return sorted(found, key=lambda row: (row["count"] < row["trials"], sign * row["mean"]))

    def plot(self, name: str = "trials_by_parameter") -> "Figure":
        """Returns a figure: "trials_by_parameter", "parallel_coordinates" or "trial_curves"."""
        from neuralmon.sweeps import pictures

        return pictures.figure(self, name)

    def schedule(self, trial: int) -> list[dict[str, Any]]:
        """Returns from which step on a trial's state was trained with which values: see `schedule_of`."""
        return schedule_of({row["trial"]: row for row in self.rows}, trial)

    def importance(self, method: Method = "fANOVA") -> Importance:
        """Returns which values mattered, by the trials that came to their end or diverged."""
        rows = [row for row in self.rows if row["status"] in ("finished", "diverged")]
        return importance([row["values"] for row in rows], [row["objective"] for row in rows], self.direction, method)

    def summary(self) -> str:
        """Returns what there is to say at the end: the best configurations, the best trial and its command."""
        counts: dict[str, int] = {}
        for row in self.rows:
            counts[row["status"]] = counts.get(row["status"], 0) + 1
        lines = [", ".join(f"{count} {status}" for status, count in counts.items())]
        lines += [f"  {row['status']}: trial {row['trial']}: {row['reason']}" for row in self._troubled[:3]]
        for place, row in enumerate(self.configurations[:10]):
            values = {key: value for key, value in row.items() if key not in ("mean", "sd", "count", "trials")}
            said = " ".join(f"{path}={write_text(value)}" for path, value in values.items()) or "(all alike)"
            score = f"{row['mean']:.4f}" + (f" ± {row['sd']:.4f}" if row["count"] > 1 else "")
            lines.append(f"{f'{self.metric}' if not place else '':<12} {score:<18} {said}")
        if any("changes" in row for row in self.rows):
            lines.append("             (these are the values that trials began with)")
        if len({path for row in self.rows for path in row["values"]}) > 1:
            lines.append(f"mattered     {self.importance('PED-ANOVA')}")
        if self.best is not None:
            for split, metrics in self.best.metrics.items():
                lines.append(f"best {split:<11} {self._shown(metrics)}")
            for split, spread in self.spread.items():
                lines.append(f"seeds {split:<10} {self._shown(spread)}")
            lines += [f"ensemble {split:<7} {self._shown(metrics)}" for split, metrics in self.ensemble.items()]
            lines += [f"best run    {self.best.command}"] if self.best.command else []
            schedule = self.schedule(self.best.number)
            for place, entry in enumerate(schedule if len(schedule) > 1 else []):
                said = " ".join(f"{path}={write_text(value)}" for path, value in entry["values"].items())
                lines.append(f"{'schedule' if not place else '':<12}from step {entry['step']}: {said}")
        return "\n".join(lines)

    def _shown(self, metrics: Mapping[str, Any]) -> str:
        """Returns the loss and the metric that is compared, of one trial or of several."""

        def said(value: Any) -> str:
            return f"{value['mean']:.4f} ± {value['sd']:.4f}" if isinstance(value, Mapping) else f"{value:.4f}"

        names = [name for name in dict.fromkeys(("loss", self.metric)) if name in metrics]
        return "  ".join(f"{name} {said(metrics[name])}" for name in names)

    @property
    def _troubled(self) -> list[Row]:
        return [row for row in self.rows if row["status"] in ("failed", "diverged")]


def mean_and_sd(values: Sequence[float]) -> dict[str, float]:
    """Returns "mean", "sd" (of a sample; 0 of a single value) and "count"."""
    sd = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "sd": sd, "count": len(values)}


def spread_of(metrics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Returns mean and standard deviation of each metric that is a number."""
    names = [name for name, value in metrics[0].items() if isinstance(value, int | float)]
    return {name: mean_and_sd([float(one[name]) for one in metrics]) for name in names}


def _without_seed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {path: value for path, value in values.items() if path != SEED}


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else write_text(value)
