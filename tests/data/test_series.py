"""Windows of a series of one's own: every step in its place, no future in the past, and files that are no series."""

import re

import jax
import numpy as np
import pytest

from neuralmon.data import ChronologicalSplit, CsvSeries, Sunspots
from neuralmon.errors import RequestError

STEPS = np.stack([np.arange(60) ** 1.5, 1000 - np.arange(60.0)], axis=-1)


def write(path, steps=STEPS, head="rain,sun", cells=None):
    rows = [",".join(f"{value!r}" for value in row.tolist()) for row in steps]
    for row, text in (cells or {}).items():
        rows[row] = text
    path.write_text("\n".join([f"day,{head}", *(f"d{index},{row}" for index, row in enumerate(rows))]) + "\n")
    return str(path)


@pytest.mark.parametrize(("window", "horizon", "columns"), [(7, 1, 1), (7, 1, 2), (5, 4, 1), (1, 3, 2)])
def test_each_example_is_a_window_and_what_comes_next(tmp_path, window, horizon, columns):
    names = ("rain", "sun")[:columns]
    dataset = CsvSeries(path=write(tmp_path / "a.csv"), columns=names, window=window, horizon=horizon).resolve()
    data, spec = dataset.load(), dataset.spec()
    assert spec.features["targets"].shape == tuple(size for size in (horizon, columns) if size > 1)
    start, targeted = window, {}
    for split in ("train", "validation", "test"):
        inputs, targets = data[split]["inputs"], data[split]["targets"].reshape(-1, horizon, columns)
        assert len(inputs) == len(targets) == spec.sizes[split]
        for given, following in zip(inputs, targets, strict=True):
            np.testing.assert_allclose(given, STEPS[start - window : start, :columns], rtol=1e-6)
            np.testing.assert_allclose(following, STEPS[start : start + horizon, :columns], rtol=1e-6)
            targeted.setdefault(split, set()).update(range(start, start + horizon))
            start += 1
        start += horizon - 1
    assert start == len(STEPS)
    # No step is a target of two splits, and none is left out.
    assert sum(map(len, targeted.values())) == len(STEPS) - window
    assert max(targeted["train"]) < min(targeted["validation"]) and max(targeted["validation"]) < min(targeted["test"])


def test_columns_are_standardised_by_what_training_sees(tmp_path):
    split = ChronologicalSplit(validation=0.2, test=0.3)
    dataset = CsvSeries(path=write(tmp_path / "a.csv"), columns=("sun", "rain"), window=4, horizon=2, split=split)
    dataset = dataset.resolve()
    seen = STEPS[: 4 + dataset.facts.sizes["train"] + 1, ::-1]
    np.testing.assert_allclose(dataset.spec().target_mean, np.tile(seen.mean(axis=0), 2))
    np.testing.assert_allclose(dataset.spec().target_stddev, np.tile(seen.std(axis=0), 2))
    test = dataset.load()["test"]
    batch = dataset.prepare(jax.random.key(0), {**test, "weights": np.ones(len(test["inputs"]), np.float32)}, False)
    expected = (STEPS[-2:, ::-1] - seen.mean(axis=0)) / seen.std(axis=0)
    np.testing.assert_allclose(batch["targets"][-1], expected, rtol=1e-4, atol=1e-5)
    expected = (STEPS[-6:-2, ::-1] - seen.mean(axis=0)) / seen.std(axis=0)
    np.testing.assert_allclose(batch["inputs"][-1], expected, rtol=1e-4, atol=1e-5)


def test_new_files_are_read_window_by_window(tmp_path):
    dataset = CsvSeries(path=write(tmp_path / "a.csv"), columns=("sun",), window=4).resolve()
    (tmp_path / "a.csv").unlink()
    new = tmp_path / "new.csv"
    new.write_text("sun;year\n" + "".join(f"{value};{value}\n" for value in (5, 6, 7, 8, 9)))
    names, inputs = dataset.read_inputs(str(new))
    assert names == ["after row 4", "after row 5"]
    np.testing.assert_array_equal(inputs[..., 0], [[5, 6, 7, 8], [6, 7, 8, 9]])
    np.save(tmp_path / "new.npy", np.arange(8.0).reshape(2, 4))
    assert dataset.read_inputs(str(tmp_path / "new.npy"))[0] == ["row 1", "row 2"]
    new.write_text("sun\n1\n2\n3\n")
    with pytest.raises(RequestError, match=r"new\.csv has 3 rows, fewer than a window of 4"):
        dataset.read_inputs(str(new))
    new.write_text("rain\n1\n")
    with pytest.raises(RequestError, match=r"no column 'sun'.*what the model was trained on"):
        dataset.read_inputs(str(new))


REFUSED = [
    ({}, {"window": 60}, "dataset.window: 60 rows and a horizon of 1 are more than the 60 rows of the series"),
    ({}, {"window": 10, "horizon": 6}, "dataset.horizon: 6 steps are more than the 5 of validation"),
    ({}, {"columns": ("rian",)}, "has no column 'rian' (did you mean 'rain'?), see dataset.columns"),
    ({}, {"columns": ("rain", "rain")}, "has to name at least one column, and none twice"),
    ({"cells": {8: "much,3"}}, {}, "row 9 (line 10), column 'rain': 'much' is no number; correct it"),
    ({"cells": {8: ",3"}}, {}, "row 9 (line 10), column 'rain': there is no value, as in 1 places; a series leaves"),
    ({"cells": {8: "inf,3"}}, {}, "row 9 (line 10), column 'rain': inf is infinite"),
    ({"cells": {8: "3"}}, {}, "row 9 (line 10): 2 values, where the head names 3 columns"),
    ({"steps": STEPS + 1e12}, {}, "column 'rain': differences as small as these are lost in float32"),
    ({"steps": STEPS[:0]}, {}, "has no rows below its head"),
]


@pytest.mark.parametrize(("file", "fields", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED])
def test_what_is_no_series_is_refused(tmp_path, file, fields, message):
    path = write(tmp_path / "a.csv", **file)
    with pytest.raises(RequestError, match=re.escape(message)):
        CsvSeries(**{"path": path, "columns": ("rain",), "window": 5, **fields}).resolve()


def test_a_file_that_has_changed_is_refused(tmp_path):
    dataset = CsvSeries(path=write(tmp_path / "a.csv"), columns=("rain",), window=5).resolve()
    write(tmp_path / "a.csv", STEPS[:-1])
    with pytest.raises(RequestError, match="not the one that the run began with"):
        dataset.load()


def test_sunspots_are_such_a_series():
    published, own = Sunspots(window=5, horizon=3).resolve(), Sunspots(window=5).resolve()
    assert published.spec().features["targets"].shape == (3,)
    assert own.spec().features["targets"].shape == ()
    np.testing.assert_array_equal(published.load()["test"]["inputs"][0], own.load()["test"]["inputs"][0])
