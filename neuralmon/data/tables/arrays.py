"""Arrays that somebody has in memory or in NumPy's files."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Array

from neuralmon.data.dataset import Rows, whole
from neuralmon.data.labelled import Facts, LabelledDataset, TableColumn
from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.tables.array_files import Converted, Scan, fingerprint_of, has_fingerprint, open_array, scan
from neuralmon.data.tables.standardize import Moments, standardize
from neuralmon.errors import RequestError

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arrays(LabelledDataset):
    """Inputs and targets as NumPy arrays: `Arrays(inputs=x, targets=y)`, or `Arrays(inputs="x.npy", targets="y.npy")`.

    The first axis counts the examples. An .npy file is memory-mapped, so it may be larger than the memory: it is read
    once from front to back to begin with, then a few rows at a time. "FILE.npz:NAME" is read as a whole.

    Inputs of uint8 are images: they are kept as bytes, which become 0 to 1; (n, height, width) gets an axis of one
    channel. All others become float32. The last axis is that of the features, or channels.

    Targets, by their type and shape:

    - integers or booleans (n,): classes, counted from 0; int32 ().
    - integers or booleans (n, k), all 0 or 1, with `class_names`: any number of k labels at once; int32 (k,).
    - floats (n,) or (n, k): numbers; float32 () or (k,).

    Attributes:
      inputs: the array, or its file.
      targets: the array, or its file.
      validation_inputs: those of examples for validation; None: `split` cuts some off `inputs`.
      validation_targets: their targets.
      test_inputs: those of examples for the test; None: `split` cuts some off `inputs`.
      test_targets: their targets.
      split: how `inputs` are cut into training examples and what is not given by itself.
      class_names: names of the classes in the order of their numbers; None: the numbers.
      standardize: subtract each feature's mean over all training examples (and all places of an image or a sequence),
        and divide by its standard deviation.
      standardize_targets: the same with numeric targets; metrics and predictions are in the data's own units all the
        same.
    """

    inputs: str | np.ndarray
    targets: str | np.ndarray
    validation_inputs: str | np.ndarray | None = None
    validation_targets: str | np.ndarray | None = None
    test_inputs: str | np.ndarray | None = None
    test_targets: str | np.ndarray | None = None
    split: Split = dataclasses.field(default_factory=RandomSplit)
    class_names: tuple[str, ...] | None = None
    standardize: bool = True
    standardize_targets: bool = True

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        parts = self._open()
        inputs, targets = parts["train"]
        rows = self._rows(len(inputs), parts)
        train = np.isin(np.arange(len(inputs)), rows["train"], assume_unique=True)
        _check_alike(parts)
        found, target_found = _scan_all(parts, 0, train), _scan_all(parts, 1, train)
        sizes = {name: len(part) for name, part in rows.items()}
        sizes |= {name: len(part) for name, (part, _) in parts.items() if name != "train"}
        facts = Facts(
            sizes={name: sizes[name] for name in _SPLITS if name in sizes},
            shape=inputs.shape[1:],
            dtype=str(_stored_dtype(inputs)),
            target_shape=targets.shape[1:],
            columns=_columns(inputs, _moments(found)),
            fingerprint=fingerprint_of([*found, *target_found]),
        )
        if targets.dtype.kind == "f":
            if self.class_names is not None:
                what = f"dataset.class_names: dataset.targets are numbers, of {targets.dtype}"
                raise RequestError(f"{what}; classes are integers, or booleans")
            moments = _moments(target_found)
            if (coarse := moments.too_coarse()).size:
                raise RequestError(_too_coarse("dataset.targets", moments, coarse[0]))
            return dataclasses.replace(
                facts,
                target_dtype="float32",
                target_mean=tuple(moments.mean.tolist()) if self.standardize_targets else (),
                target_stddev=tuple(moments.stddev.tolist()) if self.standardize_targets else (),
            )
        if targets.ndim == 2:
            return dataclasses.replace(facts, class_names=self._label_names(parts))
        names = self._class_names(parts)
        counts = np.bincount(np.asarray(targets)[train].astype(np.int32), minlength=len(names))
        return dataclasses.replace(facts, class_names=names, class_counts=tuple(counts.tolist()))

    def read(self) -> dict[str, dict[str, Any]]:
        """See `LabelledDataset.read`."""
        facts, parts = self._facts(), self._open()
        arrays = [part[place] for place in (0, 1) for part in parts.values()]
        if facts.fingerprint and not has_fingerprint(arrays, facts.fingerprint):
            named = [value for value in (self.inputs, self.targets) if isinstance(value, str)]
            what = "dataset.inputs and dataset.targets" + (f" ({', '.join(named)})" if named else "")
            raise RequestError(f"{what} are not those that the run began with; restore them, or start a new run")
        target_dtype = np.dtype(facts.target_dtype)
        cut = self._rows(len(parts["train"][0]), parts)
        splits = {}
        for name in facts.sizes:
            inputs, targets = parts["train" if name in cut else name]
            columns = {"inputs": Converted(inputs, _stored_dtype(inputs)), "targets": Converted(targets, target_dtype)}
            splits[name] = {key: _opened(column, cut.get(name)) for key, column in columns.items()}
        return splits

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs with mean 0 and variance 1 over the training examples, if so asked."""
        return standardize(inputs, self._facts().columns) if self.standardize else inputs

    def _open(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns (inputs, targets) of every part that is given, each checked for itself."""
        parts = {}
        for name in _SPLITS:
            fields = ("inputs", "targets") if name == "train" else (f"{name}_inputs", f"{name}_targets")
            given = [getattr(self, field) for field in fields]
            if given[0] is None and given[1] is None:
                continue
            if given[0] is None or given[1] is None:
                raise RequestError(f"dataset.{fields[0]} and dataset.{fields[1]}: give both, or neither")
            arrays = [open_array(value, f"dataset.{field}") for value, field in zip(given, fields, strict=True)]
            inputs, targets = arrays
            if len(inputs) != len(targets):
                what = f"dataset.{fields[0]} has {len(inputs):,} examples, dataset.{fields[1]} has {len(targets):,}"
                raise RequestError(f"{what}: the first axes have to be equal")
            if inputs.ndim == 1:
                what = f"dataset.{fields[0]} has the shape {inputs.shape}, (n, features) at least is needed"
                raise RequestError(f"{what}; for one feature, give inputs[:, None]")
            if targets.ndim > 2:
                what = f"dataset.{fields[1]} has the shape {targets.shape}; allowed are (n,) and (n, k)"
                raise RequestError(f"{what}, see Arrays")
            images = inputs.dtype == np.uint8 and inputs.ndim == 3
            parts[name] = (inputs[..., None] if images else inputs, targets)
        return parts

    def _rows(self, size: int, parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns which of the first `size` examples each split gets that is not given by itself."""
        return self.split.rows(size, test="test" not in parts, validation="validation" not in parts)

    def _label_names(self, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
        width = parts["train"][1].shape[1]
        if self.class_names is None:
            what = f"dataset.targets are integers of shape (n, {width})"
            advice = "give class_names, one for each column, if they are labels; make them float32 if they are numbers"
            raise RequestError(f"{what}; {advice}" + ("; targets[:, 0] if they are classes" if width == 1 else ""))
        if len(self.class_names) != width:
            raise RequestError(f"dataset.class_names: {len(self.class_names)} names for {width} columns of targets")
        for name, (_, targets) in parts.items():
            wrong = (np.asarray(targets) != 0) & (np.asarray(targets) != 1)
            if wrong.any():
                row, column = np.argwhere(wrong)[0]
                what = f"dataset.{_field(name)}[{row}, {column}] is {targets[row, column]}"
                raise RequestError(f"{what}: with several labels at once, each is 0 or 1")
        return self.class_names

    def _class_names(self, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[str, ...]:
        """Returns the names of the classes; refuses labels that are none."""
        advice = "numpy.unique(targets, return_inverse=True)[1] counts any values from 0; float32 makes them numbers"
        allowed = None if self.class_names is None else len(self.class_names)
        for name, (_, targets) in parts.items():
            labels = np.asarray(targets).astype(np.int64)
            wrong = (labels < 0) | (labels >= (allowed or np.inf))
            if wrong.any():
                row = int(wrong.argmax())
                what = f"dataset.{_field(name)}[{row}] is {targets[row]}"
                classes = "classes are counted from 0" if allowed is None else f"there are {allowed} class_names"
                raise RequestError(f"{what}, but {classes}; {advice}")
        values = np.unique(np.concatenate([np.unique(np.asarray(targets)) for _, targets in parts.values()]))
        low, high, count = int(values[0]), int(values[-1]), len(values)
        if count < 2:
            raise RequestError(f"dataset.targets: there is only one class, {low}")
        if self.class_names is not None:
            return self.class_names
        if low > 0 or high + 1 > 2 * count:
            what = f"dataset.targets are {count} different integers from {low} to {high}"
            raise RequestError(f"{what}, but classes are counted from 0 without large gaps, or named; {advice}")
        return tuple(str(label) for label in range(high + 1))


def _field(split: str) -> str:
    return "targets" if split == "train" else f"{split}_targets"


def _stored_dtype(inputs: np.ndarray) -> np.dtype:
    return np.dtype(np.uint8 if inputs.dtype == np.uint8 else np.float32)


def _opened(column: Converted, rows: np.ndarray | None = None) -> Any:
    """Returns a column: as an array in memory, but for what is memory-mapped."""
    part = column if rows is None else Rows(column, rows)
    return part if isinstance(column.source, np.memmap) else whole(part)


def _check_alike(parts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Refuses parts whose examples are of another shape or kind than those of training."""
    for name, part in parts.items():
        for what, array, trained in zip(("inputs", "targets"), part, parts["train"], strict=True):
            if (array.shape[1:], _kind(array, what)) != (trained.shape[1:], _kind(trained, what)):
                one, other = (f"{x.dtype} of shape {x.shape[1:]}" for x in (array, trained))
                raise RequestError(f"dataset.{name}_{what} are {one} for an example, dataset.{what} are {other}")


def _kind(array: np.ndarray, what: str) -> str:
    return str(_stored_dtype(array)) if what == "inputs" else "numbers" if array.dtype.kind == "f" else "classes"


def _scan_all(parts: Mapping[str, tuple[np.ndarray, np.ndarray]], place: int, train: np.ndarray) -> list[Scan]:
    """Reads the inputs (`place` 0) or the targets (1) of every part; moments are those of the training rows."""
    what = ("inputs", "targets")[place]
    return [
        scan(
            part[place], f"dataset.{what if name == 'train' else f'{name}_{what}'}", train if name == "train" else None
        )
        for name, part in parts.items()
    ]


def _moments(scans: list[Scan]) -> Moments:
    """Returns the moments of the first part, which is that of training."""
    assert scans[0].moments is not None
    return scans[0].moments


def _columns(inputs: np.ndarray, moments: Moments) -> tuple[TableColumn, ...]:
    """Returns mean and standard deviation of each feature, of bytes as 0 to 1."""
    if (coarse := moments.too_coarse()).size:
        raise RequestError(_too_coarse("dataset.inputs", moments, coarse[0]))
    unit = 255.0 if inputs.dtype == np.uint8 else 1.0
    return tuple(
        TableColumn(name=f"feature {index}", mean=float(mean) / unit, stddev=float(stddev) / unit)
        for index, (mean, stddev) in enumerate(zip(moments.mean, moments.stddev, strict=True))
    )


def _too_coarse(field: str, moments: Moments, feature: int) -> str:
    what = f"{field}: differences as small as those of feature {feature}, whose mean is {moments.mean[feature]:.6g}"
    return f"{what}, are lost in float32; subtract a constant from it"
