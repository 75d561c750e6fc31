"""What a run gives back, from memory or from its folder."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh

from neuralmon.catalog import load_experiment
from neuralmon.data.dataset import load_checked
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.parallel import replicated
from neuralmon.sampling import SampleRequest
from neuralmon.state import TrainState
from neuralmon.tasks import Trained
from neuralmon.training.checkpoint import Checkpoints, fingerprint
from neuralmon.training.evaluation import evaluate, monitor, study
from neuralmon.training.feed import Feed, Resident, Streamed, resident
from neuralmon.training.program import Numbers, Program, compiled
from neuralmon.training.run_folder import RunFolder

_AT_ONCE = 1024  # examples that are predicted in one call


@dataclasses.dataclass
class Result:
    """A run: its experiment, what was measured, and its trained state.

    Attributes:
      experiment: what was run, every size filled in.
      state: the trained state: `model.apply(result.state.variables, inputs)`.
      metrics: metrics of the final state by split, such as metrics["test"]["accuracy"]; {} of an unfinished run.
      history: a row per chunk ("train") and evaluation ("validation"): step, split and metrics.
      seconds: wall seconds of the launch that finished the run.
      workdir: the run's folder, or None.
    """

    experiment: Experiment
    state: TrainState
    metrics: dict[str, dict[str, Any]]
    history: list[dict[str, Any]]
    seconds: dict[str, float]
    workdir: Path | None

    @classmethod
    def of(cls, experiment: Experiment, variables: Any) -> "Result":
        """Returns what would be a run of `experiment` that ended in these variables of its model, to evaluate it.

        Args:
          experiment: its data, model and task.
          variables: as a function of `neuralmon.interop` returns them, or `model.init`.

        Raises:
          RequestError: they are not those of the experiment's model.
        """
        experiment = experiment.resolve()
        program, numbers, _ = compiled(experiment)
        state = program.init(numbers)
        own = {"params": state.params, **state.model_state}
        wanted, given = (
            {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
            for tree in (own, dict(variables))
        )
        if wrong := [path for path in {**wanted, **given} if wanted.get(path) != given.get(path)]:
            shapes = f"{given.get(wrong[0], 'missing')}, in the model {wanted.get(wrong[0], 'missing')}"
            raise RequestError(f"{len(wrong)} variables are not those of the model: {wrong[0]} is {shapes}")

        def placed(leaf: Any, new: Any) -> Any:
            return jax.device_put(np.asarray(new, leaf.dtype), leaf.sharding)

        model_state = jax.tree.map(placed, own, dict(variables))
        params = model_state.pop("params")
        average = None if state.average is None else jax.tree.map(lambda leaf: leaf.copy(), params)
        state = dataclasses.replace(state, params=params, model_state=model_state, average=average)
        return cls(experiment, state, metrics={}, history=[], seconds={}, workdir=None)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the parameters' bytes in the order of their paths."""
        return fingerprint(self.state.params)

    def predict(self, inputs: Any) -> dict[str, np.ndarray]:
        """Returns what the model says of examples as the dataset stores them, such as uint8 images.

        A missing last axis of length 1 (the channel of grey images) and a missing batch axis are added.

        Raises:
          RequestError: the examples' shape does not fit.
        """
        wanted = self.experiment.dataset.spec().features["inputs"]
        given = np.asarray(inputs)
        if given.size == 0:
            raise RequestError("there are no inputs to predict")
        with np.errstate(invalid="ignore"):
            array = given.astype(wanted.dtype)
        if np.issubdtype(wanted.dtype, np.integer) and not np.array_equal(array, given):
            raise RequestError(f"inputs of {given.dtype} do not fit: the dataset stores {wanted.dtype}, unscaled")
        for shape in (wanted.shape, wanted.shape[:-1] if wanted.shape[-1:] == (1,) else wanted.shape):
            if array.shape == shape or array.shape[1:] == shape:
                return self._predict(array.reshape(-1, *wanted.shape))
        expected = ", ".join(["examples", *map(str, wanted.shape)])
        raise RequestError(f"inputs of shape {array.shape} do not fit: expected ({expected})")

    def _predict(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        program, numbers, _ = compiled(self.experiment)
        parts = []
        for start in range(0, len(inputs), _AT_ONCE):
            part = inputs[start : start + _AT_ONCE]
            # The last part is filled up: another length would be compiled again.
            filled = part if len(inputs) <= _AT_ONCE else np.resize(part, (_AT_ONCE, *part.shape[1:]))
            said = jax.device_get(program.predict(numbers, self.state, filled))
            parts.append({name: array[: len(part)] for name, array in said.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def evaluate(self, split_name: str = "test") -> dict[str, Any]:
        """Returns the metrics of the state on a split of the dataset.

        Raises:
          RequestError: the dataset has no such split.
        """
        spec = self.experiment.dataset.spec()
        if split_name not in spec.sizes:
            raise RequestError(f"the data has no split {split_name!r}; it has {', '.join(spec.sizes)}")
        program, numbers, mesh = compiled(self.experiment)
        feed: Feed
        if program.window is None:
            feed = Resident(resident(self.experiment.dataset, mesh, (split_name,)))
        else:
            feed = Streamed(self.experiment, mesh, program.window, int(self.state.step), only=split_name)
        with contextlib.closing(feed):
            metrics = evaluate(self.experiment, program, numbers, self.state, feed, split_name)
            return {**metrics, **study(self.experiment, self.trained, split_name).metrics}

    def sample(self, request: SampleRequest) -> Iterator[str]:
        """Yields what the model makes, in pieces of text as they come: a text, translations, where a picture is.

        Raises:
          RequestError: the run's task makes nothing, or the request asks for what it cannot do.
        """
        task = self.experiment.task
        make = getattr(task, "sample", None)
        if make is None:
            raise RequestError(f"{type(task).__name__} makes no samples: its models predict (--mode=predict)")
        return iter(make(self.trained, request))

    @property
    def trained(self) -> Trained:
        """The model with what it has learnt; its data is opened when an example is first read."""
        dataset = self.experiment.dataset
        opened = functools.cache(lambda: load_checked(dataset))

        def read(split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
            return {name: np.asarray(column[rows]) for name, column in opened()[split].items()}

        return Trained(self.experiment.model, self.state.variables, dataset, read, self.history)


def abstract_state(program: Program, numbers: Numbers, mesh: Mesh) -> Any:
    """Returns the shapes of a program's state, whole on every device."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated(mesh)),
        jax.eval_shape(program.init, numbers),
    )


def load_run(
    folder: str | Path,
    experiment: str | Experiment | None = None,
    checkpoint: int | Literal["latest", "best"] = "latest",
    notice: Callable[[str], None] = print,
) -> Result:
    """Returns a run from its folder; nothing in the folder is executed.

    Args:
      folder: the run's folder.
      experiment: where the run's own types are, if it has any: the name or path of its file, or the experiment itself.
      checkpoint: which of the states that are kept.
      notice: told of a damaged checkpoint that was passed over.

    Raises:
      RequestError: the folder holds no run, no checkpoint, or types that are not known.
      RunError: every checkpoint is damaged.
    """
    run = RunFolder(Path(folder))
    if isinstance(experiment, Experiment):
        experiment = experiment.resolve()
        run.changes(experiment)
        return restore(run, experiment, checkpoint, notice)
    names = load_experiment(experiment).names if experiment else None
    return restore(run, run.experiment(names), checkpoint, notice)


def restore(
    run: RunFolder, experiment: Experiment, checkpoint: int | Literal["latest", "best"], notice: Callable[[str], None]
) -> Result:
    """Returns the run in a folder whose experiment is known (see `load_run`)."""
    record = run.read("result.json") or {}
    if not isinstance(record, dict):
        raise RequestError(f"{run.path / 'result.json'} is damaged")
    if checkpoint == "latest" and experiment.training.patience is not None and "step" in record:
        checkpoint = int(record["step"])  # the best state is the run's
    with open_checkpoints(run, experiment, notice) as checkpoints:
        restored = checkpoints.restore(abstract_state(*compiled(experiment)), checkpoint)
    if restored is None:
        why = ": the run is finished, but they are gone" if record else " yet: the run was stopped before its first one"
        raise RequestError(f"{run.path} has no checkpoint{why}")
    return Result(
        experiment=experiment,
        state=restored.state,
        metrics=record.get("metrics", {}),
        history=run.history(),
        seconds=record.get("seconds", {}),
        workdir=run.path,
    )


def open_checkpoints(run: RunFolder, experiment: Experiment, notice: Callable[[str], None]) -> Checkpoints:
    """Returns the checkpoints of a run, as its experiment says which are kept."""
    return Checkpoints(
        run.checkpoints, keep_last=experiment.training.keep_last, best=monitor(experiment), notice=notice
    )
