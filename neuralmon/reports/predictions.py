"""What `--mode=predict` prints: a row for each example, as a table, CSV or JSON."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from neuralmon.data import Spec
from neuralmon.data.tables.array_files import open_array, scan
from neuralmon.data.tables.series import Series
from neuralmon.errors import RequestError
from neuralmon.training.result import Result

FORMATS = ("table", "csv", "json")


def predictions(result: Result, path: str, form: str) -> str:
    """Returns what a run's model says of the examples in a file or a folder, as text.

    Raises:
      RequestError: the dataset cannot read examples there.
    """
    answers = getattr(result.experiment.task, "answers", None)
    told = None if answers is None else answers(result.trained, path)
    rows = _of_examples(result, path) if told is None else [_rounded(row) for row in told]
    if not rows:
        raise RequestError(f"--input={path}: there is nothing in it of which anything could be said")
    if form == "json":
        return json.dumps(rows, indent=1, ensure_ascii=False)
    flat = [_flat(row, whole=form == "csv") for row in rows]
    return _csv(flat) if form == "csv" else _table(flat)


def _of_examples(result: Result, path: str) -> list[dict[str, Any]]:
    """Returns a row of what the task predicts of each example in a file or folder."""
    dataset, spec = result.experiment.dataset, result.experiment.dataset.spec()
    read = getattr(dataset, "read_inputs", None) or partial(_read_arrays, shape=spec.features["inputs"].shape)
    names, inputs = read(path)
    try:
        said = result.predict(inputs)
    except RequestError as error:
        raise RequestError(f"--input={path}: {error}") from None
    columns = _forecast_columns(dataset)
    return [
        {"input": name, **_row(spec, {key: array[index] for key, array in said.items()}, columns)}
        for index, name in enumerate(names)
    ]


def _read_arrays(path: str, shape: tuple[int, ...]) -> tuple[list[str], np.ndarray]:
    """Returns (names, inputs) of a file of arrays, of one example or of several of this shape."""
    if not (path.endswith(".npy") or ".npz" in path):
        what = "this data has no reader of its own"
        raise RequestError(f"--input={path}: {what}; give a .npy file of inputs as stored, or FILE.npz:NAME")
    inputs = open_array(path, "--input")
    scan(inputs, "--input")
    return [f"row {index + 1}" for index in range(inputs.size // math.prod(shape))], inputs


def _forecast_columns(dataset: Any) -> list[str]:
    """Returns the names of what is forecast of a series of several columns, else []."""
    columns = dataset.facts.columns if isinstance(dataset, Series) and dataset.facts is not None else ()
    return [column.name for column in columns] if len(columns) > 1 else []


def _row(spec: Spec, said: Mapping[str, Any], columns: Sequence[str] = ()) -> dict[str, Any]:
    """Returns what is said of one example with the classes, and the columns of a series, by their names."""
    row: dict[str, Any] = {}
    # What is answered comes first, and then how surely.
    for key in sorted(said, key=lambda name: name.startswith("probabilit")):
        array = np.asarray(said[key])
        if array.ndim == 0:
            named = key == "class" and spec.class_names
            row[key] = spec.class_names[int(array)] if named else _plain(array)
        elif key == "labels" and len(array) == len(spec.class_names):
            row[key] = [name for name, held in zip(spec.class_names, array, strict=True) if held]
        elif key == "prediction" and columns and array.shape[-1] == len(columns):
            steps = array.reshape(-1, len(columns))
            row |= {
                f"{column} +{step}" if len(steps) > 1 else column: _plain(value)
                for step, values in enumerate(steps, 1)
                for column, value in zip(columns, values, strict=True)
            }
        elif key == "string" and spec.class_names:
            row[key] = "".join(spec.class_names[int(place)] for place in array if place >= 0)
        elif array.ndim == 1 and len(array) == len(spec.class_names):
            row[key] = {name: _plain(element) for name, element in zip(spec.class_names, array, strict=True)}
        else:
            row[key] = [_plain(element) for element in array.reshape(-1)]
    return row


def _rounded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _plain(value) if isinstance(value, float) else value for key, value in row.items()}


def _flat(row: Mapping[str, Any], whole: bool) -> dict[str, Any]:
    """Returns a row of single cells; of probabilities only the largest unless `whole`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and whole:
            flat |= {f"{key}[{name}]": element for name, element in value.items()}
        elif isinstance(value, dict):
            flat["probability" if key == "probabilities" else key] = max(value.values())
        elif isinstance(value, list) and value and not isinstance(value[0], str):
            flat |= {f"{key}[{index}]": element for index, element in enumerate(value)}
        else:
            flat[key] = ", ".join(value) if isinstance(value, list) else value
    return flat


def _plain(value: Any) -> Any:
    plain = np.asarray(value).item()
    return float(f"{plain:.6g}") if isinstance(plain, float) else plain


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().removesuffix("\n")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    """Returns a value as it can be seen in a table: a line end as \\n, in quotes what begins or ends with a space."""
    if isinstance(value, float):
        return f"{value:.4f}"
    if value is None:
        return "-"
    text = str(value)
    shown = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return shown if text and text == text.strip(" ") else f"'{shown}'"
