"""What comes next in a series."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax import numpy as jnp
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt
from neuralmon.sampling import SampleRequest
from neuralmon.tasks.forecast_baselines import Autoregression, persistence
from neuralmon.tasks.regression import Regression
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import table
from neuralmon.tasks.task import Sums
from neuralmon.tasks.trained import Findings, Trained

_STUDIED = 10_000  # examples of which forecasts go on from themselves


@dataclasses.dataclass(frozen=True)
class Forecast(Regression):
    """The next steps of a series: windows (batch, window, columns), and the `horizon` steps behind them.

    A model gives one of

    - (batch, columns), many to one: the step after the window;
    - (batch, window, columns), many to many: after each step of the window the next one. All of them are learnt, each
      from the true steps before it (teacher forcing); metrics are those of the last;
    - with `at_once`, (batch, horizon * columns): the whole horizon.

    The first two run freely when there is more than one step to forecast: a forecast becomes the last step of the
    window, as if it were true, and so on. `study` does so over the data's horizon, and does the same by repeating the
    last step (persistence) and by a linear autoregression.

    Attributes:
      at_once: forecast the whole horizon in one go, without running freely.
      baseline_order: how many steps the linear autoregression sees that forecasts are compared with.
    """

    at_once: bool = False
    baseline_order: PositiveInt = 9

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        shape = _columns_and_horizon(spec)
        return None if shape is None else math.prod(shape) if self.at_once else shape[0]

    def loss(self, outputs: Float[Array, "batch ..."], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`. Errors are those of the step after the window, with `at_once` of all steps."""
        every, measured = self._pairs(outputs, batch)
        _, sums = super().loss(*measured)
        total, _ = super().loss(*every)
        return total, {**sums, "loss": total}

    def metrics(self, outputs: Float[Array, "batch ..."], batch: Batch) -> Sums:
        """See `Task.metrics`."""
        every, measured = self._pairs(outputs, batch)
        return {**super().metrics(*measured), "loss": super().loss(*every)[0]}

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """See `Regression.report`."""
        return super().report(sums, self._measured(spec))

    def predict(self, outputs: Float[Array, "batch ..."], spec: Spec) -> dict[str, Array]:
        """Returns `prediction`, the step after the window or with `at_once` all steps, in the data's own units."""
        columns = spec.features["inputs"].shape[-1]
        latest = outputs if self.at_once else outputs.reshape(len(outputs), -1)[:, -columns:]
        return super().predict(latest, self._measured(spec))

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        shape = _columns_and_horizon(spec)
        if shape is None:
            return "Forecast needs a series: inputs (window, columns), and steps of as many columns as targets"
        columns, horizon = shape
        window, given = spec.features["inputs"].shape[0], output_shape(outputs)
        allowed = [(columns * horizon,)] if self.at_once else [(columns,), (window, columns)]
        if given is None or given[1:] not in [*allowed, *([()] if allowed[0] == (1,) else [])]:
            shapes = " or ".join(str(("batch", *one)).replace("'", "") for one in allowed)
            return f"Forecast needs outputs of shape {shapes}; the model's are {said(outputs)}"
        return None

    def study(self, trained: Trained, split: str) -> Findings:
        """Returns the errors of free-running forecasts over the horizon, in the data's units, beside the baselines'.

        The table `forecasts` has RMSE and MAE of each, means over the columns; if the horizon is longer than a step,
        `rmse_by_step` says how they grow.
        """
        spec = trained.dataset.spec()
        columns, horizon = _columns_and_horizon(spec) or (1, 1)
        known, train = trained.examples(split, _STUDIED), trained.examples("train")
        windows, truth = known["inputs"], known["targets"].reshape(-1, horizon, columns).astype(np.float64)
        following = train["targets"].reshape(-1, horizon, columns)
        # With the rest of the last horizon, the training series is whole.
        linear = Autoregression(
            train["inputs"], np.concatenate([following[:, 0], following[-1, 1:]]), self.baseline_order
        )
        forecasts = {
            "model": self.go_on(trained, windows, horizon),
            "persistence": persistence(windows, horizon),
            f"AR({linear.order})": linear.forecast(windows, horizon),
        }
        errors = {name: forecast - truth for name, forecast in forecasts.items()}
        metrics: dict[str, Any] = {
            "forecasts": table(
                tuple(errors),
                rmse=[np.sqrt(np.square(error).mean(axis=(0, 1))).mean() for error in errors.values()],
                mae=[np.abs(error).mean() for error in errors.values()],
            )
        }
        by_step = {name: np.sqrt(np.square(error).mean(axis=0)).mean(axis=-1) for name, error in errors.items()}
        if horizon > 1:
            metrics["rmse_by_step"] = table(tuple(str(step + 1) for step in range(horizon)), **by_step)
        drawn = {
            "context": windows[0, :, 0],
            "actual": np.concatenate([truth[:, 0, 0], truth[-1, 1:, 0]]),
            "forecasts": {name: forecast[:, :, 0].tolist() for name, forecast in forecasts.items()},
            "rmse": {name: values.tolist() for name, values in by_step.items()},
            "title": f"Forecasts of {split} data",
        }
        return Findings(metrics=metrics, figures={"forecast": ("forecast", drawn)})

    def go_on(self, trained: Trained, windows: np.ndarray, steps: int) -> np.ndarray:
        """Returns forecasts (n, steps, columns) of windows (n, window, columns), both in the data's own units."""
        spec, columns = trained.dataset.spec(), windows.shape[-1]
        mean, stddev = (
            np.asarray(x or default)[:columns]
            for x, default in ((spec.target_mean, [0.0] * columns), (spec.target_stddev, [1.0] * columns))
        )
        seen = jnp.asarray((windows - mean) / stddev, jnp.float32)
        found: list[Array] = []
        while sum(block.shape[1] for block in found) < steps:
            outputs = trained.apply(seen).reshape(len(windows), -1, columns)
            found.append(outputs if self.at_once else outputs[:, -1:])
            seen = jnp.concatenate([seen, found[-1]], axis=1)[:, -windows.shape[1] :]
        return np.concatenate(found, axis=1)[:, :steps].astype(np.float64) * stddev + mean

    def sample(self, trained: Trained, request: SampleRequest) -> Iterator[str]:
        """Yields the steps that come after the series, or after the file `--input`; by default the data's horizon."""
        request.only("input", "length", what="a forecast")
        spec = trained.dataset.spec()
        columns, horizon = _columns_and_horizon(spec) or (1, 1)
        window = spec.features["inputs"].shape[0]
        if request.input is None:
            last = trained.examples(list(spec.sizes)[-1])
            known = np.concatenate([last["inputs"][-1], last["targets"][-1].reshape(-1, columns)])
        else:
            read = getattr(trained.dataset, "read_inputs", None)
            if read is None:
                raise RequestError(f"--input={request.input}: this data has no reader; leave it out")
            known = np.asarray(read(request.input)[1]).reshape(-1, columns)
        facts = getattr(trained.dataset, "facts", None)
        names = [column.name for column in facts.columns] if facts is not None else [str(i) for i in range(columns)]
        yield f"{'step':<6}" + "".join(f"{name:>14}" for name in names) + "\n"
        for step, row in enumerate(self.go_on(trained, known[None, -window:], request.length or horizon)[0], 1):
            yield f"{step:<6}" + "".join(f"{value:>14.6g}" for value in row) + "\n"

    def _pairs(self, outputs: Array, batch: Batch) -> tuple[tuple[Array, Batch], tuple[Array, Batch]]:
        """Returns forecasts with their targets: those that are learnt, and those that are measured."""
        inputs = batch["inputs"]
        size, window, columns = inputs.shape
        targets = batch["targets"].reshape(size, -1)
        if self.at_once:
            return ((outputs, {**batch, "targets": targets}),) * 2
        following = {**batch, "targets": targets[:, :columns]}
        if outputs.ndim < 3:
            return ((outputs, following),) * 2
        taught = jnp.concatenate([inputs[:, 1:].reshape(size, -1), following["targets"]], axis=1)
        every = outputs.reshape(size, window * columns), {**batch, "targets": taught}
        return every, (outputs[:, -1], following)

    def _measured(self, spec: Spec) -> Spec:
        """Returns what the data is to the metrics: without `at_once` a horizon of one step."""
        shape = _columns_and_horizon(spec)
        if self.at_once or shape is None:
            return spec
        columns, targets = shape[0], spec.features["targets"]
        one = jax.ShapeDtypeStruct((columns,) if columns > 1 else (), targets.dtype)
        return dataclasses.replace(
            spec,
            features={**spec.features, "targets": one},
            target_mean=spec.target_mean[:columns],
            target_stddev=spec.target_stddev[:columns],
        )


def _columns_and_horizon(spec: Spec) -> tuple[int, int] | None:
    """Returns how many numbers a step has, and how many steps are to be forecast; None: this is no series."""
    targets = target_shape(spec)
    inputs: tuple[int, ...] = spec.features["inputs"].shape if "inputs" in spec.features else ()
    if targets is None or len(inputs) != 2 or spec.num_classes is not None or math.prod(targets) % inputs[1]:
        return None
    return inputs[1], math.prod(targets) // inputs[1]
