"""Two centuries of sunspots, shipped with the package: a short series to forecast."""

import dataclasses
from importlib import resources

import numpy as np
from jaxtyping import Array

from neuralmon.data.labelled import Facts, LabelledDataset, TableColumn
from neuralmon.data.splits import ChronologicalSplit
from neuralmon.data.tables.csv_file import CsvFile
from neuralmon.data.tables.standardize import Moments, standardize
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sunspots(LabelledDataset):
    """The yearly mean number of sunspots, 1700 to 2008: `window` years, (window, 1) float32, and the one to forecast.

    The example of a year has that year's number as its target, and as its inputs those of `window` years, in order, of
    which the last is `horizon` years before. Years are cut chronologically: each target of validation is later than
    every one of training, each of the test later still, and each year is the target of one example. The first windows
    of a split do reach back into years that are targets of the split before, as they would in real forecasting.

    Inputs and targets are standardised by the same two numbers, those of the years that training sees.

    Source: National Geophysical Data Center, as in statsmodels' `sunspots` (see `embedded/README.md`).

    Attributes:
      window: years that are given; a cycle takes about eleven.
      horizon: years from the last one given to the one that is to be forecast.
      split: how the years are cut into training, validation and test examples.
    """

    window: PositiveInt = 22
    horizon: PositiveInt = 1
    split: ChronologicalSplit = dataclasses.field(default_factory=ChronologicalSplit)

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        series, rows = self._series(), self._rows()
        seen = series[: rows["train"][-1] + self.window + self.horizon]
        moments = Moments.of(seen[:, None])
        mean, stddev = float(moments.mean[0]), float(moments.stddev[0])
        return Facts(
            sizes={name: len(part) for name, part in rows.items()},
            shape=(self.window, 1),
            dtype="float32",
            target_dtype="float32",
            target_mean=(mean,),
            target_stddev=(stddev,),
            columns=(TableColumn(name="sunspots", mean=mean, stddev=stddev),),
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        series = self._series().astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(series, self.window)[..., None]
        targets = series[self.window + self.horizon - 1 :]
        return {name: {"inputs": windows[part], "targets": targets[part]} for name, part in self._rows().items()}

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs with mean 0 and variance 1 over the years that training sees."""
        return standardize(inputs, self._facts().columns)

    def _series(self) -> np.ndarray:
        file = CsvFile.open(str(resources.files("neuralmon.data") / "embedded" / "sunspots.csv"))
        return file.read(("SUNACTIVITY",), {"SUNACTIVITY": "numbers"})["SUNACTIVITY"].values

    def _rows(self) -> dict[str, np.ndarray]:
        years = len(self._series())
        if (size := years - self.window - self.horizon + 1) < 1:
            what = f"dataset.window: {self.window} years and a horizon of {self.horizon}"
            raise RequestError(f"{what} are more than the {years} years of the series")
        return self.split.rows(size)
