"""A table in a text file: which of its columns hold numbers and which words, and where in it something is wrong."""

import csv
import dataclasses
import difflib
import io
import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

import numpy as np

from neuralmon.data.tables.csv_text import Lines, read_text
from neuralmon.errors import RequestError

Kind = Literal["numbers", "words"]

MISSING = frozenset({"", "?", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "NULL", "null"})
_DELIMITERS = ",;\t|"
# Rows that are strings at the same time; a column is what its rows among the first so many are.
_BLOCK = 2**10


@dataclasses.dataclass(frozen=True)
class Cells:
    """One column of a table.

    Attributes:
      values: its numbers, float64; or for words their positions in `words`, int32; (rows,).
      words: its different words, sorted: as numbers where all of them are; None: it holds numbers.
    """

    values: np.ndarray
    words: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class CsvFile:
    """A file in memory, as text, with its head read. Rows are counted from 1, the first one below the head.

    Attributes:
      path: where it lies.
      text: its content.
      delimiter: the character between two values.
      head: the names of its columns, in order; all different.
      sha256: of its bytes.
    """

    path: str
    text: str = dataclasses.field(repr=False)
    delimiter: str
    head: tuple[str, ...]
    sha256: str

    @classmethod
    def open(cls, path: str, delimiter: str = ",") -> "CsvFile":
        """Reads a file: UTF-8, with or without a byte order mark; `delimiter` "auto" is found in the head.

        Raises:
          RequestError: there is no such file, it is no text, or its head is not one of a table.
        """
        text, sha256 = read_text(path)
        first = next((line for line in io.StringIO(text, newline="") if line.strip()), "")
        found = max(_DELIMITERS, key=first.count)
        delimiter = {"auto": found, "tab": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise RequestError(f"dataset.delimiter: {delimiter!r} is neither one character nor 'tab' nor 'auto'")
        file = cls(path, text, delimiter, (), sha256)
        head = tuple(name.strip() for name in next(file._lines(), ()))
        if not head:
            raise RequestError(f"{path} is empty: the first line has to name the columns")
        if delimiter != found and len(head) == 1 and found in first:
            what = f"{path} has one column only, {head[0]!r:.80}, where values are separated by {delimiter!r}"
            advice = "tab" if found == "\t" else found
            raise RequestError(f"{what}: they seem to be by {found!r}; give dataset.delimiter={advice!r}")
        if double := [name for name in head if head.count(name) > 1]:
            raise RequestError(f"{path}: {head.count(double[0])} columns are called {double[0]!r}; rename them")
        return dataclasses.replace(file, head=head)

    def check_names(self, names: Iterable[str], field: str) -> None:
        """Raises RequestError if a name, which the dataset's `field` gives, is not that of a column."""
        for name in names:
            if name not in self.head:
                lower = {known.lower(): known for known in self.head}
                close = difflib.get_close_matches(name.lower(), lower, n=1)
                hint = f" (did you mean {lower[close[0]]!r}?)" if close else ""
                known = ", ".join(map(repr, self.head[:20])) + (", ..." if len(self.head) > 20 else "")
                raise RequestError(f"{self.path} has no column {name!r}{hint}, see {field}; its columns are {known}")

    def read(
        self,
        names: Sequence[str],
        kinds: Mapping[str, Kind],
        exact: Collection[str] = (),
        missing: Literal["refuse", "drop", "keep"] = "refuse",
    ) -> dict[str, Cells]:
        """Returns the columns called `names`, of the kinds that `kinds` says, or as found where it says none.

        Where `missing` is "drop", rows without a value in one of the columns are left out; where it is "keep", missing
        numbers are NaN. In columns of words that are
        `exact`, all words are as good, `NA` and the like too: only empty cells are missing.

        Raises:
          RequestError: a row has too many or too few values, a value is missing or infinite, or text where numbers are.
        """
        table, words = self._parse(names, kinds)
        kept = np.ones(len(table[names[0]]), bool)
        for name, values in table.items():
            if name in words and name not in kinds:
                self._check_words(name, values, words[name])
            lacking = self._lacking(name, values, words.get(name), frozenset({""}) if name in exact else MISSING)
            if missing == "refuse" and lacking.any():
                what = f"{self.where(int(lacking.argmax()), name)}: there is no value"
                advice = (
                    "fill them in, or leave the rows out (in training, dataset.missing=drop does, or dataset.ignore)"
                )
                raise RequestError(f"{what}, as in {lacking.sum():,} of {len(lacking):,} rows; {advice}")
            kept &= ~lacking | (missing == "keep")
        if not kept.any():
            raise RequestError(f"{self.path}: every row lacks a value; leave columns out (dataset.ignore)")
        return {name: _sorted(values[kept], words.get(name)) for name, values in table.items()}

    def _parse(
        self, names: Sequence[str], given: Mapping[str, Kind]
    ) -> tuple[dict[str, np.ndarray], dict[str, tuple[str, ...]]]:
        """Returns each column's numbers, or codes of its words; and the words of those that hold any, by their code."""
        kinds = dict(given)
        blocks: dict[str, list[np.ndarray]] = {name: [] for name in names}
        codes: dict[str, dict[str, int]] = {name: {} for name in names}
        rows, size = self._lines(), 0
        next(rows)
        while block := list(itertools.islice(rows, _BLOCK)):
            self._check_widths(block, size)
            columns = list(zip(*block, strict=True))
            for name in names:
                cells = columns[self.head.index(name)]
                values = None if kinds.get(name) == "words" else _numbers(cells)
                kind = kinds.setdefault(name, "words" if values is None else "numbers")
                if values is None and kind == "numbers":
                    row = next(row for row, cell in enumerate(cells) if _number(cell) is None)
                    advice = "correct it" + ("" if name in given else f", or give dataset.categorical={name}")
                    raise RequestError(f"{self.where(size + row, name)}: {cells[row]!r:.80} is no number; {advice}")
                if values is None:
                    known = codes[name]
                    found = (known.setdefault(cell.strip(), len(known)) for cell in cells)
                    values = np.fromiter(found, np.int32, len(cells))
                blocks[name].append(values)
            size += len(block)
        if not size:
            raise RequestError(f"{self.path} has no rows below its head")
        words = {name: tuple(codes[name]) for name in names if kinds[name] == "words"}
        return {name: np.concatenate(found) for name, found in blocks.items()}, words

    def where(self, row: int, column: str | None = None) -> str:
        """Returns how a person finds a row, or a value in it; `row` counts from 0."""
        lines = self._lines()
        next(itertools.islice(lines, row + 1, None), None)
        return f"{self.path}, row {row + 1} (line {lines.line_num})" + (f", column {column!r}" if column else "")

    def _lines(self) -> Lines:
        text = io.StringIO(self.text, newline="")
        return Lines(self.path, csv.reader(text, delimiter=self.delimiter, skipinitialspace=True, strict=True))

    def _check_widths(self, block: list[list[str]], before: int) -> None:
        width = len(self.head)
        if set(map(len, block)) != {width}:
            row = next(row for row, cells in enumerate(block) if len(cells) != width)
            what = f"{self.where(before + row)}: {len(block[row])} values, where the head names {width} columns"
            raise RequestError(f"{what}; what has {self.delimiter!r} in it needs quotation marks")

    def _check_words(self, name: str, codes: np.ndarray, words: tuple[str, ...]) -> None:
        """Refuses words that seem to be meant as numbers."""
        texts = [code for code, word in enumerate(words) if _number(word) is None]
        number = next((word for word in words if _number(word) is not None and word not in MISSING), None)
        if number is None and not all(_number(words[code].replace(",", ".")) is not None for code in texts):
            return
        row = int(np.isin(codes, texts).argmax())
        what = f"{self.where(row, name)}: {words[codes[row]]!r:.80} is no number"
        if number is None:
            raise RequestError(f"{what}: write it with a point, not a comma")
        advice = f"correct it, or, if they are names, give dataset.categorical={name}"
        raise RequestError(f"{what}, and others in the column are, such as {number!r}; {advice}")

    def _lacking(
        self, name: str, values: np.ndarray, words: tuple[str, ...] | None, missing: Collection[str]
    ) -> np.ndarray:
        """Returns in which rows a value is missing; refuses infinities and what float32 cannot hold."""
        if words is not None:
            return np.isin(values, [code for code, word in enumerate(words) if word in missing])
        if (large := np.abs(values) > np.finfo(np.float32).max).any():
            row = int(large.argmax())
            raise RequestError(
                f"{self.where(row, name)}: {values[row]:g} is infinite, or beyond the range of float32; correct it"
            )
        return np.isnan(values)


def _number(cell: str) -> float | None:
    """Returns the number that a cell says, NaN where a value is missing, None if it is text."""
    try:
        # Python's own 1_000 is no number in a table.
        return None if "_" in cell else float(cell)
    except ValueError:
        return np.nan if cell.strip() in MISSING else None


def _numbers(cells: Sequence[str]) -> np.ndarray | None:
    if "_" not in "".join(cells):
        try:
            return np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            pass
    numbers = list(map(_number, cells))
    return None if None in numbers else np.array(numbers, np.float64)


def _sorted(values: np.ndarray, words: tuple[str, ...] | None) -> Cells:
    """Returns a column whose words, those that occur, are in order."""
    if words is None:
        return Cells(values)
    used = [words[code] for code in np.unique(values)]
    numeric = all(word not in MISSING and _number(word) is not None for word in used)
    ordered = sorted(used, key=lambda word: (float(word), word)) if numeric else sorted(used)
    position = {word: place for place, word in enumerate(ordered)}
    return Cells(np.array([position.get(word, -1) for word in words], np.int32)[values], tuple(ordered))
