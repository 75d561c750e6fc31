"""Iris, sunspots and moons: the published counts, and no future in a forecast's past."""

import csv
from importlib import resources

import jax
import numpy as np
import pytest
from sklearn.datasets import load_iris, make_moons
from sklearn.preprocessing import StandardScaler

from neuralmon.data.splits import ChronologicalSplit, RandomSplit
from neuralmon.data.tables.iris import Iris
from neuralmon.data.tables.moons import Moons
from neuralmon.data.tables.sunspots import Sunspots
from neuralmon.errors import RequestError

ALL = RandomSplit(validation=0.0, test=0.0)
DATASETS = (Iris(), Sunspots(), Sunspots(window=3, horizon=5), Moons(size=50), Moons(split=ALL))


def prepared(dataset, split="train"):
    columns = dataset.load()[split]
    batch = {**columns, "weights": np.ones(len(columns["targets"]), np.float32)}
    return {name: np.asarray(array) for name, array in dataset.prepare(jax.random.key(0), batch, True).items()}


@pytest.mark.parametrize("dataset", DATASETS, ids=str)
def test_the_spec_says_what_load_gives(dataset):
    resolved = dataset.resolve()
    spec, data = resolved.spec(), resolved.load()
    assert spec.sizes.keys() == data.keys()
    for split, features in data.items():
        for name, array in features.items():
            assert array.shape == (spec.sizes[split], *spec.features[name].shape)
            assert array.dtype == spec.features[name].dtype
    if counts := resolved.facts.class_counts:
        assert np.bincount(data["train"]["targets"], minlength=len(counts)).tolist() == list(counts)


def test_iris_is_the_published_table():
    published = load_iris()
    dataset = Iris(split=ALL).resolve()
    train = dataset.load()["train"]
    np.testing.assert_allclose(train["inputs"], published.data, rtol=1e-6)
    np.testing.assert_array_equal(train["targets"], published.target)
    assert dataset.facts.class_counts == (50, 50, 50)
    assert dataset.facts.class_names == tuple(published.target_names)
    assert [column.name for column in dataset.facts.columns] == published.feature_names
    expected = StandardScaler().fit_transform(published.data)
    np.testing.assert_allclose(prepared(dataset)["inputs"], expected, rtol=1e-4, atol=1e-5)


def test_iris_reads_new_flowers(tmp_path):
    path = tmp_path / "flowers.csv"
    path.write_text("petal width (cm),petal length (cm),sepal width (cm),sepal length (cm)\n4,3,2,1\n")
    names, inputs = Iris().resolve().read_inputs(str(path))
    assert (names, inputs.tolist()) == (("row 1",), [[1.0, 2.0, 3.0, 4.0]])


@pytest.fixture(scope="module")
def series():
    with (resources.files("neuralmon.data") / "embedded" / "sunspots.csv").open() as file:
        return np.array([float(row["SUNACTIVITY"]) for row in csv.DictReader(file)])


@pytest.mark.parametrize("window", [22, 1])
def test_each_year_is_forecast_from_the_years_before_it_and_once(series, window):
    data = Sunspots(window=window).resolve().load()
    year = window
    for split in ("train", "validation", "test"):
        for inputs, target in zip(data[split]["inputs"], data[split]["targets"], strict=True):
            np.testing.assert_allclose(inputs[:, 0], series[year - window : year], rtol=1e-6)
            assert target == pytest.approx(series[year], rel=1e-6)
            year += 1
    assert year == len(series) == 309


def test_sunspots_are_standardised_by_the_years_that_training_sees(series):
    dataset = Sunspots(window=10, split=ChronologicalSplit(test=0.3)).resolve()
    seen = series[: 10 + dataset.facts.sizes["train"]]
    assert dataset.spec().target_mean == pytest.approx((seen.mean(),))
    assert dataset.spec().target_stddev == pytest.approx((seen.std(),))
    batch = prepared(dataset, "test")
    forecast = (series[-dataset.facts.sizes["test"] :] - seen.mean()) / seen.std()
    np.testing.assert_allclose(batch["targets"], forecast, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(batch["inputs"][-1, -1, 0], (series[-2] - seen.mean()) / seen.std(), rtol=1e-4)


def test_windows_longer_than_the_series_are_refused():
    with pytest.raises(RequestError, match=r"308 rows and a horizon of 2 are more than the 309 rows"):
        Sunspots(window=308, horizon=2).resolve()
    with pytest.raises(RequestError, match="too few"):
        Sunspots(window=308).resolve()


def test_moons_without_noise_lie_on_the_half_circles():
    train = Moons(size=400, noise=0.0, split=ALL).resolve().load()["train"]
    upper, lower = (train["inputs"][train["targets"] == moon] for moon in (0, 1))
    np.testing.assert_allclose(np.linalg.norm(upper, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(lower - [1, 0.5], axis=1), 1, rtol=1e-6)
    assert upper[:, 1].min() >= 0
    assert lower[:, 1].max() <= 0.5
    # The same corners as an independent implementation's moons, whose first and last points are the ends.
    points, moon = make_moons(400)
    for ours, theirs in ((upper, points[moon == 0]), (lower, points[moon == 1])):
        np.testing.assert_allclose(ours.min(axis=0), theirs.min(axis=0), atol=0.01)
        np.testing.assert_allclose(ours.max(axis=0), theirs.max(axis=0), atol=0.01)


def test_moons_have_the_noise_that_was_asked_for_and_their_seed():
    clean, noisy, other = (
        Moons(size=4_000, noise=noise, seed=seed, split=ALL).resolve().load()["train"]
        for noise, seed in ((0.0, 0), (0.25, 0), (0.25, 1))
    )
    noise = noisy["inputs"] - clean["inputs"]
    np.testing.assert_allclose(noise.std(axis=0), 0.25, rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.02)
    assert np.bincount(noisy["targets"]).tolist() == [2_000, 2_000]
    assert (noisy["inputs"] != other["inputs"]).all()
