"""Texts in a column of a table, their classes in another one."""

import dataclasses

import numpy as np

from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.tables.csv_file import CsvFile
from neuralmon.data.text.labelled import LabelledText, Source
from neuralmon.errors import RequestError

_MANY = 1_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextCsv(LabelledText):
    """A CSV or TSV file of texts with classes, its columns named by its first line: sentiment, spam, topics.

    `TextCsv(path="reviews.csv", text="review", target="sentiment")`. Quoted values may hold delimiters and line breaks.

    Attributes:
      path: the file: UTF-8 text.
      text: the column of the texts.
      target: the column of the classes; each different value is a class.
      delimiter: the character between two values, "tab", or "auto": the one that is most frequent in the first line.
      split: how rows are cut into training, validation and test examples.
    """

    path: str
    text: str = "text"
    target: str = "label"
    delimiter: str = "auto"
    split: Split = dataclasses.field(default_factory=RandomSplit)

    def source(self) -> Source:
        """See `LabelledText.source`."""
        file = CsvFile.open(self.path, self.delimiter)
        file.check_names((self.text,), "dataset.text")
        file.check_names((self.target,), "dataset.target")
        if self.text == self.target:
            raise RequestError(f"dataset.target: {self.target!r} is the column of the texts too")
        both = (self.text, self.target)
        cells = file.read(both, dict.fromkeys(both, "words"), exact=both)
        texts, classes = cells[self.text].words or (), cells[self.target].words or ()
        if len(classes) < 2:
            raise RequestError(f"{self.path}: there is only one class, {classes[0]!r}, in column {self.target!r}")
        if len(classes) > _MANY:
            what = f"{self.path}, column {self.target!r} holds {len(classes):,} different values"
            raise RequestError(f"{what}, which are hardly classes: is it the column of the texts?")
        try:
            rows = self.split.rows(len(cells[self.text].values))
        except RequestError as error:
            raise RequestError(f"{self.path}: {error}") from None
        return Source(
            texts={name: [texts[code] for code in cells[self.text].values[part]] for name, part in rows.items()},
            targets={name: cells[self.target].values[part].astype(np.int32) for name, part in rows.items()},
            class_names=classes,
            names={name: [f"{self.path}, row {row + 1}" for row in part] for name, part in rows.items()},
            fingerprint=file.sha256,
        )

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns the texts of a file as stored, and which is which.

        A file whose name ends with .csv or .tsv is a table with the column of the texts, its classes are not needed;
        any other holds one text a line.

        Raises:
          RequestError: there is no such file or column, or no text in it.
        """
        if not path.lower().endswith((".csv", ".tsv")):
            return super().read_inputs(path)
        file = CsvFile.open(path, self.delimiter)
        file.check_names((self.text,), "what the model was trained on")
        cells = file.read((self.text,), {self.text: "words"}, exact=(self.text,))[self.text]
        words = cells.words or ()
        names = [f"row {row + 1}" for row in range(len(cells.values))]
        return names, self.encode([words[code] for code in cells.values], [f"{path}, {name}" for name in names])
