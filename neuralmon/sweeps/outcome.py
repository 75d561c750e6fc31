"""The end of a sweep: what the best configuration does on the test data, and what is written of it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuralmon.errors import RequestError, RunError
from neuralmon.experiment import Experiment
from neuralmon.names import Names
from neuralmon.parallel import one_device
from neuralmon.sweeps.best import Ended
from neuralmon.sweeps.command import command_of
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.ensemble import evaluate_together
from neuralmon.sweeps.folder import Row, SweepFolder
from neuralmon.sweeps.result import BestTrial, SweepResult, spread_of
from neuralmon.sweeps.search import Direction
from neuralmon.sweeps.work import Worker
from neuralmon.training.evaluation import evaluate, study, trained_of
from neuralmon.training.feed import Resident, resident
from neuralmon.training.program import compiled
from neuralmon.training.result import abstract_state


def concluded(coordinator: Coordinator, metric: str, direction: Direction, worker: Worker | None) -> dict[str, Any]:
    """Returns the outcome of a sweep whose trials have ended, as data for result.json.

    The test data are looked at here for the first time, and for the best configuration alone.
    """
    trials, leader, champion = coordinator.trials, coordinator.best.leader, coordinator.best.trial
    counts: dict[str, int] = {}
    for row in coordinator.rows.values():
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    outcome: dict[str, Any] = {"metric": metric, "direction": direction, "trials": counts}
    if champion is None:
        return {**outcome, "best": None, "spread": {}, "ensemble": {}}
    leader = sorted(leader, key=lambda one: one.trial.number)
    experiment = trials.experiment(champion.trial)
    data = (worker.data(experiment) if worker else None) or resident(experiment.dataset, one_device())
    states = [_state(one, experiment, coordinator.folder) for one in leader]
    program, feed = compiled(experiment, one_device())[0], Resident(data)
    # The run's own program evaluates them, so that they are those of the run alone, to the bit.
    metrics = {
        split: [
            evaluate(experiment, program, one.trial.numbers, state, feed, split)
            for one, state in zip(leader, states, strict=True)
        ]
        for split in ("validation", "test")
        if split in data
    }
    together = {
        split: evaluate_together(experiment, [one.trial.numbers for one in leader], states, data[split])
        for split in metrics
    }
    ensemble = {split: average for split, average in together.items() if average is not None}
    for split, members in metrics.items():
        for member, one, state in zip(members, leader, states, strict=True):
            trained = trained_of(trials.experiment(one.trial), state, feed, one.history)
            member |= study(experiment, trained, split).metrics
    place = leader.index(champion)
    return {
        **outcome,
        "best": {
            "trial": champion.trial.number,
            "values": dict(champion.trial.values),
            # No command line says that numbers change on the way.
            "command": None if "changes" in champion.row else command_of(trials.asked(champion.trial)),
            "metrics": {split: members[place] for split, members in metrics.items()},
        },
        "spread": {split: spread_of(members) for split, members in metrics.items()} if len(leader) > 1 else {},
        "ensemble": ensemble,
    }


def made_of(
    outcome: Mapping[str, Any], rows: Sequence[Row], experiment: Experiment | None, workdir: Path | None
) -> SweepResult:
    """Returns the result that an outcome describes; `experiment` is the best trial's."""
    best = outcome["best"]
    return SweepResult(
        rows=rows,
        metric=outcome["metric"],
        direction=outcome["direction"],
        best=None
        if best is None or experiment is None
        else BestTrial(experiment, best["trial"], best["values"], best["metrics"], best["command"]),
        spread=outcome["spread"],
        ensemble=outcome["ensemble"],
        seconds=outcome["seconds"],
        compilations=outcome["compilations"],
        workdir=workdir,
    )


def finished(folder: SweepFolder, names: Names | None = None) -> SweepResult:
    """Returns the result of a finished sweep from its folder; `names` must know the types of its own that it has."""
    outcome, best = folder.read("result.json"), folder.read("best.json")
    if outcome is None:
        raise RequestError(f"the sweep in {folder.path} is not finished")
    experiment = Experiment.from_json(best["experiment"], names or Names()) if best else None
    return made_of(outcome, sorted(folder.rows(), key=lambda row: row["trial"]), experiment, folder.path)


def _state(one: Ended, experiment: Experiment, folder: SweepFolder | None) -> Any:
    """Returns the final state of a trial that is kept."""
    if one.state is not None:
        return one.state
    like = abstract_state(*compiled(experiment, one_device()))
    state = folder.kept_state(one.trial.number, like, experiment) if folder else None
    if state is None:
        where = folder.run(one.trial.number).path if folder else "memory"
        raise RunError(
            f"the state of trial {one.trial.number} is not in {where} any more: delete its row of trials.jsonl"
        )
    return state
