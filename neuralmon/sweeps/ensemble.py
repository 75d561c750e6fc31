"""What the trials of one configuration say together on a split of the data."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from neuralmon.data.pipeline import Data, evaluation_batch, num_evaluation_batches
from neuralmon.experiment import Experiment, merge, split
from neuralmon.ops.reference import is_reference
from neuralmon.state import TrainState
from neuralmon.tasks import Sums
from neuralmon.training.program import Numbers, evaluated, program_of


def evaluate_together(
    experiment: Experiment, numbers: Sequence[Numbers], states: Sequence[TrainState], data: Data
) -> dict[str, Any] | None:
    """Returns the metrics of the average of what some trainings say.

    The average is the task's (`average(outputs)`, members first): of probabilities, or of numbers. None: of what this
    task's models say there is none, or there is only one training.

    Args:
      experiment: a resolved experiment of their structure.
      numbers: of each training.
      states: of each training, on the host.
      data: a split.
    """
    average = getattr(experiment.task, "average", None)
    if average is None or len(states) < 2:
        return None
    structure, same = program_of(split(experiment)[0])
    key = (same, is_reference())
    if key not in _evaluators:
        _evaluators[key] = _evaluator(structure)

    def stacked(*leaves: Any) -> np.ndarray:
        return np.stack(leaves)

    both = jax.tree.map(stacked, *numbers), jax.tree.map(stacked, *states)
    sums = jax.device_get(_evaluators[key](*both, data))
    return experiment.task.report(sums, experiment.dataset.spec())


_evaluators: dict[Any, Any] = {}


def _evaluator(structure: Experiment) -> Any:
    """Returns the compiled function: (numbers, states, data) -> sums of the average."""
    batch_size = structure.training.batch_size

    def sums_of(numbers: Any, states: Any, data: Data, index: Int[Array, ""]) -> Sums:
        stored = evaluation_batch(data, index, batch_size)

        def one(member: Any) -> Any:
            merged = merge(structure, member[0])
            batch = merged.dataset.prepare(jax.random.key(0), stored, False)
            return evaluated(merged, member[1], batch, index)

        outputs = jax.lax.map(one, (numbers, states))
        first = merge(structure, jax.tree.map(lambda leaf: leaf[0], numbers))
        batch = first.dataset.prepare(jax.random.key(0), stored, False)
        return first.task.metrics(first.task.average(outputs), batch)  # type: ignore[attr-defined]

    @jax.jit
    def evaluate(numbers: Any, states: Any, data: Data) -> Sums:
        def body(index: Int[Array, ""], totals: Any) -> Any:
            return jax.tree.map(jnp.add, totals, sums_of(numbers, states, data, index))

        shapes = jax.eval_shape(sums_of, numbers, states, data, jnp.int32(0))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, num_evaluation_batches(data, batch_size), body, zeros)

    return evaluate
