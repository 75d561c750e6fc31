"""A series of your own."""

import dataclasses

import numpy as np

from neuralmon.data.tables.csv_file import CsvFile
from neuralmon.data.tables.series import Series, read_steps
from neuralmon.errors import RequestError


@dataclasses.dataclass(frozen=True, kw_only=True)
class CsvSeries(Series):
    """Columns of a CSV file whose rows follow each other in time: `CsvSeries(path="rain.csv", columns=("mm",))`.

    The first line names the columns, the first row is the oldest. All `columns` are given, and all are forecast.

    Attributes:
      path: the file: UTF-8 text.
      columns: the columns that make the series: numbers, none missing.
      delimiter: the character between two values, "tab", or "auto": the one that is most frequent in the head.
    """

    path: str
    columns: tuple[str, ...]
    delimiter: str = ","

    def series(self) -> tuple[tuple[str, ...], np.ndarray, str]:
        """See `Series.series`."""
        file = CsvFile.open(self.path, self.delimiter)
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise RequestError(f"dataset.columns: {self.columns} has to name at least one column, and none twice")
        file.check_names(self.columns, "dataset.columns")
        return self.columns, read_steps(file, self.columns), file.sha256
