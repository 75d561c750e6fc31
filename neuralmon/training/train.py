"""`train`: an experiment in, a result out."""

import concurrent.futures
import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from neuralmon.data import Dataset, Spec
from neuralmon.errors import NeuralmonError, RequestError, RunError
from neuralmon.experiment import Experiment
from neuralmon.optim import freezing
from neuralmon.parallel import replicated
from neuralmon.training import environment
from neuralmon.training.loop import Loop, StopSignals
from neuralmon.training.program import Data, compiled, output_shapes
from neuralmon.training.progress import Progress, progress_for
from neuralmon.training.result import Result, abstract_state, open_checkpoints, restore
from neuralmon.training.run_folder import RunFolder, show_changes
from neuralmon.training.writers import JsonLines, TensorBoard, Writers


def train(
    experiment: Experiment,
    workdir: str | Path | None = None,
    *,
    allow_changes: bool = False,
    progress: Progress | None = None,
) -> Result:
    """Trains an experiment, or goes on with the run in `workdir`, or returns that run's result if it is finished.

    Args:
      experiment: what to train.
      workdir: the run's folder; None: nothing is written anywhere.
      allow_changes: continue a run although numbers of the experiment (never its structure) have changed.
      progress: what one sees meanwhile; None: a live bar on a terminal, else a line per evaluation, on stderr.

    Raises:
      RequestError: the experiment, or the folder, does not allow it; found before anything is compiled.
      RunError: training diverged, or the disk failed.
      KeyboardInterrupt: Ctrl-C or SIGTERM; the state was saved.
    """
    experiment = check(experiment)
    with progress or progress_for(sys.stderr, quiet=False) as shown:
        if workdir is None:
            return _train(experiment, None, shown, lambda **_: None)
        folder = RunFolder(Path(workdir))
        with folder.locked():
            changes = folder.changes(experiment) if folder.holds_run else {}
            if changes and not allow_changes:
                raise RequestError(
                    f"the run in {workdir} was started with other numbers ({show_changes(changes)}); "
                    "give --allow_changes to go on with the new ones, or another --workdir"
                )
            if folder.read("result.json") is not None:
                if changes:
                    raise RequestError(f"the run in {workdir} is finished; give another --workdir for other numbers")
                shown.notice(f"the run in {workdir} is finished")
                return restore(folder, experiment, "latest", shown.notice)
            with _recorded(folder, experiment, changes, shown) as record:
                return _train(experiment, folder, shown, record)


def check(experiment: Experiment) -> Experiment:
    """Returns the experiment with the sizes that the data decides filled in, if all its parts fit each other.

    Raises:
      RequestError: they do not.
    """
    experiment.check()
    experiment = experiment.resolve()
    program, numbers, mesh = compiled(experiment)
    spec = experiment.dataset.spec()
    with _explained(f"model: {type(experiment.model).__name__} cannot be applied to this data"):
        # Traces are kept: compiling these functions later starts from there.
        state = abstract_state(program, numbers, mesh)
        outputs, batch = output_shapes(experiment, state)
    if problem := experiment.task.check(outputs, spec):
        raise RequestError(f"model and task do not fit: {problem}")
    with _explained(f"task: {type(experiment.task).__name__} cannot measure this model's outputs"):
        jax.eval_shape(experiment.task.metrics, outputs, batch)
    if unmatched := freezing.unmatched(state.params, experiment.optimizer.frozen):
        names = [freezing.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(state.params)]
        raise RequestError(
            f"optimizer.frozen: no parameter matches {unmatched[0]!r}; the parameters are {', '.join(names[:12])}"
        )
    with _explained("the training step cannot be made of these parts"):
        jax.eval_shape(program.chunk, numbers, state, _training_data(spec, mesh), np.int32(0))
    return experiment


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Says of an error inside a part of the experiment which part it is."""
    try:
        yield
    except NeuralmonError:
        raise
    except Exception as error:
        message = (str(error).strip() or "no message").splitlines()[0]
        raise RequestError(f"{what}: {type(error).__name__}: {message}") from error


def _training_data(spec: Spec, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of the training data and where it lies; anything less would be compiled a second time."""
    return {
        name: jax.ShapeDtypeStruct((spec.sizes["train"], *feature.shape), feature.dtype, sharding=replicated(mesh))
        for name, feature in spec.features.items()
    }


