"""What an evaluation is: sums over every example of a split, and the metric by which states are compared."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np

from neuralmon.experiment import Experiment
from neuralmon.state import TrainState
from neuralmon.tasks import Findings, Trained
from neuralmon.training.feed import Feed
from neuralmon.training.program import Numbers, Program


def evaluate(
    experiment: Experiment, program: Program, numbers: Numbers, state: TrainState, feed: Feed, split: str
) -> dict[str, Any]:
    """Returns the metrics of a split, of which every example counts exactly once."""

    def parts() -> Iterator[Any]:
        for data in feed.evaluation(split):
            yield jax.device_get(program.evaluate(numbers, state, data))

    return experiment.task.report(added(list(parts())), experiment.dataset.spec())


def study(experiment: Experiment, trained: Trained, split: str) -> Findings:
    """Returns what the task finds out beyond that (see `neuralmon.tasks.trained`)."""
    method = getattr(experiment.task, "study", None)
    return method(trained, split) if method else Findings()


def glimpse(experiment: Experiment, trained: Trained) -> Findings:
    """Returns what the task has to show of a model that is still trained."""
    method = getattr(experiment.task, "glimpse", None)
    return method(trained) if method else Findings()


def trained_of(
    experiment: Experiment, state: TrainState, feed: Feed, history: Sequence[Mapping[str, Any]] = ()
) -> Trained:
    """Returns a state as what a task studies; `history` is the run's so far."""
    return Trained(experiment.model, state.variables, experiment.dataset, feed.examples, history)


_LESS_IS_BETTER = ("loss", "mse", "mae", "rmse", "perplexity")


def monitor(experiment: Experiment) -> tuple[str, Literal["max", "min"]]:
    """Returns the validation metric by which states are compared, and which way is better."""
    asked, (name, direction) = experiment.training.monitor, experiment.task.monitor()
    if asked in (None, name):
        return name, direction
    return asked.removeprefix("-"), "min" if asked.startswith("-") or asked in _LESS_IS_BETTER else "max"


def standing(rows: Sequence[Mapping[str, Any]], metric: tuple[str, Literal["max", "min"]]) -> tuple[int | None, int]:
    """Returns the step of the best of these evaluations, and how many came after it."""
    name, direction = metric
    sign = 1.0 if direction == "max" else -1.0
    # What is not a number is NaN here, and None in what was read from the folder: no best state either way.
    known = [index for index, row in enumerate(rows) if row.get(name) is not None and np.isfinite(row[name])]
    scores = {index: sign * rows[index][name] for index in known}
    if not scores:
        return None, len(rows)
    best = max(scores, key=lambda index: (scores[index], -index))
    return rows[best]["step"], len(rows) - 1 - best


def added(parts: list[Any]) -> Any:
    """Returns the sums of parts of a chunk or of a split; of bad steps the first."""
    first, *rest = parts
    if not rest:
        return dict(first)
    bad_steps = [int(part["first_bad_step"]) for part in parts if "first_bad_step" in part]

    def total_of(*leaves: Any) -> Any:
        kind = np.asarray(leaves[0]).dtype.kind
        return np.sum(leaves, axis=0, dtype=np.int64 if kind in "iu" else np.float64)  # more than one part can hold

    total = jax.tree.map(total_of, first, *rest)
    if bad_steps:
        total["first_bad_step"] = next((step for step in bad_steps if step >= 0), -1)
    return total
