"""Numbers."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.fields import PositiveNumber
from neuralmon.tasks.moments import moments, squared_deviations
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import counted, mean, table, weighted_sum
from neuralmon.tasks.task import Sums


@dataclasses.dataclass(frozen=True)
class Regression:
    """Numbers: outputs (batch, k) for targets (batch, k), or either without its last axis where k is 1.

    With d = output - target an example's loss is the mean over its k targets of

    - "mse": d^2;
    - "mae": |d|, whose minimum is the median;
    - "huber": d^2 / 2 where |d| < delta, delta (|d| - delta / 2) elsewhere (Huber, "Robust estimation of a location
      parameter", Annals of Mathematical Statistics 35, 1964): outliers pull no harder than what is delta away.

    The loss is that of the targets as the model sees them, which are standardised by most datasets; all other metrics,
    and predictions, are in the data's own units.

    Attributes:
      objective: what is minimised: "mse", the squared error; "mae", the absolute one; "huber", between the two.
      delta: error at which "huber" changes from squared to absolute; in standard deviations if the dataset standardises
        its targets.
    """

    objective: Literal["mse", "mae", "huber"] = "mse"
    delta: PositiveNumber = 1.0

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        shape = target_shape(spec)
        return None if shape is None else math.prod(shape)

    def loss(self, outputs: Float[Array, "batch ..."], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`. `squared_error` and `absolute_error` are sums for each of the k targets."""
        targets, weights = _columns(batch["targets"]), batch["weights"]
        # Without it one column of outputs would silently be spread over all targets.
        if (outputs := _columns(outputs)).shape != targets.shape:
            raise ValueError(f"{outputs.shape[1]} outputs an example do not fit its {targets.shape[1]} targets")
        errors = outputs - targets
        # The slope of JAX's abs is 1 at 0, where this one's is 0: what is right is left alone.
        squared, absolute = jnp.square(errors), errors * jnp.sign(errors)
        losses = {"mse": squared, "mae": absolute, "huber": _huber(errors, self.delta)}[self.objective]
        loss_sum, count = weighted_sum(losses.mean(axis=-1), weights), weights.sum()
        return (loss_sum, count), {
            "loss": (loss_sum, count),
            "squared_error": (weighted_sum(squared, weights), count),
            "absolute_error": (weighted_sum(absolute, weights), count),
        }

    def metrics(self, outputs: Float[Array, "batch ..."], batch: Batch) -> Sums:
        """See `Task.metrics`. `moments` are those of the targets (see `neuralmon.tasks.moments`)."""
        (_, count), sums = self.loss(outputs, batch)
        return {**sums, "moments": (moments(_columns(batch["targets"]), counted(batch["weights"])), count)}

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns the loss and, in the data's own units, rmse, mae, mse; from evaluations r2 too.

        For several targets these are the means of the targets' own, which are in the table `per_target`. `r2`, the
        coefficient of determination, is 1 - sum of squared errors / sum of squared deviations from the mean; for a
        target that never changes it is 1 if all predictions are right, else 0.
        """
        mse, mae = mean(sums["squared_error"]), mean(sums["absolute_error"])
        stddev = np.asarray(spec.target_stddev or np.ones(len(mse)), np.float64)
        columns = {"rmse": np.sqrt(mse) * stddev, "mae": mae * stddev, "mse": mse * stddev**2}
        if "moments" in sums:
            error, spread = np.asarray(sums["squared_error"][0], np.float64), squared_deviations(sums["moments"][0])
            explained = np.divide(error, spread, out=np.where(error == 0, 0.0, 1.0), where=spread > 0)
            columns["r2"] = np.where(np.isnan(error), np.nan, 1 - explained)
        result: dict[str, Any] = {"loss": float(mean(sums["loss"]))}
        result |= {name: float(values.mean()) for name, values in columns.items()}
        if "moments" in sums and len(mse) > 1:
            result["per_target"] = table((), **columns)
        return result

    def predict(self, outputs: Float[Array, "batch ..."], spec: Spec) -> dict[str, Array]:
        """Returns `prediction`, of the shape of the targets and in the data's own units."""
        shape = target_shape(spec)
        shape = outputs.shape[1:] if shape is None else shape
        prediction = outputs.astype(jnp.float32).reshape(-1, *shape)
        if spec.target_stddev:
            offset, scale = (np.asarray(x, np.float32).reshape(shape) for x in (spec.target_mean, spec.target_stddev))
            prediction = prediction * scale + offset
        return {"prediction": prediction}

    def average(self, outputs: Float[Array, "members batch ..."]) -> Float[Array, "batch ..."]:
        """Returns what models say together: the mean of their numbers."""
        return outputs.mean(axis=0)

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        if spec.num_classes is not None:
            task = "MultiLabel" if target_shape(spec) else "Classification"
            return f"Regression needs targets that are numbers; this data's are {spec.num_classes} classes: use {task}"
        count = self.num_outputs(spec)
        if count is None:
            return "Regression needs data with targets, and this data has none"
        shape = output_shape(outputs)
        if not shape or math.prod(shape[1:]) != count:
            needed = f"(batch, {count})" + (" or (batch,)" if count == 1 else "")
            what = f"{count} number{'s' if count > 1 else ''}"
            return f"Regression of {what} needs outputs of shape {needed}; the model's are {said(outputs)}"
        return None

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "rmse", "min"


def _columns(values: Array) -> Float[Array, "batch k"]:
    return jnp.asarray(values, jnp.float32).reshape(values.shape[0], -1)


def _huber(errors: Float[Array, "batch k"], delta: float | Array) -> Float[Array, "batch k"]:
    within = jnp.clip(errors, -delta, delta)
    return jnp.square(within) / 2 + delta * (jnp.abs(errors) - jnp.abs(within))
