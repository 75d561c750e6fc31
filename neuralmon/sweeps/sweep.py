"""`sweep`: an experiment and a space in, a table and the best experiment out."""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neuralmon import codec, process
from neuralmon.errors import Interrupted, RequestError
from neuralmon.experiment import Experiment, Training
from neuralmon.ops import native
from neuralmon.sweeps.best import Best
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.executors import make_executor
from neuralmon.sweeps.folder import SweepFolder
from neuralmon.sweeps.keeping import Keeper
from neuralmon.sweeps.mapped import slot_mesh
from neuralmon.sweeps.outcome import concluded, finished, made_of
from neuralmon.sweeps.progress import SweepProgress, sweep_progress_for
from neuralmon.sweeps.result import SweepResult
from neuralmon.sweeps.search import Asked, make_searcher
from neuralmon.sweeps.space import Space
from neuralmon.sweeps.trials import Trials
from neuralmon.sweeps.work import Worker, default_slots
from neuralmon.training.check import check_fields
from neuralmon.training.evaluation import monitor
from neuralmon.training.launches import recorded
from neuralmon.training.signals import StopSignals


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """How a space is searched.

    Attributes:
      trials: how many trials there are, where values are drawn; None: all combinations of listed values.
      search: grid, random, sobol, tpe, cmaes, optuna, halving, hyperband or pbt, with options as in "hyperband(eta=4)";
        None: a grid or, with `trials`, random.
      seed: of what is drawn.
      slots: trials that train at the same time; None: as many as are sensible.
      keep: how many configurations are kept as runs, the best ones; None: all.
      executor: process: in worker processes, one per device or core; ray: on the machines of a Ray cluster; None: in
        this process.
      workers: of an executor; None: one per device or, of CPUs, per core.
      address: of a Ray cluster; None: the one that is there, or else one of this machine alone.
    """

    trials: int | None = None
    search: str | None = None
    seed: int = 0
    slots: int | None = None
    keep: int | None = 1
    executor: str | None = None
    workers: int | None = None
    address: str | None = None


def sweep(
    experiment: Experiment,
    space: Mapping[str, Any] | Space | None = None,
    workdir: str | Path | None = None,
    *,
    zipped: Sequence[Sequence[str]] = (),
    progress: SweepProgress | None = None,
    **options: Any,
) -> SweepResult:
    """Trains an experiment with many values, or goes on with the sweep in `workdir`.

    Args:
      experiment: what to train.
      space: path -> values: a list, a range, `nm.Uniform`, `nm.LogUniform`, `nm.IntUniform`, `nm.Choice`, text as on
        the command line, or a function of the values before it; None: the `SWEEP` of the experiment's file.
      workdir: the sweep's folder; None: nothing is written anywhere.
      zipped: groups of paths that go through their lists together.
      progress: what one sees meanwhile; None: a live table on a terminal, else lines, on stderr.
      **options: the fields of `SweepOptions`.

    Raises:
      RequestError: the space or one of its trials is not possible; found before anything is trained.
      RunError: the disk failed.
      KeyboardInterrupt: Ctrl-C or SIGTERM; launched again with its folder the sweep goes on.
    """
    chosen = SweepOptions(**options)
    given = space_of_file(experiment) if space is None else space
    searched = given if isinstance(given, Space) else Space.of(given, zipped)
    with progress or sweep_progress_for(sys.stderr, quiet=False) as shown:
        return _sweep(experiment, searched, workdir, shown, chosen)


def space_of_file(experiment: Experiment) -> Mapping[str, Any]:
    """Returns the `SWEEP` of an experiment's file."""
    found = getattr(experiment.names.module, "SWEEP", None)
    if not isinstance(found, Mapping):
        raise RequestError("the experiment's file has no SWEEP = {path: values, ...}: give values, --sweep.PATH=VALUES")
    return found


