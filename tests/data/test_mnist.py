"""MNIST as shipped: the published files, split and prepared as said."""

import hashlib
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.data import Dataset, Mnist, Shift
from neuralmon.errors import RequestError

# MD5 of the published files, uncompressed.
MD5 = {
    ("train", "inputs"): "6bbc9ace898e44ae57da46a324031adb",
    ("train", "targets"): "a25bea736e30d166cdddb491f175f624",
    ("test", "inputs"): "2646ac647ad5339dbf082846283269ea",
    ("test", "targets"): "27ae3e4e09519cfbb04c329615203637",
}


@pytest.fixture(scope="module")
def whole():
    return Mnist(join_validation=True).load()


@pytest.fixture(scope="module")
def splits():
    return Mnist().load()


@pytest.mark.parametrize(("split", "feature"), MD5)
def test_the_arrays_are_the_published_files(whole, split, feature):
    array = whole[split][feature].astype(np.uint8)
    dims = array.shape[:3]
    header = struct.pack(f">{1 + len(dims)}i", 2051 if feature == "inputs" else 2049, *dims)
    assert hashlib.md5(header + array.tobytes(), usedforsecurity=False).hexdigest() == MD5[split, feature]


def test_classes_and_pixels_are_those_of_the_literature(whole):
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(whole["train"]["targets"]).tolist() == counts
    pixels = whole["train"]["inputs"].reshape(-1)
    histogram = np.bincount(pixels, minlength=256)
    mean = (histogram * np.arange(256)).sum() / pixels.size / 255
    assert mean == pytest.approx(0.13066, abs=5e-6)


@pytest.mark.parametrize("join_validation", [False, True])
def test_the_spec_says_what_load_gives(whole, splits, join_validation):
    dataset = Mnist(join_validation=join_validation)
    assert isinstance(dataset, Dataset)
    spec, data = dataset.spec(), whole if join_validation else splits
    expected = {"train": 60_000, "test": 10_000}
    assert spec.sizes == (expected if join_validation else {**expected, "train": 55_000, "validation": 5_000})
    assert set(data) == set(spec.sizes)
    for split, features in data.items():
        assert set(features) == set(spec.features)
        for name, array in features.items():
            assert array.shape == (spec.sizes[split], *spec.features[name].shape)
            assert array.dtype == spec.features[name].dtype
    assert spec.num_classes == 10
    batch = spec.batch(3)
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in batch.items()} == {
        "inputs": ((3, 28, 28, 1), np.uint8),
        "targets": ((3,), np.int32),
        "weights": ((3,), np.float32),
    }


def test_train_and_validation_are_the_published_training_images_in_order(whole, splits):
    for name in ("inputs", "targets"):
        joined = np.concatenate([splits["train"][name], splits["validation"][name]])
        np.testing.assert_array_equal(joined, whole["train"][name])
        np.testing.assert_array_equal(splits["test"][name], whole["test"][name])


def test_prepare_gives_mean_0_and_variance_1(whole):
    # Every pixel value once, weighted by how often it occurs, is as good as 60,000 images.
    values = {"inputs": jnp.arange(256, dtype=jnp.uint8).reshape(1, 16, 16, 1)}
    prepared = np.asarray(Mnist().prepare(jax.random.key(0), values, False)["inputs"], np.float64).reshape(-1)
    weights = np.bincount(whole["train"]["inputs"].reshape(-1), minlength=256) / whole["train"]["inputs"].size
    mean = (weights * prepared).sum()
    assert mean == pytest.approx(0, abs=1e-3)
    assert (weights * (prepared - mean) ** 2).sum() == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(prepared, (np.arange(256) / 255 - 0.1307) / 0.3081, rtol=1e-5)


@pytest.mark.parametrize(("shift", "train"), [(None, True), (0.0, True), (2.0, True), (2.0, False)])
def test_prepare_is_pure(splits, shift, train):
    dataset = Mnist(augment=() if shift is None else (Shift(shift),))
    batch = {name: array[:16].copy() for name, array in splits["train"].items()} | {"weights": np.ones(16, np.float32)}
    before = {name: array.copy() for name, array in batch.items()}
    key, other = jax.random.key(1), jax.random.key(2)
    first, again = dataset.prepare(key, batch, train), dataset.prepare(key, batch, train)
    compiled = jax.jit(dataset.prepare, static_argnums=2)(key, batch, train)
    assert first["inputs"].dtype == jnp.float32
    assert set(first) == set(batch)
    for name, array in before.items():
        np.testing.assert_array_equal(batch[name], array)
        np.testing.assert_array_equal(first[name], again[name])
        np.testing.assert_allclose(first[name], compiled[name], rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(first["targets"], batch["targets"])
    np.testing.assert_array_equal(first["weights"], batch["weights"])
    augmented = train and bool(shift)
    assert (np.asarray(first["inputs"]) != dataset.prepare(other, batch, train)["inputs"]).any() == augmented


def test_moved_images_are_moved_before_they_are_normalised(splits):
    """What comes in from outside is black, not grey."""
    batch = {"inputs": splits["train"]["inputs"][:32]}
    prepared = np.asarray(Mnist(augment=(Shift(3.0),)).prepare(jax.random.key(0), batch, True)["inputs"])
    assert prepared.min() == pytest.approx(-0.1307 / 0.3081, rel=1e-5)


@pytest.mark.parametrize("fields", [{}, {"join_validation": True}, {"examples": 7}])
def test_some_digits_only(whole, splits, fields):
    dataset = Mnist(classes=(7, 2, 5), **fields)
    spec, data = dataset.spec(), dataset.load()
    assert spec.class_names == ("7", "2", "5")
    for split, columns in (whole if fields.get("join_validation") else splits).items():
        digits = columns["targets"]
        expected = np.flatnonzero(np.isin(digits, (7, 2, 5)))
        if split == "train" and "examples" in fields:
            expected = np.sort(np.concatenate([np.flatnonzero(digits == digit)[:7] for digit in (7, 2, 5)]))
        np.testing.assert_array_equal(np.array([7, 2, 5])[data[split]["targets"]], digits[expected])
        np.testing.assert_array_equal(data[split]["inputs"], columns["inputs"][expected])
        assert spec.sizes[split] == len(expected)
        assert data[split]["targets"].dtype == np.int32
    counts = np.bincount(data["train"]["targets"])
    assert dataset.resolve()._facts().class_counts == tuple(counts.tolist())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"classes": (3,)}, r"dataset\.classes: \(3,\); give two different digits or more, each once"),
        ({"classes": (3, 4, 3)}, "give two different digits or more, each once"),
        ({"examples": 6_000}, r"dataset\.examples: 6,000 is more than there are of each digit: 5 has 4,963"),
    ],
)
def test_digits_that_cannot_be_chosen(fields, message):
    with pytest.raises(RequestError, match=message):
        Mnist(**fields).resolve()
