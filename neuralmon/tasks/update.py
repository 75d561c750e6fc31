"""What a step does with the parameters."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import Array

from neuralmon.data import Batch
from neuralmon.tasks.task import Sums

# What `Update.apply` returns: the new parameters, the model's other collections, the optimizer's state, the sums.
Updated = tuple[Any, dict[str, Any], Any, Sums]


@dataclasses.dataclass(frozen=True)
class Update:
    """How a step moves the parameters; both functions are pure and traced.

    Plain gradient descent on the task's loss is the update of most tasks. A task that is none has a method
    `update(model, optimizer, num_steps) -> Update`. Numbers in its fields are traced ones, like those of the optimizer.
    What is around an update is the same for all: the order of the examples, augmentation, random keys by step, the
    average of the parameters, running statistics of frozen layers, checkpoints.

    Attributes:
      init: (params) -> optimizer_state, any pytree of arrays.
      apply: (params, model_state, optimizer_state, key, prepared batch) -> (params, model_state, optimizer_state,
        sums). It leaves alone what `optimizer.frozen` matches. `sums` has "loss", and what `Task.report` knows.
    """

    init: Callable[[Any], Any]
    apply: Callable[[Any, dict[str, Any], Any, Array, Batch], Updated]
