"""A trial while it is trained: what is known of it so far, and its row in the end."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from neuralmon.experiment import Experiment, Training
from neuralmon.sweeps.folder import Row
from neuralmon.sweeps.search import Copy, Report
from neuralmon.sweeps.trials import Trial
from neuralmon.training.evaluation import monitor, standing

Status = Literal["finished", "stopped", "diverged"]


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a run of one structure is: when its chunks end, when it is evaluated, when it is over.

    Attributes:
      training: as the experiment says.
      size: number of training examples.
      metric: the validation metric by which states are compared, and which way is better.
    """

    training: Training
    size: int
    metric: tuple[str, Literal["max", "min"]]

    @classmethod
    def of(cls, experiment: Experiment) -> "Rules":
        """Returns those of a resolved experiment."""
        return cls(experiment.training, experiment.dataset.spec().sizes["train"], monitor(experiment))

    @property
    def steps(self) -> int:
        """Updates of a whole run."""
        return self.training.num_steps(self.size)


@dataclasses.dataclass
class Live:
    """A trial in a slot.

    Attributes:
      trial: the trial.
      rules: what a run of its structure is.
      record: the row that an earlier launch wrote; None: it is trained here.
      numbers: what its program takes at present.
      step: updates done.
      history: a row per chunk and evaluation, as of a run.
      seconds: its part of the time so far.
      trouble: the step in which it stopped being finite, and how that showed; None: it is sound.
      changes: what was copied from other trials, and when.
    """

    trial: Trial
    rules: Rules
    record: Row | None
    numbers: dict[str, np.ndarray]
    step: int = 0
    history: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0
    trouble: tuple[int, str] | None = None
    changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def next_boundary(self) -> int:
        """Where the chunk from here ends."""
        return self.rules.training.boundary_after(self.step, self.rules.size)

    @property
    def is_due(self) -> bool:
        """Whether there is an evaluation here."""
        return self.rules.training.evaluates_at(self.step, self.rules.size)

    @property
    def over(self) -> bool:
        """Whether a run would end here."""
        patience = self.rules.training.patience
        waited = standing(self._evaluations, self.rules.metric)[1]
        return (
            self.trouble is not None or self.step == self.rules.steps or (patience is not None and waited >= patience)
        )

    @property
    def best(self) -> int:
        """The step whose state counts as the trial's: with `Training.patience` the best one's, else this one."""
        best = standing(self._evaluations, self.rules.metric)[0]
        return self.step if self.rules.training.patience is None or best is None else best

    def write(self, split: str, step: int, metrics: Mapping[str, Any]) -> None:
        """Takes metrics."""
        self.history.append({"step": step, "split": split, **metrics})

    def replay(self) -> None:
        """Takes from the record what an earlier launch evaluated at this step."""
        row = self.record or {}
        for evaluation in row["evaluations"]:
            if evaluation["step"] == self.step:
                self.write("validation", self.step, evaluation["validation"])
        if row["status"] == "diverged" and row["step"] <= self.step:
            self.trouble = row["step"], row["reason"]

    def change(self, decision: Copy) -> None:
        """Takes other numbers."""
        self.changes.append({"step": self.step, "source": decision.source, "values": dict(decision.values)})
        for path, value in decision.values.items():
            self.numbers[path] = np.asarray(value, self.numbers[path].dtype)

    def report(self, over: bool) -> Report:
        """Returns how the trial does; if it is `over`, how the state does that counts as its own."""
        step = self.best if over else self.step
        found = [row for row in self._evaluations if row["step"] == step and self.trouble is None]
        metrics = _scalars(found[-1]) if found else {}
        objective = metrics.get(self.rules.metric[0])
        if objective is not None and not np.isfinite(objective):
            objective = None
        return Report(self.trial.number, self.step, self.rules.steps, objective, over, metrics)

    def row(self, status: Status, reason: str | None) -> Row:
        """Returns the trial's row."""
        report, by_split = self.report(status != "stopped"), dict[tuple[str, int], Any]()
        for row in self.history:
            by_split[row["split"], row["step"]] = _scalars(row)
        return {
            "trial": self.trial.number,
            "values": dict(self.trial.values),
            "status": status,
            "reason": self.trouble[1] if self.trouble else reason,
            "step": self.trouble[0] if self.trouble else self.best,
            "objective": report.objective,
            "metrics": dict(report.metrics),
            "evaluations": [
                {"step": step, "train": by_split.get(("train", step), {}), "validation": metrics}
                for (split, step), metrics in by_split.items()
                if split == "validation"
            ],
            "seconds": round(self.seconds, 3),
            **({"changes": self.changes} if self.changes else {}),
        }

    @property
    def _evaluations(self) -> list[dict[str, Any]]:
        return [row for row in self.history if row["split"] == "validation"]


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if isinstance(value, int | float) and name != "step"}