@contextlib.contextmanager
def _recorded(
    folder: RunFolder, experiment: Experiment, changes: dict[str, tuple[Any, Any]], shown: Progress
) -> Iterator[Callable[..., None]]:
    """Writes what was asked and what becomes of it; yields a function that adds fields to the launch's record."""
    launch: dict[str, Any] = {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        **environment.describe(),
        "changes": {path: list(pair) for path, pair in changes.items()},
    }
    launches = [*(folder.read("launches.json") or []), launch]

    def record(**fields: Any) -> None:
        launch.update(fields)
        folder.write("launches.json", launches)

    changed = folder.record(experiment)
    record(status="running", **({"source": changed} if changed else {}))
    if changed:
        shown.notice(changed)
    try:
        yield record
    except BaseException as error:
        with contextlib.suppress(NeuralmonError):
            record(status=f"{type(error).__name__}: {error}")
        raise
    record(status="finished")


def _train(experiment: Experiment, folder: RunFolder | None, shown: Progress, record: Callable[..., None]) -> Result:
    started = environment.started()
    spec = experiment.dataset.spec()
    num_steps = experiment.training.num_steps(spec.sizes["train"])
    program, numbers, mesh = compiled(experiment)
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
        loading = pool.submit(_on_devices, experiment.dataset, mesh)
        checkpoints, restored, writers = None, None, Writers()
        if folder is not None:
            checkpoints = stack.enter_context(open_checkpoints(folder, experiment, notice))
            restored = checkpoints.restore(abstract_state(program, numbers, mesh))
            step = restored.step if restored else None
            if restored:
                notice(f"resumed from step {step} of {folder.path}")
            record(step=step or 0)
            jsonl, events = (
                JsonLines(folder.path / "metrics.jsonl", step),
                TensorBoard(folder.path / "tensorboard", step),
            )
            writers = stack.enter_context(Writers(jsonl, events))
            history = folder.history()
        state = restored.state if restored else program.init(numbers)
        shown.start(experiment.name or type(experiment.model).__name__, num_steps, int(state.step))
        # For data that is still being read.
        program.chunk.lower(numbers, state, _training_data(spec, mesh), np.int32(0)).compile()
        data = loading.result()
        seconds = {"startup": time.monotonic() - started}
        loop = Loop(experiment, program, numbers, data, checkpoints, writers, shown, history, workdir)
        state = loop.run(state, stop)
        metrics = {name: loop.evaluate(state, name) for name in spec.sizes if name != "train"}
        for name in metrics.keys() - {"validation"}:
            shown.evaluation(num_steps, name, metrics[name])
        if checkpoints is not None:
            checkpoints.wait()
        seconds |= {**loop.seconds, "total": time.monotonic() - started}
        result = Result(experiment, state, metrics, history, seconds, workdir)
        if folder is not None:
            outcome = {"metrics": metrics, "fingerprint": result.fingerprint, "seconds": seconds}
            folder.write("result.json", {"experiment": experiment.name, "step": num_steps, **outcome})
        return result


def _on_devices(dataset: Dataset, mesh: Mesh) -> dict[str, Data]:
    """Reads every split and puts it on every device; what is not as the dataset's spec says is refused."""
    spec, splits = dataset.spec(), dataset.load()
    for split, size in spec.sizes.items():
        for name, feature in spec.features.items():
            expected, array = f"{feature.dtype}{[size, *feature.shape]}", splits.get(split, {}).get(name)
            found = "nothing" if array is None else f"{array.dtype}{list(array.shape)}"
            if found != expected:
                raise RunError(f"dataset: load() gave {found} as {name!r} of {split!r}, but spec() says {expected}")
    return {name: dict(jax.device_put(dict(splits[name]), replicated(mesh))) for name in spec.sizes}