def _sweep(
    experiment: Experiment, space: Space, workdir: str | Path | None, shown: SweepProgress, options: SweepOptions
) -> SweepResult:
    started = process.started()
    if options.keep is not None and options.keep < 1:
        raise RequestError("sweep_keep: the best one at least is kept: 1 or more, or all")
    trials = Trials(experiment)
    resolved = check_fields(experiment)
    size = resolved.dataset.spec().sizes
    if "validation" not in size:
        raise RequestError("a sweep compares trials on the validation split, and this data has none")
    metric, direction = monitor(resolved)
    steps, evaluations = _evaluations(resolved.training, size["train"])
    executor = make_executor(options.executor, options.workers, options.slots, options.address)
    slots = executor.slots if executor else options.slots or default_slots(slot_mesh())
    numbers = _numbers(experiment, space) if options.search else ()
    asked = Asked(space, direction, options.trials, options.seed, steps, evaluations, slots, numbers)
    best = Best(direction, space.repeats, options.keep)
    coordinator = Coordinator(trials, make_searcher(options.search, asked), best, None, shown)
    trials.check_programs()
    for other in trials.structures:
        if monitor(other) != (metric, direction):
            what = f"some trials are compared by {metric}, others by {monitor(other)[0]}"
            raise RequestError(f"a sweep needs one metric: {what}; say which: --training.monitor=NAME")
    with contextlib.ExitStack() as stack:
        if workdir is not None:
            folder = coordinator.folder = SweepFolder(Path(workdir), _plan(experiment, space, options))
            stack.enter_context(folder.locked())
            if folder.holds_run:
                folder.check_same(experiment)
            if folder.read("result.json") is not None:
                shown.notice(f"the sweep in {workdir} is finished")
                return finished(folder, experiment.names)
            coordinator.keeper, coordinator.keeps_all = Keeper(folder, trials), options.keep is None
            record = stack.enter_context(recorded(folder, experiment, {}, shown.notice))
            record(native=native.native_status())
        shown.notice(_announced(coordinator, space, steps))
        shown.begin(experiment.name, metric, direction, coordinator.searcher.total, steps)
        if coordinator.folder is not None and (done := coordinator.resume(coordinator.folder.rows())):
            shown.notice(f"{done} of them have ended in an earlier launch")
        stop = stack.enter_context(StopSignals())
        coordinator.stop = lambda: stop.received is not None
        begun = time.monotonic()
        worker = Worker(coordinator, trials, slots) if executor is None else None

        def run() -> int:
            if executor is not None:
                return executor.run(coordinator)
            assert worker is not None
            worker.run()
            return worker.compilations

        compilations = run()
        if stop.received is None and (lost := coordinator.again()):
            shown.notice(f"{lost} of the best trials are trained again: a kill kept their states from being written")
            compilations = run()
        if coordinator.keeper is not None:
            coordinator.keeper.close()
        if stop.received is not None:
            again = f"launch again with --workdir={workdir} to go on" if workdir else "nothing was saved"
            said = f"stopped when {len(coordinator.rows)} of {coordinator.proposed} trials had ended: {again}"
            raise Interrupted(stop.received, said)
        trained = time.monotonic()
        outcome = concluded(coordinator, metric, direction, worker)
        seconds = {"startup": begun - started, "training": trained - begun, "total": time.monotonic() - started}
        outcome |= {"seconds": seconds, "compilations": compilations}
        if coordinator.folder is not None:
            coordinator.folder.write("result.json", outcome)
        rows = [row for _, row in sorted(coordinator.rows.items())]
        champion = trials.experiment(best.trial.trial) if best.trial is not None else None
        return made_of(outcome, rows, champion, Path(workdir) if workdir else None)


def _numbers(experiment: Experiment, space: Space) -> tuple[str, ...]:
    """Returns the paths that are numbers of the program, in a trial from the middle of the space."""
    values = next(space.repeated(iter([space.at([0.5] * len(space.dimensions))])))
    try:
        numbers = Trials(experiment).trial(0, values).numbers
    except RequestError:
        return ()  # it will be said of the trials
    return tuple(path for path in space.paths if path in numbers)


def _announced(coordinator: Coordinator, space: Space, steps: int) -> str:
    total = coordinator.searcher.total
    structures = coordinator.trials.num_structures
    said = "trials" if total is None else f"{total} trials"
    if not structures:  # nobody knows yet
        return f"{said}, {steps:,} steps each"
    if space.repeats > 1 and total is not None:
        said += f" ({total // space.repeats} configurations, {space.repeats} seeds)"
    return f"{said} of {structures} structure{'s' if structures != 1 else ''}, {steps:,} steps each"


def _plan(experiment: Experiment, space: Space, options: SweepOptions) -> dict[str, Any]:
    """Returns what decides which trials there are; a relaunch must have the same."""
    chosen = {name: getattr(options, name) for name in ("trials", "search", "seed")}
    return {"space": space.to_json(lambda value: codec.to_json(value, experiment.names, False)), **chosen}


def _evaluations(training: Training, size: int) -> tuple[int, tuple[int, ...]]:
    """Returns the steps of a training, and those after which it is evaluated."""
    ends, last = [0], training.num_steps(size)
    while ends[-1] < last:
        ends.append(training.boundary_after(ends[-1], size))
    return last, tuple(step for step in ends[1:] if training.evaluates_at(step, size))
