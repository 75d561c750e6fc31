"""The trials of one configuration on a split of the data: each on its own, and what they say together."""

import operator
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
) -> tuple[list[dict[str, Any]], dict[str, Any] | None]:
    """Returns the metrics of each of some trainings, and of the average of what they say.

    The average is the task's (`average(outputs)`, members first): of probabilities, or of numbers. None: of what this
    task's models say there is none, or there is only one training.

    Args:
      experiment: a resolved experiment of their structure.
      numbers: of each training.
      states: of each training, on the host.
      data: a split.
    """
    structure, same = program_of(split(experiment)[0])
    key = (same, len(states) > 1, is_reference())
    if key not in _evaluators:
        _evaluators[key] = _evaluator(structure, len(states) > 1)

    def stacked(*leaves: Any) -> np.ndarray:
        return np.stack(leaves)

    both = jax.tree.map(stacked, *numbers), jax.tree.map(stacked, *states)
    each, together = jax.device_get(_evaluators[key](*both, data))
    report, spec = experiment.task.report, experiment.dataset.spec()
    members = [report(jax.tree.map(operator.itemgetter(k), each), spec) for k in range(len(states))]
    return members, None if together is None else report(together, spec)


_evaluators: dict[Any, Any] = {}


def _evaluator(structure: Experiment, several: bool) -> Any:
    """Returns the compiled function: (numbers, states, data) -> (sums of each, sums of the average or None)."""
    average = getattr(structure.task, "average", None) if several else None
    batch_size = structure.training.batch_size

    def sums_of(numbers: Any, states: Any, data: Data, index: Int[Array, ""]) -> tuple[Sums, Sums | None]:
        stored = evaluation_batch(data, index, batch_size)

        def one(member: Any) -> tuple[Any, Sums]:
            merged = merge(structure, member[0])
            batch = merged.dataset.prepare(jax.random.key(0), stored, False)
            outputs = evaluated(merged, member[1], batch, index)
            return outputs, merged.task.metrics(outputs, batch)

        outputs, sums = jax.lax.map(one, (numbers, states))
        if average is None:
            return sums, None
        first = merge(structure, jax.tree.map(lambda leaf: leaf[0], numbers))
        batch = first.dataset.prepare(jax.random.key(0), stored, False)
        return sums, first.task.metrics(average(outputs), batch)

    @jax.jit
    def evaluate(numbers: Any, states: Any, data: Data) -> tuple[Sums, Sums | None]:
        def body(index: Int[Array, ""], totals: Any) -> Any:
            return jax.tree.map(jnp.add, totals, sums_of(numbers, states, data, index))

        shapes = jax.eval_shape(sums_of, numbers, states, data, jnp.int32(0))
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, num_evaluation_batches(data, batch_size), body, zeros)

    return evaluate
