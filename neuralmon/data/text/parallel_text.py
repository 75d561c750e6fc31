"""Your own pairs of texts: two files of lines, or a table of two columns."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.tables.csv_text import read_text
from neuralmon.data.text.parallel import Pairs, Parallel
from neuralmon.errors import RequestError, did_you_mean


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelText(Parallel):
    """Pairs of lines: line n of `target` is what is to be written when line n of `source` is given.

    Either two files, `ParallelText(source="train.en", target="train.es")`, or one with a tab between its columns,
    `ParallelText(path="pairs.tsv", source="1", target="2")`; columns have numbers, or the names of its first line.

    Attributes:
      source: the file of sources; with `path` their column.
      target: the file of targets; with `path` their column.
      path: the file in which both are, or None.
      validation: two files (source, target), or with `path` one of the same columns, on which settings are chosen; ():
        pairs of the training, as `split` says.
      test: the same for the test.
      split: how pairs are split.
    """

    source: str = ""
    target: str = ""
    path: str | None = None
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    split: Split = dataclasses.field(default_factory=RandomSplit)

    def read_pairs(self) -> dict[str, Pairs]:
        """See `Parallel.read_pairs`."""
        wanted = 2 if self.path is None else 1
        for name, given in {"source": self.source, "target": self.target}.items():
            if not given:
                raise RequestError(f"dataset.{name} is empty: give a file of lines, or with dataset.path a column")
        found: dict[str, Pairs] = {}
        for name, files in {"validation": self.validation, "test": self.test}.items():
            if files:
                if len(files) != wanted:
                    raise RequestError(f"dataset.{name}: {len(files)} files; give {wanted}, as for the training")
                found[name] = self._pairs(*files)
        sources, targets = self._pairs(*((self.source, self.target) if self.path is None else (self.path,)))
        rows = self.split.rows(len(sources), test="test" not in found, validation="validation" not in found)
        cut = {name: ([sources[row] for row in own], [targets[row] for row in own]) for name, own in rows.items()}
        return {name: {**cut, **found}[name] for name in ("train", "validation", "test") if name in {**cut, **found}}

    def _pairs(self, *files: str) -> Pairs:
        if len(files) == 1:
            return _columns(files[0], self.source, self.target)
        sources, targets = (_lines(path) for path in files)
        if len(sources) != len(targets):
            what = f"{files[0]} has {len(sources):,} lines and {files[1]} {len(targets):,}"
            raise RequestError(f"{what}: line n of one belongs to line n of the other, so there have to be as many")
        for path, lines in zip(files, (sources, targets), strict=True):
            for number, line in enumerate(lines, start=1):
                if not line.strip():
                    raise RequestError(f"{path}, line {number} is empty: give a text, or delete it in both files")
        return sources, targets


def _lines(path: str) -> list[str]:
    text = read_text(path, "a text file")[0]
    if not text.strip():
        raise RequestError(f"{path} is empty: give a file with a text in each line")
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def _columns(path: str, *columns: str) -> tuple[list[str], list[str]]:
    rows = [line.split("\t") for line in _lines(path)]
    first, numbers = 1, [int(column) - 1 for column in columns if column.isdecimal()]
    if len(numbers) < len(columns):
        head, first = rows.pop(0), 2
        for column in columns:
            if column not in head:
                hint = did_you_mean(column, head)
                raise RequestError(f"{path} has no column {column!r}{hint}: its first line says {', '.join(head)}")
        numbers = [head.index(column) for column in columns]
    for line, row in enumerate(rows, start=first):
        for number in numbers:
            if not 0 <= number < len(row):
                what = f"there is no column {number + 1}, but {len(row)} with a tab between them"
                raise RequestError(f"{path}, line {line}: {what}")
            if not row[number].strip():
                raise RequestError(
                    f"{path}, line {line}, column {number + 1} is empty: give a text, or delete the line"
                )
    source, target = numbers
    return [row[source] for row in rows], [row[target] for row in rows]


def read_lines(text_or_path: str) -> Sequence[str]:
    """Returns the lines of a file, or of a text if there is no such file.

    Raises:
      RequestError: there is no text in it, or it is the name of a file that does not exist.
    """
    path = Path(text_or_path).expanduser()
    try:
        exists = path.exists()
    except OSError:  # such as a text too long for a name
        exists = False
    if exists:
        return _lines(text_or_path)
    if " " not in text_or_path and path.suffix in (".txt", ".tsv", ".csv"):
        raise RequestError(f"there is no file {text_or_path} (relative paths start at {Path.cwd()})")
    if not text_or_path.strip():
        raise RequestError("--input is empty: give a text, or a file with a text in each line")
    return text_or_path.split("\n")
