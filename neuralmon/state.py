"""What training changes: the only thing that a checkpoint holds."""

import dataclasses
from typing import Any

import jax
from jaxtyping import Array, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state between two steps.

    There is no random key and no data position in it: both are functions of the seed and the step.

    Attributes:
      step: number of updates done, int32.
      params: the model's parameters.
      model_state: the model's other collections, such as running statistics; {} for most models.
      optimizer_state: optax state of the parameters that are not frozen.
      average: running average of the parameters, which evaluation uses; None without `Optimizer.ema_decay`.
    """

    step: Int[Array, ""]
    params: Any
    model_state: Any
    optimizer_state: Any
    average: Any = None

    @property
    def variables(self) -> dict[str, Any]:
        """What `model.apply` takes to evaluate or predict."""
        return {"params": self.params if self.average is None else self.average, **self.model_state}
