"""Arrays in memory and in files: the same examples, standardised as elsewhere, and what is wrong said in one line."""

import jax
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from neuralmon.data.dataset import Column, Dataset, whole
from neuralmon.data.splits import ChronologicalSplit, RandomSplit
from neuralmon.data.tables import array_files
from neuralmon.data.tables.array_files import scan
from neuralmon.data.tables.arrays import Arrays
from neuralmon.data.tables.standardize import Moments
from neuralmon.errors import RequestError

RANDOM = np.random.default_rng(0)
ALL = RandomSplit(validation=0.0, test=0.0)
FLOATS = RANDOM.normal([5.0, -100.0, 0.001], [1.0, 30.0, 0.0001], (50, 3))
CLASSES = RANDOM.integers(0, 3, 50)
IMAGES = RANDOM.integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
NUMBERS = RANDOM.normal(1_000, 20, 50)


def prepared(dataset, split="train"):
    columns = {name: whole(column) for name, column in dataset.load()[split].items()}
    batch = {**columns, "weights": np.ones(len(columns["targets"]), np.float32)}
    return {name: np.asarray(array) for name, array in dataset.prepare(jax.random.key(0), batch, True).items()}


@pytest.mark.parametrize("inputs", [FLOATS, FLOATS.astype(">f4"), np.asfortranarray(FLOATS), (FLOATS * 10).astype(int)])
def test_features_are_standardised_by_the_training_rows(inputs):
    dataset = Arrays(inputs=inputs, targets=CLASSES, split=ChronologicalSplit()).resolve()
    assert isinstance(dataset, Dataset)
    parts = {"train": slice(40), "validation": slice(40, 45), "test": slice(45, 50)}
    scaler = StandardScaler().fit(inputs[:40].astype(float))
    for split, part in parts.items():
        batch = prepared(dataset, split)
        np.testing.assert_allclose(batch["inputs"], scaler.transform(inputs[part].astype(float)), rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(batch["targets"], CLASSES[part])
    assert dataset.facts.class_counts == tuple(np.bincount(CLASSES[:40]))
    assert dataset.facts.class_names == ("0", "1", "2")


@pytest.mark.parametrize("channels", [3, None])
def test_images_stay_bytes_and_are_standardised_by_channel(channels):
    images = IMAGES if channels else IMAGES[..., 0]
    dataset = Arrays(inputs=images, targets=CLASSES, split=ALL).resolve()
    stored = dataset.load()["train"]["inputs"]
    assert stored.dtype == np.uint8
    np.testing.assert_array_equal(stored, images.reshape(50, 6, 5, -1))
    inputs = prepared(dataset)["inputs"]
    np.testing.assert_allclose(inputs.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(inputs.std(axis=(0, 1, 2)), 1, rtol=1e-5)
    plain = Arrays(inputs=images, targets=CLASSES, split=ALL, standardize=False).resolve()
    np.testing.assert_allclose(prepared(plain)["inputs"], stored / 255.0, rtol=1e-6)


@pytest.mark.parametrize("kind", ["memory", "npy", "npz", "mapped"])
def test_files_give_what_arrays_in_memory_give(tmp_path, kind):
    np.save(tmp_path / "x.npy", FLOATS)
    np.save(tmp_path / "y.npy", NUMBERS)
    np.savez(tmp_path / "both.npz", x=FLOATS, y=NUMBERS)
    inputs, targets = {
        "memory": (FLOATS, NUMBERS),
        "npy": (str(tmp_path / "x.npy"), str(tmp_path / "y.npy")),
        "npz": (f"{tmp_path}/both.npz:x", f"{tmp_path}/both.npz:y"),
        "mapped": (np.load(tmp_path / "x.npy", mmap_mode="r"), np.load(tmp_path / "y.npy", mmap_mode="r")),
    }[kind]
    memory = Arrays(inputs=FLOATS, targets=NUMBERS).resolve()
    dataset = Arrays(inputs=inputs, targets=targets).resolve()
    assert dataset.facts == memory.facts
    spec, data = dataset.spec(), dataset.load()
    for split, features in memory.load().items():
        for name, expected in features.items():
            column = data[split][name]
            assert isinstance(column, Column)
            # What lies in a file is read when it is asked for.
            assert isinstance(column, np.ndarray) == (kind in ("memory", "npz"))
            assert column.shape == (spec.sizes[split], *spec.features[name].shape)
            assert column.dtype == spec.features[name].dtype == np.float32
            np.testing.assert_array_equal(whole(column), expected)
            np.testing.assert_array_equal(column[np.array([3, 0, 0])], expected[[3, 0, 0]])


@pytest.mark.parametrize("standardized", [True, False])
@pytest.mark.parametrize("targets", [NUMBERS, FLOATS[:, :2]])
def test_numeric_targets_are_standardised_and_the_data_s_units_kept_in_the_spec(targets, standardized):
    dataset = Arrays(inputs=IMAGES, targets=targets, split=ALL, standardize_targets=standardized).resolve()
    scaler = StandardScaler().fit(targets.reshape(50, -1))
    found = prepared(dataset)["targets"]
    assert found.shape == targets.shape
    if standardized:
        np.testing.assert_allclose(dataset.spec().target_mean, scaler.mean_)
        np.testing.assert_allclose(dataset.spec().target_stddev, scaler.scale_)
        targets = scaler.transform(targets.reshape(50, -1)).reshape(targets.shape)
    else:
        assert dataset.spec().target_mean == dataset.spec().target_stddev == ()
    np.testing.assert_allclose(found, targets, rtol=1e-4, atol=1e-4)


def test_labels_of_several_classes_at_once():
    labels = RANDOM.integers(0, 2, (50, 3))
    dataset = Arrays(inputs=FLOATS, targets=labels.astype(bool), class_names=("a", "b", "c"), split=ALL).resolve()
    assert dataset.spec().num_classes == 3
    assert dataset.spec().features["targets"] == jax.ShapeDtypeStruct((3,), np.int32)
    np.testing.assert_array_equal(prepared(dataset)["targets"], labels)


@pytest.mark.parametrize(
    ("own", "sizes"),
    [
        ((), {"train": 30, "validation": 10, "test": 10}),
        (("test",), {"train": 40, "validation": 10, "test": 7}),
        (("validation",), {"train": 40, "validation": 7, "test": 10}),
        (("validation", "test"), {"train": 50, "validation": 7, "test": 7}),
    ],
)
def test_parts_that_are_given_are_not_cut_off(own, sizes):
    other = {"inputs": FLOATS[:7] + 50, "targets": CLASSES[:7]}
    given = {f"{part}_{name}": array for part in own for name, array in other.items()}
    split = RandomSplit(validation=0.2, test=0.2)
    dataset = Arrays(inputs=FLOATS, targets=CLASSES, split=split, **given).resolve()
    assert dataset.spec().sizes == sizes
    assert list(dataset.spec().sizes) == ["train", "validation", "test"]
    data = dataset.load()
    assert {name: len(columns["inputs"]) for name, columns in data.items()} == sizes
    for part in own:
        np.testing.assert_array_equal(data[part]["inputs"], other["inputs"].astype(np.float32))
    assert sum((columns["inputs"][:, 0] < 30).sum() for columns in data.values()) == 50
    assert abs(prepared(dataset)["inputs"].mean()) < 1e-4


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_moments_do_not_depend_on_the_blocks(monkeypatch, block):
    monkeypatch.setattr(array_files, "_BLOCK", block)
    measured = RANDOM.random(50) < 0.5
    measured[:10] = False
    moments = scan(FLOATS, "x", measured).moments
    np.testing.assert_allclose(moments.mean, FLOATS[measured].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.stddev, FLOATS[measured].std(axis=0), rtol=1e-12)
    assert moments.count == measured.sum()
    assert scan(FLOATS, "x").sha256 == scan(FLOATS.copy(order="F"), "x").sha256
    other = FLOATS.copy()
    other[49, 2] += 1e-9
    assert scan(FLOATS, "x").sha256 != scan(other, "x").sha256


def test_moments_are_stable_where_the_sum_of_squares_is_not():
    values = np.array([[1e9 + 1.0], [1e9 + 2.0], [1e9 + 3.0], [1e9 + 4.0]])
    joined = Moments.of(values[:1]) + Moments.of(values[1:])
    np.testing.assert_allclose(joined.stddev, np.std([1, 2, 3, 4]), rtol=1e-9)


def test_a_feature_of_one_value_gives_no_nan():
    inputs = np.stack([np.full(50, 0.1), FLOATS[:, 0]], axis=1)
    dataset = Arrays(inputs=inputs, targets=CLASSES, split=ALL).resolve()
    assert dataset.facts.columns[0].stddev == 1.0
    assert np.abs(prepared(dataset)["inputs"][:, 0]).max() < 1e-6


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": FLOATS[:49]}, "dataset.inputs has 49 examples, dataset.targets has 50"),
        ({"inputs": changed(FLOATS, (7, 2), np.nan)}, r"dataset.inputs\[7, 2\] is nan, .*leave its row out"),
        ({"inputs": changed(FLOATS, (49, 0), -np.inf)}, r"dataset.inputs\[49, 0\] is -inf"),
        ({"inputs": changed(FLOATS, (3, 1), 1e39)}, r"dataset.inputs\[3, 1\] is 1e\+39, .* float32"),
        ({"targets": changed(NUMBERS, 5, np.nan)}, r"dataset.targets\[5\] is nan"),
        ({"test_inputs": changed(FLOATS, (1, 1), np.nan), "test_targets": CLASSES}, r"test_inputs\[1, 1\] is nan"),
        ({"inputs": FLOATS.tolist()}, "dataset.inputs is a list, where a NumPy array"),
        ({"inputs": FLOATS.astype(object)}, "dataset.inputs holds object, .* unequal lengths"),
        ({"targets": np.array(["a", "b"] * 25)}, "dataset.targets holds <U1, where numbers are needed"),
        ({"inputs": FLOATS.astype(complex)}, "dataset.inputs holds complex128"),
        ({"inputs": np.ma.masked_less(FLOATS, 0)}, "dataset.inputs is a masked array"),
        ({"inputs": np.array(1.0)}, r"dataset.inputs has the shape \(\): there is no example in it"),
        ({"inputs": FLOATS[:0], "targets": CLASSES[:0]}, r"dataset.inputs has the shape \(0, 3\)"),
        ({"inputs": FLOATS[:, :0]}, r"dataset.inputs has the shape \(50, 0\)"),
        ({"inputs": NUMBERS}, r"dataset.inputs has the shape \(50,\).*give inputs\[:, None\]"),
        ({"targets": FLOATS[:, None]}, r"dataset.targets has the shape \(50, 1, 3\); allowed are \(n,\) and \(n, k\)"),
        ({"inputs": FLOATS + 1e7}, "dataset.inputs: differences as small as those of feature 0.*subtract a constant"),
        ({"targets": NUMBERS + 1e12}, "dataset.targets: differences as small as those of feature 0"),
        ({"inputs": FLOATS[:3], "targets": CLASSES[:3], "split": RandomSplit()}, "3 rows are too few"),
        ({"targets": CLASSES - 1}, r"dataset.targets\[\d+\] is -1, but classes are counted from 0"),
        ({"targets": CLASSES + 1}, "3 different integers from 1 to 3, but classes are counted from 0"),
        ({"targets": CLASSES * 1000}, "3 different integers from 0 to 2000, but .* return_inverse"),
        ({"targets": np.uint64(2**63) + CLASSES.astype(np.uint64)}, r"dataset.targets\[0\] is 92233720\d+, but"),
        ({"targets": CLASSES * 0}, "dataset.targets: there is only one class, 0"),
        ({"targets": CLASSES, "class_names": ("a", "b")}, r"dataset.targets\[\d+\] is 2, but there are 2 class_names"),
        ({"test_inputs": FLOATS, "test_targets": CLASSES + 1, "class_names": ("a", "b", "c")},
         r"dataset.test_targets\[\d+\] is 3, but there are 3 class_names"),
        ({"targets": NUMBERS, "class_names": ("a", "b")}, "class_names: dataset.targets are numbers, of float64"),
        ({"targets": CLASSES[:, None]}, r"integers of shape \(n, 1\); give class_names.*targets\[:, 0\]"),
        ({"targets": np.stack([CLASSES] * 2, 1), "class_names": ("a", "b")}, r"\[\d+, 0\] is 2: .* each is 0 or 1"),
        ({"targets": np.stack([CLASSES] * 2, 1), "class_names": ("a",)}, "1 names for 2 columns of targets"),
        ({"test_inputs": FLOATS}, "dataset.test_inputs and dataset.test_targets: give both, or neither"),
        ({"test_inputs": FLOATS[:, :2], "test_targets": CLASSES},
         r"dataset.test_inputs are float64 of shape \(2,\) for an example, dataset.inputs are float64 of shape \(3,\)"),
        ({"test_inputs": FLOATS, "test_targets": NUMBERS}, "test_targets are float64 .* dataset.targets are int64"),
        ({"validation_inputs": IMAGES / 255, "validation_targets": CLASSES, "inputs": IMAGES},
         "dataset.validation_inputs are float64 .* dataset.inputs are uint8"),
    ],
)  # fmt: skip
def test_bad_arrays(fields, message):
    with pytest.raises(RequestError, match=message) as error:
        Arrays(**{"inputs": FLOATS, "targets": CLASSES, "split": ALL, **fields}).resolve()
    assert "\n" not in str(error.value)


