"""Whether the parts of an experiment fit each other: found before anything is compiled."""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from neuralmon.errors import NeuralmonError, RequestError
from neuralmon.experiment import Experiment
from neuralmon.optim import freezing, layer_rates
from neuralmon.training.evaluation import monitor
from neuralmon.training.feed import split_shapes, window_shapes
from neuralmon.training.program import Program, compiled, output_shapes
from neuralmon.training.result import abstract_state


def check(experiment: Experiment) -> Experiment:
    """Returns the experiment with what the data decides filled in, if all its parts fit each other.

    Raises:
      RequestError: they do not.
    """
    experiment = check_fields(experiment)
    check_program(experiment)
    return experiment


def check_fields(experiment: Experiment) -> Experiment:
    """Returns the experiment with what the data decides filled in, if its fields are possible; nothing is traced."""
    experiment.check()
    experiment = experiment.resolve()
    experiment.check_fit()
    return experiment


def check_program(experiment: Experiment, mesh: Mesh | None = None) -> None:
    """Raises RequestError if the parts of a resolved experiment cannot be traced together; no mesh: for all devices."""
    program, numbers, mesh = compiled(experiment, mesh)
    spec = experiment.dataset.spec()
    with _explained(f"model: {type(experiment.model).__name__} cannot be applied to this data"), _unless(experiment):
        # Traces are kept: compiling these functions later starts from there.
        state = abstract_state(program, numbers, mesh)
        outputs, batch = output_shapes(experiment, state)
    if problem := experiment.task.check(outputs, spec):
        raise RequestError(f"model and task do not fit: {problem}")
    with _explained(f"task: {type(experiment.task).__name__} cannot measure this model's outputs"):
        sums = jax.eval_shape(experiment.task.metrics, outputs, batch)
    if experiment.training.monitor is not None or experiment.training.patience is not None:
        nothing = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), sums)
        known = [
            name for name, value in experiment.task.report(nothing, spec).items() if isinstance(value, int | float)
        ]
        if (name := monitor(experiment)[0]) not in known:
            raise RequestError(f"training.monitor: there is no metric {name!r}; there are {', '.join(known)}")
    _check_patterns(experiment, state.params)
    with _explained("the training step cannot be made of these parts"):
        jax.eval_shape(program.chunk, numbers, state, data_shapes(experiment, program, mesh), np.int32(0))


def _check_patterns(experiment: Experiment, params: Any) -> None:
    """Refuses patterns of parameters that match none."""
    optimizer = experiment.optimizer
    rates = tuple(rate.pattern for rate in optimizer.layer_rates)
    for field, patterns in {"frozen": optimizer.frozen, "layer_rates": rates}.items():
        if unmatched := freezing.unmatched(params, patterns):
            names = [freezing.path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
            what = f"no parameter matches {unmatched[0]!r}; the parameters are {freezing.listed(names)}"
            raise RequestError(f"optimizer.{field}: {what}")
    if shadowed := layer_rates.unused(params, optimizer.layer_rates):
        what = f"earlier patterns take all that {shadowed[0]!r} matches"
        raise RequestError(f"optimizer.layer_rates: {what}; the first that matches counts, so put it before them")


@contextlib.contextmanager
def _unless(experiment: Experiment) -> Iterator[None]:
    """Says of an error in the model that data and task do not fit, if that is why it lacks a number of outputs."""
    try:
        yield
    except Exception:
        spec = experiment.dataset.spec()
        problem = experiment.task.check(jax.ShapeDtypeStruct((), np.float32), spec)
        if problem is None or experiment.task.num_outputs(spec) is not None:
            raise
        raise RequestError(f"data and task do not fit: {problem}") from None


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


def data_shapes(experiment: Experiment, program: Program, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of what `chunk` is given and where it lies; anything less would be compiled a second time."""
    spec = experiment.dataset.spec()
    if program.window is None:
        return split_shapes(spec, "train", mesh)
    return window_shapes(spec, experiment.training.batch_size, program.window, mesh)
