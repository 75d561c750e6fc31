"""Tables: numbers and words in columns, one or several of which are to be predicted."""

import dataclasses
from typing import Literal

import numpy as np
from jaxtyping import Array

from neuralmon.data.labelled import Facts, LabelledDataset, TableColumn
from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.tables.csv_file import Cells, CsvFile, Kind
from neuralmon.data.tables.standardize import Moments, standardize
from neuralmon.errors import RequestError

# A column of more different words than this is hardly one of categories.
_MANY = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Csv(LabelledDataset):
    """A CSV file whose first line names the columns: `Csv(path="iris.csv", target="species")`.

    Columns of numbers are standardised; columns of words become one input for each word that occurs in the file, 1
    where it is the row's, else 0. They are stored as float32 (inputs,), numbers as they are in the file. Targets are
    classes, int32 (), or numbers, float32 () for one target and (targets,) for several. A column holds what its first
    1,024 rows hold. Quoted values may hold delimiters and line breaks; empty lines are skipped.

    Attributes:
      path: the file: UTF-8 text.
      target: the column that is to be predicted; or several, of numbers.
      features: the columns that it is predicted from; None: all others.
      ignore: columns that are left out.
      categorical: columns of which each value is a name, even where it looks like a number: postcodes, say.
      target_kind: "class": each different value is a class; "number": regression; "auto": words are classes, and
        numbers are numbers.
      only: values of the target, and no rows of others are taken; None: all.
      class_names: names of the classes in the order of the target's values; None: the values, sorted.
      delimiter: the character between two values, "tab", or "auto": the one that is most frequent in the head.
      missing: what is done with rows where a value is missing, that is empty, NA, nan, null or ?: "refuse" the file, or
        "drop" the rows.
      split: how rows are cut into training, validation and test examples.
      standardize: subtract each numeric column's mean over the training rows, and divide by its standard deviation.
      standardize_targets: the same with numeric targets; metrics and predictions are in the data's own units all the
        same.
    """

    path: str
    target: str | tuple[str, ...]
    features: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    target_kind: Literal["auto", "class", "number"] = "auto"
    only: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None
    delimiter: str = ","
    missing: Literal["refuse", "drop"] = "refuse"
    split: Split = dataclasses.field(default_factory=RandomSplit)
    standardize: bool = True
    standardize_targets: bool = True

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        file = CsvFile.open(self.path, self.delimiter)
        inputs, targets = self._columns(file)
        rows = self._rows(file, len(next(iter(targets.values())).values))
        train = rows["train"]
        columns = tuple(self._examine_column(file, name, cells, train) for name, cells in inputs.items())
        facts = Facts(
            sizes={name: len(part) for name, part in rows.items()},
            shape=(_width(columns),),
            dtype="float32",
            columns=columns,
            fingerprint=file.sha256,
        )
        words = next(iter(targets.values())).words
        if words is not None:
            counts = np.bincount(targets[self._targets()[0]].values[train], minlength=len(words))
            return dataclasses.replace(
                facts, class_names=self._class_names(file, words), class_counts=tuple(counts.tolist())
            )
        if self.class_names is not None:
            what = f"dataset.class_names: column {self._targets()[0]!r} holds numbers"
            raise RequestError(f"{what}; if they are classes, give dataset.target_kind=class")
        moments = [self._examine_column(file, name, cells, train) for name, cells in targets.items()]
        return dataclasses.replace(
            facts,
            target_shape=() if isinstance(self.target, str) else (len(moments),),
            target_dtype="float32",
            target_mean=tuple(column.mean for column in moments) if self.standardize_targets else (),
            target_stddev=tuple(column.stddev for column in moments) if self.standardize_targets else (),
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        facts, file = self._facts(), CsvFile.open(self.path, self.delimiter)
        if facts.fingerprint != file.sha256:
            raise RequestError(f"{self.path} is not the file that the run began with (its SHA-256 is another)")
        cells, targets = self._columns(file)
        inputs = _stored(facts.columns, {name: column.values for name, column in cells.items()})
        labels = np.stack([column.values for column in targets.values()], axis=-1).astype(facts.target_dtype)
        labels = labels.reshape(-1, *facts.target_shape)
        rows = self._rows(file, len(labels))
        return {name: {"inputs": inputs[part], "targets": labels[part]} for name, part in rows.items()}

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs with mean 0 and variance 1 over the training rows, if so asked."""
        return standardize(inputs, self._facts().columns) if self.standardize else inputs

    def read_inputs(self, path: str) -> tuple[tuple[str, ...], np.ndarray]:
        """Returns ("row 1", ...) and the inputs (rows, inputs) of another file, which may lack the target.

        Its columns may be in any order. Nothing but the facts is needed: the training file may be gone.

        Raises:
          RequestError: a column is missing, or a value is none of those that the column had in the training file.
        """
        columns, file = self._facts().columns, CsvFile.open(path, self.delimiter)
        file.check_names((column.name for column in columns), "what the model was trained on")
        kinds: dict[str, Kind] = {column.name: "words" if column.categories else "numbers" for column in columns}
        words = [column.name for column in columns if column.categories]
        cells = file.read([column.name for column in columns], kinds, exact=words)
        values = {}
        for column in columns:
            found = cells[column.name]
            values[column.name] = found.values
            if found.words is not None:
                codes = {word: code for code, word in enumerate(column.categories)}
                values[column.name] = np.array([codes.get(word, -1) for word in found.words])[found.values]
                if (unknown := values[column.name] < 0).any():
                    row = int(unknown.argmax())
                    what = f"{file.where(row, column.name)}: {found.words[found.values[row]]!r:.80} did not occur"
                    raise RequestError(f"{what} in training; known are {_listed(column.categories)}")
        inputs = _stored(columns, values)
        return tuple(f"row {row + 1}" for row in range(len(inputs))), inputs

    def _targets(self) -> tuple[str, ...]:
        return (self.target,) if isinstance(self.target, str) else self.target

    def _rows(self, file: CsvFile, size: int) -> dict[str, np.ndarray]:
        try:
            return self.split.rows(size)
        except RequestError as error:
            raise RequestError(f"{file.path}: {error}") from None

    def _columns(self, file: CsvFile) -> tuple[dict[str, Cells], dict[str, Cells]]:
        """Returns the columns that make the inputs and those that make the targets."""
        targets = self._targets()
        for field in ("target", "features", "ignore", "categorical"):
            named = targets if field == "target" else getattr(self, field) or ()
            file.check_names(named, f"dataset.{field}")
        if not targets or len(set(targets)) < len(targets):
            raise RequestError(f"dataset.target: {targets} has to name at least one column, and none twice")
        others = tuple(name for name in file.head if name not in targets and name not in self.ignore)
        features = others if self.features is None else self.features
        if wrong := [name for name in features if name not in others or features.count(name) > 1]:
            raise RequestError(f"dataset.features: {wrong[0]!r} is there twice, or it is the target or ignored")
        if not features:
            raise RequestError(f"{file.path} has no column beside {', '.join(targets)} to predict from")
        if "" in (*features, *targets):
            what = f"{file.path}: column {file.head.index('') + 1} has no name"
            raise RequestError(f"{what}: name it, or leave it out: features=('...',) or ignore=('',)")
        kinds: dict[str, Kind] = dict.fromkeys(self.categorical, "words")
        if self.target_kind != "auto":
            kinds |= dict.fromkeys(targets, "words" if self.target_kind == "class" else "numbers")
        cells = file.read((*features, *targets), kinds, self.categorical, self.missing)
        words = [name for name in targets if cells[name].words is not None]
        if words and len(targets) > 1:
            raise RequestError(f"dataset.target: of several targets each is a number, but {words[0]!r} holds words")
        if self.only is not None:
            cells = self._taken(file, cells, targets[0])
        return {name: cells[name] for name in features}, {name: cells[name] for name in targets}

    def _taken(self, file: CsvFile, cells: dict[str, Cells], target: str) -> dict[str, Cells]:
        """Returns the columns without the rows of classes that are not asked for."""
        words = cells[target].words
        if words is None:
            raise RequestError(
                f"dataset.only: column {target!r} holds numbers; if they are classes, say target_kind=class"
            )
        if unknown := [value for value in self.only or () if value not in words]:
            raise RequestError(
                f"dataset.only: column {target!r} of {file.path} has no {unknown[0]!r}: {_listed(words)}"
            )
        kept = np.isin(cells[target].values, [words.index(value) for value in self.only or ()])
        taken = {name: dataclasses.replace(column, values=column.values[kept]) for name, column in cells.items()}
        used = tuple(word for word in words if word in (self.only or ()))
        codes = np.array([used.index(word) if word in used else -1 for word in words], np.int32)
        return {**taken, target: Cells(codes[taken[target].values], used)}

    def _class_names(self, file: CsvFile, words: tuple[str, ...]) -> tuple[str, ...]:
        if len(words) < 2:
            raise RequestError(f"{file.path}: there is only one class, {words[0]!r}, in column {self.target!r}")
        if self.class_names is not None and len(self.class_names) != len(words):
            what = f"dataset.class_names: {len(self.class_names)} names for {len(words)} classes"
            raise RequestError(f"{what} in column {self.target!r}: {_listed(words)}")
        if len(words) > _MANY and self.target_kind == "auto":
            what = f"{file.path}, column {self.target!r} holds {len(words):,} different words"
            raise RequestError(f"{what}; if they are classes all the same, give dataset.target_kind=class")
        return words if self.class_names is None else self.class_names

    def _examine_column(self, file: CsvFile, name: str, cells: Cells, train: np.ndarray) -> TableColumn:
        if cells.words is not None:
            if name not in self.categorical:
                _check_categories(file, name, cells)
            return TableColumn(name=name, categories=cells.words)
        moments = Moments.of(cells.values[train][:, None])
        if moments.too_coarse().size:
            what = f"{file.path}, column {name!r}: differences as small as these are lost in float32"
            raise RequestError(f"{what}, with a mean of {moments.mean[0]:.6g}; subtract a constant from the column")
        return TableColumn(name=name, mean=float(moments.mean[0]), stddev=float(moments.stddev[0]))


def _check_categories(file: CsvFile, name: str, cells: Cells) -> None:
    """Refuses columns of identifiers, dates and free text."""
    words = cells.words or ()
    if len(words) > _MANY or 2 < len(words) == len(cells.values):
        what = f"{file.path}, column {name!r} holds {len(words):,} different words: {_listed(words[:3])}, ..."
        advice = f"leave it out with dataset.ignore={name}, or say dataset.categorical={name} if it is meant"
        raise RequestError(f"{what}; {advice}")


def _width(columns: tuple[TableColumn, ...]) -> int:
    return sum(len(column.categories) or 1 for column in columns)


def _stored(columns: tuple[TableColumn, ...], values: dict[str, np.ndarray]) -> np.ndarray:
    """Returns inputs (rows, inputs) of numbers, and of words by their position among the column's categories."""
    rows = len(next(iter(values.values())))
    inputs, place = np.zeros((rows, _width(columns)), np.float32), 0
    for column in columns:
        if column.categories:
            inputs[np.arange(rows), place + values[column.name]] = 1.0
        else:
            inputs[:, place] = values[column.name]
        place += len(column.categories) or 1
    return inputs


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(map(repr, words[:20])) + (f" and {len(words) - 20:,} more" if len(words) > 20 else "")