def files(folder):
    """Files that are no arrays of numbers, by name."""
    np.save(folder / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    np.save(folder / "good.npy", FLOATS)
    np.savez(folder / "good.npz", x=FLOATS, y=CLASSES)
    np.savez_compressed(folder / "objects.npz", x=np.array([{}, 1], object))
    for name in ("good.npy", "good.npz"):
        content = (folder / name).read_bytes()
        (folder / f"short_{name}").write_bytes(content[: len(content) // 2])
    content = bytearray((folder / "good.npz").read_bytes())
    content[len(content) // 3] ^= 0xFF
    (folder / "damaged.npz").write_bytes(content)
    (folder / "empty.npy").write_bytes(b"")
    (folder / "text.npy").write_text("1,2,3\n")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.npy", r"dataset.inputs: there is no file .*nowhere.npy \(relative paths start at"),
        ("nowhere.npz:x", "there is no file .*nowhere.npz "),
        ("", "is a folder: give the path of an .npy file"),
        ("objects.npy", "it holds Python objects, which are not read"),
        ("objects.npz:x", "it holds Python objects, which are not read"),
        ("short_good.npy", "short_good.npy cannot be read as an .npy or .npz file"),
        ("short_good.npz:x", "short_good.npz (is damaged|cannot be read)"),
        ("damaged.npz:x", "damaged.npz (is damaged|cannot be read)"),
        ("empty.npy", "empty.npy cannot be read"),
        ("text.npy", "text.npy cannot be read as an .npy or .npz file"),
        ("good.npz", "good.npz is an archive of arrays: give '.*good.npz:NAME', where NAME is one of x, y"),
        ("good.npz:z", "good.npz has no array 'z'.*one of x, y"),
    ],
)
def test_bad_files(tmp_path, name, message):
    files(tmp_path)
    with pytest.raises(RequestError, match=message) as error:
        Arrays(inputs=str(tmp_path / name), targets=CLASSES).resolve()
    assert "\n" not in str(error.value)
