"""The side of a worker that is in another process than the coordinator: what stands for that there, and its life."""

import contextlib
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from neuralmon import codec, ops, process
from neuralmon.catalog import module_of
from neuralmon.errors import NeuralmonError, RequestError
from neuralmon.experiment import Experiment, split
from neuralmon.names import Names
from neuralmon.ops.reference import is_reference
from neuralmon.sweeps.folder import Row
from neuralmon.sweeps.search import Decision, Report, Searcher
from neuralmon.sweeps.trials import Trial, Trials
from neuralmon.sweeps.work import Worker


@dataclasses.dataclass(frozen=True)
class Job:
    """What a worker must know before it asks for trials; plain data.

    Attributes:
      file: the path and the source of the experiment's file as the coordinator read it; None: it has none.
      arrays: the arrays in memory that the experiment has, by their digests.
      slots: how many trials a worker trains at once.
      devices: how many devices it has, of CPUs.
      paths: where modules are looked for.
      settings: of jax; see `process.settings`.
      reference: the plain definitions of operations are asked for.
      whole: a worker has all its slots from the beginning, even if there are fewer trials then.
    """

    file: tuple[str, str] | None
    arrays: Mapping[str, Any]
    slots: int
    devices: int
    paths: tuple[str, ...]
    settings: Mapping[str, Any]
    reference: bool
    whole: bool

    @classmethod
    def of(cls, trials: Trials, searcher: Searcher) -> "Job":
        """Returns what all workers must know; RequestError if one of the experiments cannot be told to them."""
        names = trials.base.names
        for experiment in trials.structures:
            told(experiment.to_json(), names, codec.canonical(split(experiment)[0].to_json()))
        module = names.module
        file = None if module is None else (str(vars(module)["__file__"]), str(vars(module)["__source__"]))
        paths = tuple(str(Path(path).absolute()) for path in sys.path)
        settings, whole = process.settings(), not searcher.upfront
        return cls(file, names.arrays, 1, 1, paths, settings, is_reference(), whole)

    def names(self) -> Names:
        """Returns the names that the experiment's records may have."""
        sys.path += [path for path in self.paths if path not in sys.path]
        return Names(module_of(*self.file) if self.file else None, self.arrays)


class Channel(Protocol):
    """Carries what a worker says to the desk."""

    def ask(self, name: str, *arguments: Any) -> Any:
        """Calls a method of the desk and returns its answer."""
        ...

    def tell(self, name: str, *arguments: Any) -> None:
        """Calls one that has no answer, and does not wait."""
        ...


class RemoteCoordinator:
    """What a worker calls: see the methods of `Coordinator`."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._records: dict[int, Row] = {}

    def take(self, count: int, structure: str | None = None) -> list[Trial] | None:
        """See `Coordinator.take`."""
        taken, records = self._channel.ask("take", count, structure)
        self._records |= records
        return taken

    def recorded(self, trial: Trial) -> Row | None:
        """See `Coordinator.recorded`."""
        return self._records.pop(trial.number, None)

    def report(self, reports: Sequence[Report]) -> Sequence[Decision]:
        """See `Coordinator.report`."""
        return self._channel.ask("report", list(reports))

    def advanced(self, steps: Mapping[int, int], live: Mapping[int, float]) -> bool:
        """See `Coordinator.advanced`; a worker that is to stop is ended."""
        self._channel.tell("advanced", dict(steps), dict(live))
        return True

    def wants(self, trial: Trial, objective: float | None) -> bool:
        """See `Coordinator.wants`."""
        return self._channel.ask("wants", trial.number, objective)

    def finish(self, trial: Trial, row: Row, history: list[dict[str, Any]], state: Any | None) -> None:
        """See `Coordinator.finish`."""
        self._channel.tell("finish", trial.number, row, history, state)

    def replayed(self, trial: Trial, row: Row) -> None:
        """See `Coordinator.replayed`."""
        self._channel.tell("replayed", trial.number, row)


class RemoteTrials:
    """Makes experiments of trials by the coordinator's records of them."""

    def __init__(self, channel: Channel, names: Names) -> None:
        self._channel, self._names = channel, names

    def like(self, trial: Trial) -> Experiment:
        """See `Trials.like`."""
        return told(self._channel.ask("like", trial.number), self._names, trial.structure)


def told(data: Any, names: Names, structure: str) -> Experiment:
    """Returns the experiment of a record; RequestError if it is not of this structure."""
    try:
        experiment = Experiment.from_json(data, names)
        same = codec.canonical(split(experiment)[0].to_json()) == structure
    except RequestError as error:
        raise RequestError(f"executor: the experiment cannot be told to another process: {error}") from None
    if not same:
        raise RequestError("executor: the experiment is not the same when it is read from its record")
    return experiment


def work(job: Job, channel: Channel) -> None:
    """Lives a worker's life. Errors that are written for people are told; of others whoever started it takes note."""
    try:
        with ops.reference() if job.reference else contextlib.nullcontext():
            coordinator, trials = RemoteCoordinator(channel), RemoteTrials(channel, job.names())
            worker = Worker(coordinator, trials, job.slots, whole=job.whole)  # type: ignore[arg-type]
            worker.run()
    except NeuralmonError as error:
        channel.tell("failed", str(error), isinstance(error, RequestError))
    else:
        channel.tell("ended", worker.compilations)
