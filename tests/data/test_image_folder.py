"""Folders of images: what is made of sound ones, and what is said of the others."""

import dataclasses
import io
import itertools
import os
import shutil
import warnings

import jax
import numpy as np
import pytest
from PIL import Image

from neuralmon import codec
from neuralmon.data import Dataset, Mnist
from neuralmon.data.dataset import whole
from neuralmon.data.images.folder import ImageFolder
from neuralmon.data.splits import ChronologicalSplit, RandomSplit
from neuralmon.errors import RequestError, RunError
from neuralmon.names import Names

HALF = RandomSplit(validation=0.25, test=0.25)


def png(image=None, size=(5, 4)):
    buffer = io.BytesIO()
    (image or Image.new("RGB", size, "red")).save(buffer, "PNG")
    return buffer.getvalue()


def grey(value, size=(5, 4)):
    return png(Image.new("L", size, value))


def lay(folder, files):
    """Writes files by path; of a path that ends with a slash, the folder."""
    for name, content in files.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)
    return folder


def pair(count=8, prefix="", classes=("cat", "dog")):
    """Equally many images in each class, all different."""
    numbers = itertools.product(enumerate(classes), range(count))
    return {f"{prefix}{name}/{index}.png": grey(10 * number + index) for (number, name), index in numbers}


