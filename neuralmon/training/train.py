"""`train`: an experiment in, a result out."""

import concurrent.futures
import contextlib
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from neuralmon import codec, ops, process
from neuralmon.data.permutation import batch_indices_numpy
from neuralmon.errors import RequestError, first_line
from neuralmon.experiment import Experiment, walk
from neuralmon.ops import native
from neuralmon.state import TrainState
from neuralmon.tasks import Findings
from neuralmon.training.check import check_fields, check_program
from neuralmon.training.evaluation import study, trained_of
from neuralmon.training.feed import Feed, Resident, Streamed, resident
from neuralmon.training.flops import step_flops, utilisation
from neuralmon.training.kept import Ready
from neuralmon.training.launches import recorded
from neuralmon.training.loop import Loop
from neuralmon.training.nan_hunt import hunt
from neuralmon.training.options import Options, Prepared, check_options, prepare
from neuralmon.training.pictures import Pictures
from neuralmon.training.progress import Progress, progress_for
from neuralmon.training.result import Result, open_checkpoints, restore
from neuralmon.training.run_folder import RunFolder, show_changes
from neuralmon.training.signals import StopSignals
from neuralmon.training.trackers import tracker
from neuralmon.training.writers import JsonLines, TensorBoard, Writers


def train(
    experiment: Experiment, workdir: str | Path | None = None, *, progress: Progress | None = None, **options: Any
) -> Result:
    """Trains an experiment, or goes on with the run in `workdir`, or returns that run's result if it is finished.

    Args:
      experiment: what to train.
      workdir: the run's folder; None: nothing is written anywhere.
      progress: what one sees meanwhile; None: a live bar on a terminal, else a line per evaluation, on stderr.
      **options: the fields of `Options`.

    Raises:
      RequestError: the experiment, or the folder, does not allow it; found before anything is compiled.
      RunError: training diverged, or the disk failed.
      KeyboardInterrupt: Ctrl-C or SIGTERM; the state was saved.
    """
    chosen = Options(**options)
    check_options(chosen, workdir)
    definitions = ops.reference if chosen.reference_ops else contextlib.nullcontext
    with definitions(), progress or progress_for(sys.stderr, quiet=False) as shown, _told(shown):
        experiment = check_fields(experiment)
        ready = Ready(experiment)
        if ready.kept is None:
            check_program(experiment)
        folder = RunFolder(Path(workdir)) if workdir is not None else None
        prepared = prepare(experiment, folder, chosen)
        if folder is None:
            return _train(experiment, None, shown, lambda **_: None, chosen, prepared, ready)
        with folder.locked():
            changes = folder.changes(experiment) if folder.holds_run else {}
            if changes and not chosen.allow_changes:
                raise RequestError(
                    f"the run in {workdir} was started with other numbers ({show_changes(changes)}); "
                    "give --allow_changes to go on with the new ones, or another --workdir"
                )
            if folder.read("result.json") is not None:
                if changes:
                    raise RequestError(f"the run in {workdir} is finished; give another --workdir for other numbers")
                shown.notice(f"the run in {workdir} is finished")
                return restore(folder, experiment, "latest", shown.notice)
            with recorded(folder, experiment, changes, shown.notice) as record:
                return _train(experiment, folder, shown, record, chosen, prepared, ready)


