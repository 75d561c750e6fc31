"""The contract of a task."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array

from neuralmon.data import Batch, Spec

# Metrics are sums: name -> (sum over examples, sum of their weights). Sums add up over batches, steps and devices, so
# that every example counts once however the data is cut.
Sums = Mapping[str, tuple[Array, Array]]


@runtime_checkable
class Task(Protocol):
    """What the model's output means. Implementations are frozen dataclasses; all methods but `report` are traced."""

    def num_outputs(self, spec: Spec) -> int | None:
        """Returns how many outputs a model of this data needs, for models that leave it open; None: it cannot say."""
        ...

    def loss(self, outputs: Any, batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """Returns (sum of the examples' losses, sum of their weights) and cheap metrics for the training curve."""
        ...

    def metrics(self, outputs: Any, batch: Batch) -> Sums:
        """Returns everything an evaluation reports, the loss included."""
        ...

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns the metrics of the summed `sums`: floats, and tables as nested dicts and lists."""
        ...

    def predict(self, outputs: Any, spec: Spec) -> dict[str, Array]:
        """Returns what the outputs say of each example; numbers in the data's own units (see `Spec.target_mean`)."""
        ...

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """Returns what is wrong when a model with these outputs meets this data, or None."""
        ...

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """Returns the metric by which checkpoints are compared, and which way is better."""
        ...