# Files that are no image folder, what is said about it, and fields.
REFUSED = {
    "empty folder": ({}, "holds no images"),
    "other files only": (
        {"a.txt": b"", "b/c.txt": b"", ".DS_Store": b""},
        r"holds no images .*left out: 2 \.txt, 1 hidden",
    ),
    "images outside class folders": ({"1.png": png(), "2.png": png()}, "holds 2 images outside the folders of classes"),
    "an image beside class folders": ({**pair(), "stray.png": png()}, "holds 1 images outside the folders of classes"),
    "an image beside splits": (
        {**pair(prefix="train/"), "stray.png": png()},
        "holds 1 images beside the folders of splits",
    ),
    "one class only": (pair(classes=("cat",)), "has one class only, cat"),
    "one folder too high": (
        {**pair(prefix="animals/")},
        "has one class only, animals: it takes two; did you mean .*/animals?",
    ),
    "class without images": ({**pair(), "bird/": b"", "fish/a.txt": b""}, "the class bird, fish has no images"),
    "too few rows for the split": (pair(count=1), "2 rows are too few"),
    "a class that is in no training row": ({**pair(6), "rare/1.png": png()}, "all images of class .* fell to"),
    "text named .png": ({**pair(), "bird/0.png": b"a text"}, r"bird/0\.png cannot be read as an image: it is no PNG"),
    "zero bytes": ({**pair(), "bird/0.png": b""}, r"bird/0\.png cannot be read as an image: the file is empty"),
    "truncated first image": ({**pair(), "ant/0.png": png()[:45]}, r"ant/0\.png cannot be read as an image"),
    "test class that is not in training": (
        {**pair(prefix="train/"), **pair(prefix="test/", classes=("cat", "zebra"))},
        "test: the class zebra is not one of training, which are cat, dog",
    ),
    "validation class that is not in training": (
        {**pair(prefix="train/"), **pair(prefix="val/", classes=("horse",))},
        "val: the class horse is not one of training",
    ),
    "unlabelled test images": ({**pair(prefix="train/"), "test/1.png": png()}, "test holds 1 images outside"),
    "empty test folder": ({**pair(prefix="train/"), "test/": b""}, "test holds no images"),
    "unlabelled splits": ({"train/1.png": png(), "test/1.png": png()}, "train holds 1 images outside the folders"),
    "no train folder": ({**pair(prefix="test/"), **pair(prefix="val/")}, "has test, val but no train folder"),
    "two validation folders": (
        {**pair(prefix="train/"), **pair(prefix="val/"), **pair(prefix="valid/")},
        "both val/ and valid/ are the validation split",
    ),
    "splits and classes": ({**pair(prefix="train/"), **pair()}, r"folders of splits \(train\) and others \(cat, dog\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_image_folder_is_refused(tmp_path, kind):
    files, message = REFUSED[kind]
    split = ChronologicalSplit(validation=0.1, test=0.3) if "no training row" in kind else RandomSplit()
    with pytest.raises(RequestError, match=message) as raised:
        ImageFolder(path=str(lay(tmp_path, files)), split=split).resolve()
    assert "\n" not in str(raised.value) and (str(tmp_path) in str(raised.value) or "no training row" in kind)


FIELDS = {
    "missing": ({"path": "{}/absent"}, "absent does not exist"),
    "a file": ({"path": "{}/cat/0.png"}, "is a file; give a folder"),
    "empty path": ({"path": ""}, "the path is empty"),
    "no such home": ({"path": "~nobody-of-this-name/images"}, "nobody-of-this-name"),
    "mean": ({"mean": (0.5, 0.5)}, r"dataset.mean: \(0.5, 0.5\) is not one number or 1"),
    "stddev": ({"channels": "rgb", "stddev": (1.0, 0.0, 1.0)}, "dataset.stddev"),
    "class weights": ({"class_weights": (1.0, 2.0, 3.0)}, "3 weights for 2 classes"),
}


@pytest.mark.parametrize("kind", FIELDS)
def test_fields_that_do_not_fit_are_refused(tmp_path, kind):
    fields, message = FIELDS[kind]
    lay(tmp_path, pair())
    fields = {"path": "{}", **fields}
    with pytest.raises(RequestError, match=message):
        ImageFolder(**{**fields, "path": fields["path"].format(tmp_path)}).resolve()


def test_what_may_not_be_read_is_refused(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    lay(tmp_path, pair())
    (tmp_path / "cat" / "0.png").chmod(0)
    with pytest.raises(RequestError, match=r"0\.png cannot be read as an image: Permission denied"):
        ImageFolder(path=str(tmp_path)).resolve()
    (tmp_path / "dog").chmod(0)
    with pytest.raises(RequestError, match="dog cannot be read: Permission denied"):
        ImageFolder(path=str(tmp_path)).resolve()
    (tmp_path / "dog").chmod(0o700)


# Files, and the (height, width, channels) that are found.
MIXTURES = {
    "grey": ({**pair()}, (4, 5, 1)),
    "one in colour": ({**pair(), "dog/x.png": png()}, (4, 5, 3)),
    "grey palette": ({"a/1.png": png(Image.new("L", (5, 4), 7).convert("P")), "b/1.png": grey(3)}, (4, 5, 1)),
    "one transparent": ({**pair(), "dog/x.png": png(Image.new("RGBA", (5, 4)))}, (4, 5, 4)),
    "mixed sizes": ({**pair(), "dog/0.png": grey(1, (90, 70)), "cat/9.png": grey(1, (1, 1))}, (4, 5, 1)),
    "upper case and other suffixes": ({"a/1.PNG": grey(1, (3, 2)), "b/1.Jpeg": grey(1)}, (2, 3, 1)),
}


@pytest.mark.parametrize("kind", MIXTURES)
def test_shape_is_that_of_the_first_image_and_the_most_general_channels(tmp_path, kind):
    files, shape = MIXTURES[kind]
    split = RandomSplit(validation=0, test=0)
    dataset = ImageFolder(path=str(lay(tmp_path, files)), split=split).resolve()
    assert dataset.facts.shape == shape
    assert whole(dataset.load()["train"]["inputs"]).shape == (len(files), *shape)
    for size, channels, expected in (
        (7, "rgb", (7, 7, 3)),
        ((3, 2), "grey", (3, 2, 1)),
        (None, "rgba", (*shape[:2], 4)),
    ):
        changed = dataclasses.replace(dataset, size=size, channels=channels, facts=None).resolve()
        assert changed.facts.shape == expected
        assert whole(changed.load()["train"]["inputs"]).shape == (len(files), *expected)


def test_the_first_image_is_measured_as_it_is_seen(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    lay(tmp_path, {"a/2.png": png(), "b/1.png": png()})
    Image.new("RGB", (30, 20)).save(tmp_path / "a" / "1.jpg", exif=exif)
    dataset = ImageFolder(path=str(tmp_path), split=RandomSplit(validation=0, test=0))
    assert dataset.resolve().facts.shape == (30, 20, 3)


def values(dataset):
    """Each split's (grey value, class) pairs."""
    return {
        name: list(zip(whole(columns["inputs"])[:, 0, 0, 0].tolist(), columns["targets"].tolist(), strict=True))
        for name, columns in dataset.load().items()
    }


def test_an_unpublished_split_is_cut_in_the_order_of_names(tmp_path):
    files = {**pair(10), "dog/deep/er/1.png": grey(99)}
    for name in ("one", "two"):
        lay(tmp_path / name, dict(files if name == "one" else reversed(files.items())))
    first, second = (ImageFolder(path=str(tmp_path / name), split=HALF).resolve() for name in ("one", "two"))
    assert first.facts == second.facts
    assert values(first) == values(second)
    everything = [(index, 0) for index in range(10)] + [(10 + index, 1) for index in range(10)] + [(99, 1)]
    rows = HALF.rows(21)
    assert values(first) == {name: [everything[row] for row in rows[name]] for name in rows}
    assert list(first.facts.sizes) == ["train", "validation", "test"]
    counts = np.bincount([label for _, label in values(first)["train"]])
    assert first.facts.class_counts == tuple(counts.tolist())


# Folders with images, and the number of examples of each split.
PUBLISHED = {
    ("train",): {"train": 6, "validation": 5, "test": 5},
    ("train", "test"): {"train": 12, "validation": 4, "test": 16},
    ("Training", "Testing"): {"train": 12, "validation": 4, "test": 16},
    ("train", "val"): {"train": 16, "validation": 16},
    ("train", "valid", "test"): {"train": 16, "validation": 16, "test": 16},
    ("train", "validation", "test"): {"train": 16, "validation": 16, "test": 16},
}


@pytest.mark.parametrize("folders", PUBLISHED)
def test_published_splits_are_kept(tmp_path, folders):
    for offset, folder in enumerate(folders):
        lay(tmp_path / folder, {name: grey(50 * offset + index) for index, name in enumerate(pair())})
    split = RandomSplit(validation=0.3, test=0.3) if folders == ("train",) else HALF
    dataset = ImageFolder(path=str(tmp_path), split=split).resolve()
    assert dataset.facts.sizes == PUBLISHED[folders]
    found = values(dataset)
    assert {name: len(pairs) for name, pairs in found.items()} == PUBLISHED[folders]
    published = {50 * offset + index: index // 8 for offset in range(len(folders)) for index in range(16)}
    assert dict(itertools.chain(*found.values())) == published
    if len(folders) > 1:
        assert all(value >= 50 for value, _ in found[list(found)[-1]])


def test_a_class_may_be_missing_in_the_test_and_be_called_train(tmp_path):
    lay(tmp_path / "1", {**pair(prefix="train/"), **pair(prefix="test/", classes=("dog",)), "train/.git/x.png": png()})
    dataset = ImageFolder(path=str(tmp_path / "1")).resolve()
    assert dataset.facts.class_names == ("cat", "dog")
    assert set(dataset.load()["test"]["targets"].tolist()) == {1}
    lay(tmp_path / "2", pair(classes=("boat", "train")))
    assert ImageFolder(path=str(tmp_path / "2")).resolve().facts.class_names == ("boat", "train")


def test_files_that_are_no_images_are_left_out_with_a_warning_and_hidden_ones_without(tmp_path):
    lay(tmp_path, {**pair(), "cat/.DS_Store": b"", "__MACOSX/cat/._1.png": b"x"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clean = ImageFolder(path=str(tmp_path)).resolve()
    lay(tmp_path, {"cat/a.tif": b"", "dog/b.TIF": b"", "dog/c.txt": b""})
    with pytest.warns(UserWarning, match=r"left out: 2 \.tif"):
        assert ImageFolder(path=str(tmp_path)).resolve().facts == clean.facts


def test_class_names_that_are_no_utf8_can_be_recorded(tmp_path):
    lay(tmp_path, pair())
    try:
        (tmp_path / "dog").rename(tmp_path / os.fsdecode(b"d\xf6g"))
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    dataset = ImageFolder(path=str(tmp_path)).resolve()
    assert dataset.facts.class_names == ("cat", "d\\xf6g")
    assert len(whole(dataset.load()["train"]["inputs"])) == dataset.facts.sizes["train"]


CHANGES = {
    "an image is gone": (lambda path: (path / "cat" / "0.png").unlink(), "train had 13 images and has 12"),
    "one is new": (lambda path: lay(path, {"cat/new.png": grey(1)}), "train had 13 images and has 14"),
    "one has another name": (
        lambda path: (path / "cat" / "0.png").rename(path / "cat" / "x.png"),
        "some of another name",
    ),
    "one has another size": (lambda path: lay(path, {"cat/0.png": png(size=(50, 40))}), "some of another name or size"),
    "one is in another class": (lambda path: (path / "cat" / "0.png").rename(path / "dog" / "x.png"), "another name"),
    "a class is gone": (lambda path: shutil.rmtree(path / "dog"), "no longer there: .*has one class only, cat"),
    "the folder is gone": (shutil.rmtree, "no longer there: .*does not exist"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_another_content_than_the_facts_were_found_in_is_refused(tmp_path, kind):
    change, message = CHANGES[kind]
    folder = lay(tmp_path / "images", pair())
    dataset = ImageFolder(path=str(folder), split=RandomSplit(validation=0.1, test=0.1)).resolve()
    if kind == "one has another size":
        (folder / "cat" / "0.png").write_bytes(b"")
    change(folder)
    message = message.replace("13", str(dataset.facts.sizes["train"]))
    for size in (12, 14):
        message = message.replace(f"has {size}", f"has {dataset.facts.sizes['train'] + size - 13}")
    with pytest.raises(RunError, match=message):
        dataset.load()


def test_a_file_that_vanishes_or_breaks_after_reading_the_folder_is_named(tmp_path):
    dataset = ImageFolder(path=str(lay(tmp_path, pair())), split=RandomSplit(validation=0, test=0)).resolve()
    column = dataset.load()["train"]["inputs"]
    (tmp_path / "cat" / "3.png").unlink()
    (tmp_path / "dog" / "3.png").write_bytes(grey(1)[:50])
    for row, name in ((3, "cat/3.png"), (11, "dog/3.png")):
        with pytest.raises(RunError, match=f"{name} cannot be read as an image"):
            column[np.array([0, row])]
    assert column[np.array([0, 4])].shape == (2, 4, 5, 1)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Sixty embedded digits as files, and the pixels by class and number."""
    folder, data = tmp_path_factory.mktemp("digits"), Mnist().load()["validation"]
    files = {}
    for index in range(60):
        files[f"{data['targets'][index]}/{index:02}.png"] = png(Image.fromarray(data["inputs"][index, ..., 0]))
    return lay(folder, files), [data["inputs"][int(name[2:4])] for name in sorted(files)]


def test_pixels_are_those_that_were_saved_and_any_rows_what_single_ones_are(digits):
    folder, pixels = digits
    dataset = ImageFolder(path=str(folder), split=RandomSplit(validation=0, test=0)).resolve()
    column = dataset.load()["train"]["inputs"]
    np.testing.assert_array_equal(whole(column), pixels)
    rng = np.random.default_rng(3)
    for size in (1, 3, 60, 130):
        rows = rng.integers(0, 60, size)
        np.testing.assert_array_equal(column[rows], np.concatenate([column[rows[i : i + 1]] for i in range(size)]))


def test_the_contract_of_a_dataset(digits):
    folder, pixels = digits
    dataset = ImageFolder(path=str(folder), mean=(0.2,), stddev=(0.4,), balanced_sampling=True).resolve()
    assert isinstance(dataset, Dataset)
    spec, splits = dataset.spec(), dataset.load()
    assert set(spec.sizes) == set(splits)
    for name, columns in splits.items():
        for feature, struct in spec.features.items():
            assert tuple(columns[feature].shape) == (spec.sizes[name], *struct.shape)
            assert columns[feature].dtype == struct.dtype
    batch = {"inputs": np.stack(pixels[:5]), "targets": np.zeros(5, np.int32), "weights": np.ones(5, np.float32)}
    prepared = dataset.prepare(jax.random.key(0), batch, train=False)
    np.testing.assert_allclose(prepared["inputs"], (np.stack(pixels[:5]) / 255 - 0.2) / 0.4, rtol=1e-5, atol=1e-6)


def test_each_channel_has_its_mean_and_stddev(tmp_path):
    mean, stddev = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    dataset = ImageFolder(path=str(lay(tmp_path, pair())), channels="rgb", mean=mean, stddev=stddev).resolve()
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    prepared = dataset.prepare(jax.random.key(0), {"inputs": images}, train=False)["inputs"]
    np.testing.assert_allclose(prepared, (images / 255 - np.array(mean)) / np.array(stddev), rtol=1e-4, atol=1e-6)


def test_predictions_need_the_facts_only(digits, tmp_path):
    folder, pixels = digits
    moved = shutil.copytree(folder, tmp_path / "images")
    dataset = ImageFolder(path=str(moved)).resolve()
    names, images = dataset.read_inputs(str(folder))
    assert names == sorted(names) and len(names) == 60
    np.testing.assert_array_equal(images, pixels)
    shutil.rmtree(moved)
    again = dataset.read_inputs(str(folder / names[7]))
    assert again[0] == [names[7][2:]]
    np.testing.assert_array_equal(again[1], pixels[7:8])


def test_the_home_folder_may_be_abbreviated(tmp_path, monkeypatch):
    lay(tmp_path / "images", pair())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    dataset = ImageFolder(path="~/images").resolve()
    assert dataset.path == "~/images" and dataset.load()["train"]["inputs"].shape[1:] == (4, 5, 1)


def test_every_field_can_be_recorded(digits):
    names = Names()
    dataset = ImageFolder(path=str(digits[0]), size=(20, 24), resize="pad", channels="rgb", split=HALF).resolve()
    annotations = {field.name: field.type for field in dataclasses.fields(ImageFolder)}
    for name in ("path", "size", "resize", "channels", "mean", "stddev"):
        data = codec.to_json(getattr(dataset, name), names, annotation=annotations[name])
        assert codec.from_json(data, annotations[name], names) == getattr(dataset, name)