@contextlib.contextmanager
def _told(shown: Progress) -> Iterator[None]:
    """Shows neuralmon's own warnings, such as of files that are no images, as notices."""
    room = Path(__file__).parents[1]
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, *where: Any) -> None:
            if Path(filename).is_relative_to(room):
                shown.notice(str(message))
            else:
                others(message, category, filename, *where)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def _train(
    experiment: Experiment,
    folder: RunFolder | None,
    shown: Progress,
    record: Callable[..., None],
    options: Options,
    prepared: Prepared,
    ready: Ready,
) -> Result:
    started = process.started()
    spec = experiment.dataset.spec()
    num_steps = experiment.training.num_steps(spec.sizes["train"])
    numbers, mesh = ready.numbers, ready.mesh
    workdir = folder.path if folder else None
    history: list[dict[str, Any]] = []
    notices: list[str] = []

    def notice(text: str) -> None:
        notices.append(text)
        record(notices=notices)
        shown.notice(text)

    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(StopSignals())
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(1))
        # Reading the data and compiling the program need different cores.
        loading = pool.submit(resident, experiment.dataset, mesh) if ready.program.window is None else None
        program = ready.load()
        checkpoints, restored, writers, pictures = None, None, Writers(), None
        profile, inheritance = prepared.profile, prepared.inheritance
        if folder is not None:
            checkpoints = stack.enter_context(open_checkpoints(folder, experiment, notice))
            restored = checkpoints.restore(ready.state)
            step = restored.step if restored else None
            if restored:
                notice(f"resumed from step {step} of {folder.path}")
            record(
                step=step or 0, program=ready.said, reference_ops=options.reference_ops, native=native.native_status()
            )
            writers = stack.enter_context(_writers(experiment, folder, step, options, notice))
            history = folder.history()
            if options.figures:
                pictures = stack.enter_context(Pictures(experiment, program, numbers, folder.path, notice))
        state = restored.state if restored else program.init(numbers)
        if inheritance is not None:
            state = inheritance.apply(state)
            notice(inheritance.said)
            if checkpoints is not None:
                # A launch that goes on from here must not begin with other parameters.
                checkpoints.save(0, state, metrics={})
                checkpoints.wait()
        elif options.init_from is not None:
            notice(f"--init_from={options.init_from} has no effect: the run goes on from its own checkpoint")
        if _misses_native(state, options):
            notice(native.native_status())
        shown.start(experiment.name or type(experiment.model).__name__, num_steps, int(state.step))
        cuts, longest = profile.cuts if profile else (), 1 if options.debug_nans else None
        feed: Feed
        if program.window is not None:
            workers = options.data_workers
            feed = Streamed(experiment, mesh, program.window, int(state.step), cuts, longest, workers, notice)
            readers = f"{feed.workers} worker processes" if feed.workers else "threads"
            notice(f"the data, {spec.stored_bytes() / 1e6:,.0f} MB, is streamed by {readers}")
            stack.callback(feed.close)
        if loading is not None:
            if options.data_workers is not None:
                notice(f"--data_workers={options.data_workers} has no effect: the data lives on the device")
            feed = Resident(loading.result(), cuts, longest)
            jax.block_until_ready(feed.splits)
        jax.block_until_ready(state)  # or the first steps would be said to take what making it takes
        process.begun()
        seconds = {"startup": time.monotonic() - started}
        begun = pool.submit(pictures.begin, feed) if pictures is not None and not restored else None
        if begun is not None:
            stack.callback(begun.result)
        explain = partial(_explain, experiment, feed) if options.debug_nans else None
        watch = partial(pictures.glimpse, feed=feed) if pictures is not None else None
        loop = Loop(
            *(experiment, program, numbers, feed, checkpoints, writers, shown, history, workdir),
            *(profile, explain, watch),
        )
        with profile or contextlib.nullcontext():
            state = loop.run(state, stop)
        if profile is not None:
            notice(f"profile: {f'in {profile.written}' if profile.written else 'none of these steps was done here'}")
        metrics = {name: loop.evaluate(state, name) for name in spec.sizes if name != "train"}
        trained = trained_of(experiment, state, feed, history)
        findings = {name: study(experiment, trained, name) for name in metrics}
        metrics = {name: {**metrics[name], **found.metrics} for name, found in findings.items()}
        for name in metrics.keys() - {"validation"}:
            shown.evaluation(int(state.step), name, metrics[name])
        if checkpoints is not None:
            checkpoints.wait()
        seconds |= {**loop.seconds, "total": time.monotonic() - started}
        result = Result(experiment, state, metrics, history, seconds, workdir)
        if folder is not None:
            outcome = {
                "experiment": experiment.name,
                "step": int(state.step),
                "metrics": metrics,
                "fingerprint": result.fingerprint,
                "seconds": seconds,
                "throughput": _throughput(experiment, loop, mesh, notice),
                "peak_memory_bytes": process.peak_memory(),
            }
            folder.write("result.json", outcome)
            writers.result(int(state.step), outcome)
        if pictures is not None:
            if begun is not None:
                begun.result()
            pictures.end(state, metrics, feed, findings.get("test") or next(iter(findings.values()), Findings()))
        return result


def _misses_native(state: TrainState, options: Options) -> bool:
    """Whether there are layers that would be faster, had the native part of `neuralmon.ops` been there.

    They are told by their parameters: a convolution's kernel, an attention's queries, a recurrent layer's matrix.
    """
    status = native.native_status()
    missing = status.startswith("no ") and "switched off" not in status and jax.default_backend() == "cpu"
    paths = jax.tree_util.tree_leaves_with_path(state.params)
    names = {getattr(key, "key", None) for path, _ in paths for key in path}
    covered = any(leaf.ndim == 4 for _, leaf in paths) or names & {"query", "recurrent"}
    return missing and bool(covered) and not options.reference_ops


def _writers(
    experiment: Experiment, folder: RunFolder, step: int | None, options: Options, notice: Callable[[str], None]
) -> Writers:
    """Returns what metrics are written to, from `step` on."""
    parameters = {}
    for node in filter(lambda node: node.is_leaf, walk(experiment)):
        # As in the record, a default that has no name, such as Linen's own initialisers, is left out.
        with contextlib.suppress(RequestError):
            parameters[node.path] = codec.format(node.value, experiment.names, annotation=node.annotation)
    project = experiment.name or "neuralmon"
    trackers = [tracker(name, folder.path, project, parameters, notice) for name in options.writers]
    metrics = JsonLines(folder.path / "metrics.jsonl", step)
    return Writers(metrics, TensorBoard(folder.path / "tensorboard", step), *trackers)


def _explain(experiment: Experiment, feed: Feed, state: TrainState) -> str:
    """Returns what was not finite in the step after `state`."""
    training = experiment.training
    size = experiment.dataset.spec().sizes["train"]
    rows = batch_indices_numpy(training.seed, int(state.step), training.batch_size, size)
    batch: dict[str, Any] = {**feed.examples("train", rows), "weights": np.ones(len(rows), np.float32)}
    return hunt(experiment, state, batch)


def _throughput(
    experiment: Experiment, loop: Loop, mesh: Mesh, notice: Callable[[str], None]
) -> dict[str, float | None]:
    """Returns how fast the steps of this launch were, and which part of what the devices can do that is."""
    seconds = loop.seconds["training"]
    if not loop.steps or not seconds:
        return {}
    speed: dict[str, float | None] = {"examples_per_second": loop.steps * experiment.training.batch_size / seconds}
    try:
        flops = step_flops(experiment) * loop.steps / seconds
        return {**speed, "flops_per_second": flops, "utilisation": utilisation(flops, list(mesh.devices.flat))}
    except Exception as error:  # of a model that does not let itself be looked into: no reason to lose the run
        notice(f"FLOPs could not be counted: {type(error).__name__}: {first_line(error)}")
        return speed
