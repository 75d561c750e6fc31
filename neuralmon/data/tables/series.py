"""Series in time, cut into windows: what was, and what came next."""

import abc
import dataclasses

import numpy as np
from jaxtyping import Array

from neuralmon.data.labelled import Facts, LabelledDataset, TableColumn
from neuralmon.data.splits import ChronologicalSplit
from neuralmon.data.tables.array_files import open_array, scan
from neuralmon.data.tables.csv_file import CsvFile
from neuralmon.data.tables.standardize import Moments, standardize
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Series(LabelledDataset):
    """Windows of a series, (window, columns) float32; the targets are the `horizon` steps behind, (horizon, columns).

    Of the targets an axis of length 1 is left out: one number a step and a horizon of 1 make targets ().

    Steps are cut chronologically, and an example belongs to the split that all its targets are in: each target of
    validation is later than every one of training, each of the test later still. The first windows of a split do reach
    back into steps that are targets of the split before, as they would in real forecasting. With a horizon of 1 each
    step is the target of one example.

    Inputs and targets are standardised column by column, by the steps that training sees.

    Attributes:
      window: steps that are given.
      horizon: steps that are to be forecast.
      split: how the steps are cut into training, validation and test targets.
    """

    window: PositiveInt = 22
    horizon: PositiveInt = 1
    split: ChronologicalSplit = dataclasses.field(default_factory=ChronologicalSplit)

    @abc.abstractmethod
    def series(self) -> tuple[tuple[str, ...], np.ndarray, str]:
        """Returns the names of the columns, all steps (steps, columns), the first one first, and a fingerprint."""

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        names, steps, fingerprint = self.series()
        rows = self._rows(len(steps))
        seen = Moments.of(steps[: rows["train"][-1] + self.window + self.horizon])
        if (coarse := seen.too_coarse()).size:
            what = f"column {names[coarse[0]]!r}: differences as small as these are lost in float32"
            raise RequestError(f"{what}, with a mean of {seen.mean[coarse[0]]:.6g}; subtract a constant from it")
        mean, stddev = seen.mean.tolist(), seen.stddev.tolist()
        columns = zip(names, mean, stddev, strict=True)
        return Facts(
            sizes={name: len(part) for name, part in rows.items()},
            shape=(self.window, len(names)),
            dtype="float32",
            target_shape=tuple(size for size in (self.horizon, len(names)) if size > 1),
            target_dtype="float32",
            target_mean=tuple(mean) * self.horizon,
            target_stddev=tuple(stddev) * self.horizon,
            columns=tuple(TableColumn(name=name, mean=m, stddev=s) for name, m, s in columns),
            fingerprint=fingerprint,
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        facts = self._facts()
        _, steps, fingerprint = self.series()
        if facts.fingerprint != fingerprint:
            raise RequestError("the series is not the one that the run began with (its SHA-256 is another)")
        inputs = windows(steps, self.window)
        targets = windows(steps[self.window :], self.horizon)
        targets = targets.reshape(-1, *facts.target_shape)
        return {
            name: {"inputs": inputs[part], "targets": targets[part]} for name, part in self._rows(len(steps)).items()
        }

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns ("after row 22", ...) and every window (n, window, columns) of a CSV file that has the same columns.

        The last one ends with the file, and what is forecast from it is what comes next. A .npy file holds windows.

        Raises:
          RequestError: it is no such file, or has fewer rows than a window.
        """
        columns = self._facts().columns
        if path.endswith(".npy") or ".npz" in path:
            array = open_array(path, "--input")
            scan(array, "--input")
            return [f"row {index + 1}" for index in range(array.size // (self.window * len(columns)))], array
        file = CsvFile.open(path, "auto")
        file.check_names((column.name for column in columns), "what the model was trained on")
        steps = read_steps(file, tuple(column.name for column in columns))
        if len(steps) < self.window:
            what = f"{path} has {len(steps)} rows, fewer than a window of {self.window}"
            raise RequestError(f"{what}: give at least the last {self.window} steps")
        return [f"after row {row}" for row in range(self.window, len(steps) + 1)], windows(steps, self.window)

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs with mean 0 and variance 1 over the steps that training sees."""
        return standardize(inputs, self._facts().columns)

    def _rows(self, size: int) -> dict[str, np.ndarray]:
        """Returns the examples of each split; example n has its first target at step n + window."""
        if size < self.window + self.horizon:
            what = f"dataset.window: {self.window} rows and a horizon of {self.horizon}"
            raise RequestError(f"{what} are more than the {size} rows of the series; make them shorter")
        rows = {}
        for name, steps in self.split.rows(size - self.window).items():
            if len(steps) < self.horizon:
                what = f"dataset.horizon: {self.horizon} steps are more than the {len(steps)} of {name}"
                raise RequestError(f"{what}; make it shorter, or give {name} a larger share (dataset.split)")
            rows[name] = steps[: len(steps) - self.horizon + 1]
        return rows


def windows(steps: np.ndarray, length: int) -> np.ndarray:
    """Returns every `length` steps in a row, (steps - length + 1, length, columns) float32; nothing is copied."""
    view = np.lib.stride_tricks.sliding_window_view(steps.astype(np.float32), length, axis=0)
    return view.swapaxes(1, 2)


def read_steps(file: CsvFile, names: tuple[str, ...]) -> np.ndarray:
    """Returns columns of numbers (rows, columns), float64, in which no value is missing."""
    cells = file.read(names, dict.fromkeys(names, "numbers"), missing="keep")
    steps = np.stack([cells[name].values for name in names], axis=-1)
    if (missing := np.isnan(steps)).any():
        row, column = np.argwhere(missing)[0]
        what = f"{file.where(int(row), names[column])}: there is no value, as in {missing.sum():,} places"
        raise RequestError(f"{what}; a series leaves no step out: fill it in, such as with the mean of its neighbours")
    return steps
