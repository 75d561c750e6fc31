"""Two centuries of sunspots, shipped with the package: a short series to forecast."""

import dataclasses
from importlib import resources

import numpy as np

from neuralmon.data.tables.csv_file import CsvFile
from neuralmon.data.tables.series import Series, read_steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sunspots(Series):
    """The yearly mean number of sunspots, 1700 to 2008; a step is a year, and a cycle takes about eleven.

    Source: National Geophysical Data Center, as in statsmodels' `sunspots` (see `embedded/README.md`).
    """

    def series(self) -> tuple[tuple[str, ...], np.ndarray, str]:
        """See `Series.series`."""
        file = CsvFile.open(str(resources.files("neuralmon.data") / "embedded" / "sunspots.csv"))
        return ("sunspots",), read_steps(file, ("SUNACTIVITY",)), ""
