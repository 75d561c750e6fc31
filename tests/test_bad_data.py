"""Bad data as a person meets it, through the command line: named in one line, and nothing lost."""

import dataclasses
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neuralmon.cli import main

Files = Mapping[str, bytes | str]
Launch = Callable[..., tuple[int, str, str]]

_OWN = """
import numpy as np
import neuralmon as nm

def experiment():
    return nm.Experiment(
        dataset=nm.data.{dataset}, model=nm.models.MLP(hidden=()), task=nm.tasks.{task}, optimizer=nm.optim.SGD(),
        training=nm.Training(batch_size=4, steps=2),
    )
"""


def png(seed: int = 0, size: tuple[int, int] = (12, 10), mode: str = "L") -> bytes:
    """Noise, so that half of the file is less than an image."""
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    content = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def npy(array: Any, **options: Any) -> bytes:
    content = io.BytesIO()
    np.save(content, np.asarray(array), **options)
    return content.getvalue()


def images(count: int = 10, classes: tuple[str, ...] = ("cat", "dog"), prefix: str = "") -> dict[str, bytes | str]:
    return {
        f"images/{prefix}{name}/{index}.png": png(100 * number + index)
        for number, name in enumerate(classes)
        for index in range(count)
    }


def table(row: str = "", at: int = 17, count: int = 40, head: str = "length,width,kind", classes: str = "ab") -> str:
    """Rows of two numbers and a class, of which the one with the index `at` is `row`."""
    rows = [f"{index / 7:.3f},{index * index % 11},{classes[index % len(classes)]}" for index in range(count)]
    if row:
        rows[at] = row
    return "\n".join([head, *rows, ""])


X = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
Y = (np.arange(40) % 2).astype(np.int32)


def put(array: np.ndarray, place: Any, value: Any) -> np.ndarray:
    changed = array.copy()
    changed[place] = value
    return changed


def lay(folder: Path, files: Files) -> None:
    for name, content in files.items():
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content.encode() if isinstance(content, str) else content)


def tree(folder: Path) -> dict[str, bytes]:
    """Everything in a folder but the locks."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@dataclasses.dataclass(frozen=True)
class Case:
    """Files, and what is said of them; `{}` is the folder they lie in, `|` a space."""

    files: Files
    says: tuple[str, ...]
    dataset: str
    words: str = ""
    task: str = "Classification()"


def folder_case(files: Files, *says: str, words: str = "", task: str = "Classification()") -> Case:
    return Case(files, says, "ImageFolder(path='{}/images')", words, task)


def csv_case(content: bytes | str | None, *says: str, words: str = "", task: str = "Classification()") -> Case:
    files = {} if content is None else {"table.csv": content}
    return Case(files, says, "Csv(path='{}/table.csv', target='kind')", words, task)


def array_case(inputs: Any, targets: Any, *says: str, words: str = "", task: str = "Classification()") -> Case:
    given = {"x.npy": inputs, "y.npy": targets}
    files = {name: a if isinstance(a, bytes) else npy(a) for name, a in given.items() if a is not None}
    return Case(files, says, "Arrays(inputs='{}/x.npy', targets='{}/y.npy')", words, task)


def shipped_case(dataset: str, words: str, *says: str, task: str = "Classification()") -> Case:
    return Case({}, says, dataset, words, task)


_BINARY, _MULTI, _REGRESSION = "BinaryClassification()", "MultiLabel()", "Regression()"
_CASES = {
    # A folder of images.
    "no folder": folder_case({}, "dataset.path: ", "images does not exist; give a folder with one folder per class"),
    "file for folder": folder_case({"images": "x"}, "dataset.path: ", "images is a file; give a folder"),
    "empty folder": folder_case({"images/": ""}, "images holds no images", ".png, .jpg"),
    "no path": folder_case(images(), "the path is empty; give that of a folder", words="--dataset.path="),
    "text files only": folder_case({"images/a.txt": "", "images/b/c.txt": ""}, "holds no images", "left out: 2 .txt"),
    "one class": folder_case(images(classes=("cat",)), "images has one class only, cat: it takes two"),
    "class without images": folder_case(
        {**images(), "images/bird/": ""}, "images: the class bird has no images; add some or remove it"
    ),
    "image beside classes": folder_case({**images(), "images/x.png": png()}, "holds 1 images outside the folders"),
    "text named .png": folder_case(
        {**images(), "images/cat/0.png": "text"},
        "images/cat/0.png cannot be read as an image", "it is no PNG", "replace or remove it",
    ),
    "truncated": folder_case(
        {**images(), "images/cat/0.png": half(png())}, "images/cat/0.png cannot be read", "truncated", "replace"
    ),
    "zero bytes": folder_case({**images(), "images/dog/0.png": ""}, "dog/0.png cannot be read", "the file is empty"),
    "too few images": folder_case(
        images(1), "images: 2 rows are too few: none is left for validation", "give more rows, or change dataset.split"
    ),
    "label outside the classes": folder_case(
        {**images(prefix="train/"), **images(prefix="test/", classes=("cat", "zebra"))},
        "images/test: the class zebra is not one of training, which are cat, dog",
    ),
    "no training images": folder_case(images(prefix="test/"), "images has test but no train folder"),
    "nothing left for training": folder_case(
        images(), "dataset.split leaves nothing for training (validation 0.5, test 0.6)", "below 1",
        words="--dataset.split.test=0.6 --dataset.split.validation=0.5",
    ),
    "three weights for two classes": folder_case(
        images(), "dataset.class_weights: 3 weights for 2 classes (cat, dog); give one for each, or balanced",
        words="--dataset.class_weights=1,2,3",
    ),
    "weight below 0": folder_case(
        images(), "dataset.class_weights: -2 is below 0; allowed is 0 or more", words="--dataset.class_weights=1,-2"
    ),
    "weights that are a word": folder_case(images(), "balanced", "not heavy", words="--dataset.class_weights=heavy"),
    "means of other channels": folder_case(
        images(), "dataset.mean: (0.5, 0.5) is not one number or 1", words="--dataset.mean=0.5,0.5"
    ),
    "pipeline": folder_case(images(), "expected auto or device or stream, not disk", words="--dataset.pipeline=disk"),
    "channels": folder_case(images(), "auto or grey or rgb or rgba, not gray", words="--dataset.channels=gray"),
    "batch larger than the data": folder_case(
        images(), "training.batch_size: 64 is more than the 16 training examples", words="--training.batch_size=64"
    ),
    "three classes for two": folder_case(
        images(classes=("a", "b", "c")), "needs data of two classes, and this data has 3: use Classification",
        task=_BINARY,
    ),
    "regression of images": folder_case(images(), "targets that are numbers", "use Classification", task=_REGRESSION),
    "labels of images": folder_case(images(), "this data has one class an example: use Class", task=_MULTI),
    # A table.
    "no file": csv_case(None, "there is no file ", "table.csv (relative paths start at "),
    "empty file": csv_case("", "table.csv is empty: the first line has to name the columns"),
    "head only": csv_case("length,width,kind\n", "table.csv has no rows below its head"),
    "folder for file": csv_case(table(), " is a folder: give the path of a CSV file", words="--dataset.path={}"),
    "empty path": csv_case(table(), "the path of a CSV file is empty", words="--dataset.path="),
    "missing column": csv_case(
        table(), "table.csv has no column 'Kind' (did you mean 'kind'?), see dataset.target", "'length', 'width'",
        words="--dataset.target=Kind",
    ),
    "missing feature": csv_case(
        table(), "has no column 'depth'", "see dataset.features", words="--dataset.features=length,depth"
    ),
    "text where numbers belong": csv_case(
        table("tall,3,a"), "table.csv, row 18 (line 19), column 'length': 'tall' is no number", "correct it",
    ),
    "text far below": csv_case(
        table("tall,3,a", at=2500, count=3000), "row 2501 (line 2502), column 'length': 'tall' is no number; correct"
    ),
    "decimal commas": csv_case(
        "length;kind\n" + "".join(f"{index},5;{'ab'[index % 2]}\n" for index in range(40)),
        "row 1 (line 2), column 'length': '0,5' is no number: write it with a point", words="--dataset.delimiter=;",
    ),
    "no value": csv_case(
        table(",3,a"), "row 18 (line 19), column 'length': there is no value, as in 1 of 40 rows", "missing=drop"
    ),
    "NaN": csv_case(table("nan,3,a"), "row 18 (line 19), column 'length': there is no value", "fill them in"),
    "infinity": csv_case(table("inf,3,a"), "row 18 (line 19), column 'length': inf is infinite", "correct it"),
    "row too long": csv_case(
        table("1,3,a,9"), "row 18 (line 19): 4 values, where the head names 3 columns", "needs quotation marks"
    ),
    "row too short": csv_case(table("1,3"), "table.csv, row 18 (line 19): 2 values, where the head names 3 columns"),
    "not UTF-8": csv_case(
        table(classes="aé").encode("latin1"), "table.csv is not UTF-8: byte ", "(line 3) is 0xe9", "iconv -f LATIN1"
    ),
    "UTF-16": csv_case(table().encode("utf-16"), "is not UTF-8: byte 0 (line 1)", "iconv -f UTF-16"),
    "no text": csv_case(npy(X), "table.csv is not UTF-8", "it is no text; give a CSV file"),
    "open quotation": csv_case(table() + '"open,3,a\n', "table.csv, line 42: ", "is a quotation mark not closed"),
    "one class in a table": csv_case(table(classes="a"), "there is only one class, 'a', in column 'kind'"),
    "too few rows": csv_case(
        table(count=4), "table.csv: 4 rows are too few: none is left for validation", words="--training.batch_size=1"
    ),
    "column twice": csv_case(table(head="length,length,kind"), "2 columns are called 'length'; rename them"),
    "semicolons": csv_case(table().replace(",", ";"), "they seem to be by ';'; give dataset.delimiter=';'"),
    "identifiers": csv_case(
        "number,name,kind\n" + "".join(f"{index},n{index},{'ab'[index % 2]}\n" for index in range(40)),
        "column 'name' holds 40 different words", "dataset.ignore=name", "dataset.categorical=name",
    ),
    "no value anywhere": csv_case(
        "length,width,kind\n" + ",1,a\n,2,b\n" * 20, "every row lacks a value", words="--dataset.missing=drop"
    ),
    "numbers for classes": csv_case(
        table(), "column 'kind': 'a' is no number", words="--dataset.target_kind=number", task=_REGRESSION
    ),
    "names of three classes": csv_case(
        table(), "dataset.class_names: 3 names for 2 classes in column 'kind': 'a', 'b'",
        words="--dataset.class_names=x,y,z",
    ),
    "regression of words": csv_case(table(), "targets that are numbers", "use Classification", task=_REGRESSION),
    "balanced numbers": csv_case(
        table(), "dataset.balanced_sampling does not fit this data: its targets are no classes",
        words="--dataset.target=length --dataset.balanced_sampling=true --dataset.ignore=kind", task=_REGRESSION,
    ),
    "weighted numbers": csv_case(
        table(), "dataset.class_weights does not fit this data: its targets are no classes",
        words="--dataset.target=length --dataset.class_weights=balanced", task=_REGRESSION,
    ),
    "flipped table": csv_case(
        table(), "dataset.augment: Flip needs inputs that are images", "leave it out for this data",
        words="--dataset.augment=(Flip(),)",
    ),
    # Arrays.
    "no array": array_case(None, Y, "dataset.inputs: there is no file ", "x.npy (relative paths start at "),
    "unequal lengths": array_case(
        X, Y[:39], "dataset.inputs has 40 examples, dataset.targets has 39: the first axes have to be equal"
    ),
    "NaN in an array": array_case(put(X, (7, 1), np.nan), Y, "dataset.inputs[7, 1] is nan", "leave its row out"),
    "infinite target": array_case(X, put(X[:, 0], 3, np.inf), "dataset.targets[3] is inf", task=_REGRESSION),
    "ragged array": array_case(
        npy(np.array([[1], [2, 3]], object), allow_pickle=True), Y, "dataset.inputs: ", "x.npy cannot be read",
        "it holds Python objects, which are not read: save plain numbers",
    ),
    "array of text": array_case([["a"]] * 40, Y, "dataset.inputs holds <U1, where numbers are needed"),
    "truncated array": array_case(half(npy(X)), Y, "dataset.inputs: ", "x.npy cannot be read as an .npy or .npz file"),
    "text named .npy": array_case(b"words", Y, "x.npy cannot be read", "it is neither, whatever it is called"),
    "no examples": array_case(X[:0], Y[:0], "dataset.inputs has the shape (0, 3): there is no example in it"),
    "one axis": array_case(X[:, 0], Y, "dataset.inputs has the shape (40,)", "give inputs[:, None]"),
    "negative label": array_case(X, put(Y, 5, -1), "dataset.targets[5] is -1, but classes are counted from 0"),
    "label beyond the names": array_case(
        X, put(Y, 5, 7), "dataset.targets[5] is 7, but there are 2 class_names", words="--dataset.class_names=a,b"
    ),
    "label far off": array_case(X, put(Y, 5, 1000), "dataset.targets are 3 different integers from 0 to 1000"),
    "one class in an array": array_case(X, 0 * Y, "dataset.targets: there is only one class, 0"),
    "integers of two columns": array_case(X, np.stack([Y, Y], 1), "dataset.targets are integers of shape (n, 2)"),
    "a label that is 2": array_case(
        X, np.stack([Y, 2 * Y], 1), "dataset.targets[1, 1] is 2", "each is 0 or 1",
        words="--dataset.class_names=a,b", task=_MULTI,
    ),
    "several labels": array_case(
        X, np.stack([Y, 1 - Y], 1), "Classification needs one class an example", "use MultiLabel",
        words="--dataset.class_names=a,b",
    ),
    "too few examples": array_case(
        X[:4], Y[:4], "4 rows are too few", "change dataset.split", words="--training.batch_size=1"
    ),
    "no validation targets": array_case(
        X, Y, "dataset.validation_inputs and dataset.validation_targets: give both",
        words="--dataset.validation_inputs={}/x.npy",
    ),
    "one of two classes of numbers": array_case(X, X[:, 0], "this data has none: use Regression", task=_BINARY),
    "unequal arrays in memory": Case(
        {}, ("dataset.inputs has 3 examples, dataset.targets has 2",),
        "Arrays(inputs=np.ones((3, 2)), targets=np.arange(2))",
    ),
    # What is shipped, and what is not there.
    "no irises left": shipped_case(
        "Iris()", "--dataset.split.validation=0.6 --dataset.split.test=0.6", "leaves nothing for training"
    ),
    "weights of irises": shipped_case(
        "Iris()", "--dataset.class_weights=1,2", "2 weights for 3 classes (setosa, versicolor, virginica)"
    ),
    "path of irises": shipped_case("Iris()", "--dataset.path=x", "there is no flag --dataset.path"),
    "one point": shipped_case("Moons()", "--dataset.size=1", "1 is out of range: allowed is 2 to"),
    "four points": shipped_case("Moons()", "--dataset.size=4 --training.batch_size=1", "4 rows are too few"),
    "negative noise": shipped_case("Moons()", "--dataset.noise=-1", "-1 is out of range: allowed is 0 to 10"),
    "window of a millennium": shipped_case(
        "Sunspots()", "--dataset.window=1000", "dataset.window: 1000 rows", "309 rows", task=_REGRESSION
    ),
}  # fmt: skip
_NUMBERS = {
    "classes of numbers": array_case(X, X[:, 0], "Classification needs data with classes, and this data has none"),
    "classes of sunspots": shipped_case("Sunspots()", "", "Classification needs data with classes"),
}


@pytest.fixture
def launch(capfd: pytest.CaptureFixture[str]) -> Launch:
    """Runs a command line; `{}` in it is `folder`."""

    def run(folder: Path, *words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["launch.py", *(word.replace("{}", str(folder)).replace("|", " ") for word in words)])
        return (code, *capfd.readouterr())

    return run


def own(folder: Path, dataset: str, task: str = "Classification()") -> None:
    (folder / "own.py").write_text(_OWN.format(dataset=dataset.replace("{}", str(folder)), task=task))


def assert_said(err: str, *says: str) -> None:
    assert err.startswith("neuralmon: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    position = 0
    for part in says:
        assert part in err[position:]
        position = err.index(part, position)


_TRAIN = ("--experiment={}/own.py", "--workdir={}/run", "--quiet")


@pytest.mark.parametrize(
    "name", [*_CASES, *_NUMBERS]
)  # fmt: skip
def test_bad_data_is_refused_before_anything_is_written(name: str, launch: Launch, tmp_path: Path) -> None:
    case = {**_CASES, **_NUMBERS}[name]
    lay(tmp_path, case.files)
    own(tmp_path, case.dataset, case.task)
    before = tree(tmp_path)
    code, out, err = launch(tmp_path, *_TRAIN, *case.words.split())
    assert_said(err, *case.says)
    assert (code, out) == (2, "")
    assert tree(tmp_path) == before


def test_mixed_images_are_no_error(launch: Launch, tmp_path: Path) -> None:
    lay(tmp_path, {**images(), "images/dog/5.png": png(1, (30, 40), "RGB"), "images/dog/6.png": png(2, (1, 1))})
    own(tmp_path, "ImageFolder(path='{}/images')")
    assert launch(tmp_path, *_TRAIN) == (0, "", "")
    facts = json.loads((tmp_path / "run" / "experiment.json").read_text())["experiment"]["dataset"]["facts"]
    assert facts["shape"] == [10, 12, 3]


def test_a_damaged_image_that_no_sample_shows_ends_the_run(launch: Launch, tmp_path: Path) -> None:
    lay(tmp_path, {**images(), "images/dog/5.png": half(png(1))})
    own(tmp_path, "ImageFolder(path='{}/images')")
    code, out, err = launch(tmp_path, *_TRAIN)
    assert_said(err, "images/dog/5.png cannot be read as an image", "truncated", "replace or remove it")
    assert (code, out) == (1, "")
    assert json.loads((tmp_path / "run" / "launches.json").read_text())[-1]["status"].startswith("RunError: ")


def test_once_it_is_mended_the_same_command_works(launch: Launch, tmp_path: Path) -> None:
    lay(tmp_path, {**images(), "images/dog/5.png": half(png(1))})
    own(tmp_path, "ImageFolder(path='{}/images')")
    assert launch(tmp_path, *_TRAIN)[0] == 1
    lay(tmp_path, {"images/dog/5.png": png(1)})
    assert launch(tmp_path, *_TRAIN)[0] == 0


# Data sets of tensorflow-datasets, without a network.


@pytest.fixture
def tfds(monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("tensorflow_datasets")
    library.list_builders(with_community_datasets=False)  # the first time it looks through all modules

    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError(101, "Network is unreachable")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, unreachable)
    monkeypatch.setattr(socket.socket, "connect", unreachable)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("cifar11", ("dataset.name: 'cifar11' is neither", "nor prepared in ", "did you mean", "cifar10")),
        ("", ("dataset.name: '' cannot be opened",)),
        ("mnist:9.9.9", ("dataset.name: 'mnist:9.9.9' cannot be opened", "9.9.9")),
        ("imagenet2012", ("imagenet2012 is not prepared in ", "tfds build imagenet2012 --file_format=array_record")),
        ("cifar10", ("cifar-10-binary.tar.gz cannot be downloaded", "Network is unreachable", "or get cifar-10-")),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("tfds")
def test_without_a_network_it_is_said_at_once(name: str, says: tuple[str, ...], launch: Launch, tmp_path: Path) -> None:
    own(tmp_path, f"Tfds({name!r}, data_dir='{{}}/data')")
    start = time.monotonic()
    code, out, err = launch(tmp_path, *_TRAIN)
    assert time.monotonic() - start < 2.0
    assert_said(err, *says)
    assert (code, out) == (2, "")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("tfds")
def test_a_network_that_never_answers_is_not_waited_for(
    launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: released.wait(20))
    own(tmp_path, "Tfds('cifar10', data_dir='{}/data')")
    start = time.monotonic()
    code, _, err = launch(tmp_path, *_TRAIN)
    released.set()
    assert time.monotonic() - start < 4.0
    assert_said(err, "cifar-10-binary.tar.gz cannot be downloaded", "is there a network?")
    assert code == 2


# Predictions.


_NEW: Files = {
    "new/a.png": png(3, (50, 60)), "new/b/c.png": png(4, (9, 9), "RGB"), "other/1.png": png(5), "other/2.txt": "x",
    "empty/": "", "words.txt": "words", "broken/0.png": png(3), "broken/1.png": half(png(4)), "fake.png": "words",
    "stored.npy": npy(np.zeros((2, 10, 12, 1), np.uint8)), "other_size.npy": npy(np.zeros((2, 9, 9, 1), np.uint8)),
    "floats.npy": npy(np.zeros((2, 10, 12, 1))), "none.npy": npy(np.zeros((0, 10, 12, 1), np.uint8)),
    "text.npy": "words",
    "ok.csv": "colour,length\nred,3\ngreen,4\n", "unknown.csv": "colour,length\nred,3\nblue,4\n",
    "lacking.csv": "colour\nred\n", "text.csv": "colour,length\nred,tall\n", "hole.csv": "colour,length\nred,\n",
    "empty.csv": "", "head.csv": "colour,length\n", "ragged.csv": "colour,length\nred,3,4\n",
    "latin.csv": "colour,length\nr\u00e9d,4\n".encode("latin1"),
    "rows.npy": npy(X[:2]), "row.npy": npy(X[0]), "narrow.npy": npy(X[:, :2]), "hole.npy": npy(put(X, (3, 2), np.nan)),
    "words.npy": npy([["a"] * 3]), "no_rows.npy": npy(X[:0]), "zero.npy": b"", "number.npy": npy(np.float32(3)),
    "objects.npy": npy(np.array([[1], [2, 3]], object), allow_pickle=True), "complex.npy": npy(X.astype(complex)),
}  # fmt: skip
_PREDICTIONS = [
    ("images", "--input={}/nowhere", ("nowhere does not exist: give an image, a folder of images or a .npy file",)),
    ("images", "--input={}/empty", ("empty holds no images", ".png, .jpg")),
    ("images", "--input={}/words.txt", ("words.txt cannot be read as an image: it is no PNG",)),
    ("images", "--input={}/broken", ("broken/1.png cannot be read as an image", "truncated", "replace or remove it")),
    ("images", "--input={}/fake.png", ("fake.png cannot be read as an image: it is no PNG", "whatever it is called")),
    ("images", "--input={}/other_size.npy", ("other_size.npy holds uint8 (2, 9, 9, 1)", "uint8 (images, 10, 12, 1)")),
    ("images", "--input={}/floats.npy", ("floats.npy holds float64", "images as stored are uint8")),
    ("images", "--input={}/none.npy", ("none.npy has the shape (0, 10, 12, 1): there is no image in it",)),
    ("images", "--input={}/text.npy", ("text.npy cannot be read as an array: it is no .npy file",)),
    ("images", "--input={}/new --format=xml", ("--format=xml", "table|csv|json")),
    ("images", "--input={}/new --dataset.size=9", ("--dataset.size=9: --mode=predict takes every field from",)),
    ("images", "--input={}/new --checkpoint=99", ("no checkpoint at step 99", "holds steps: 2")),
    ("images", "--input=", ("--mode=predict needs examples: --input=FILE_OR_FOLDER",)),
    ("table", "--input={}/nowhere.csv", ("there is no file ", "nowhere.csv")),
    ("table", "--input={}/empty", ("empty is a folder: give the path of a CSV file",)),
    ("table", "--input={}/unknown.csv", ("row 2 (line 3), column 'colour': 'blue' did not occur", "'green', 'red'")),
    ("table", "--input={}/lacking.csv", ("lacking.csv has no column 'length', see what the model was trained on",)),
    ("table", "--input={}/text.csv", ("row 1 (line 2), column 'length': 'tall' is no number; correct it",)),
    ("table", "--input={}/hole.csv", ("row 1 (line 2), column 'length': there is no value", "fill them in")),
    ("table", "--input={}/empty.csv", ("empty.csv is empty: the first line has to name the columns",)),
    ("table", "--input={}/head.csv", ("head.csv has no rows below its head",)),
    ("table", "--input={}/ragged.csv", ("row 1 (line 2): 3 values, where the head names 2 columns",)),
    ("table", "--input={}/latin.csv", ("latin.csv is not UTF-8", "(line 2) is 0xe9")),
    ("table", "--input={}/rows.npy", ("rows.npy is not UTF-8", "it is no text; give a CSV file")),
    ("table", "--input={}/words.txt", ("words.txt has no column ", "its columns are 'words'")),
    ("arrays", "--input={}/nowhere.npy", ("--input: there is no file ", "nowhere.npy")),
    ("arrays", "--input={}/words.txt", ("--input=", "words.txt: this data has no reader of its own; give a .npy",)),
    ("arrays", "--input={}/narrow.npy", ("--input=", "narrow.npy: inputs of shape (40, 2) do not fit: expected",)),
    ("arrays", "--input={}/hole.npy", ("--input[3, 2] is nan", "fill it in, or leave its row out")),
    ("arrays", "--input={}/words.npy", ("--input holds <U1, where numbers are needed",)),
    ("arrays", "--input={}/complex.npy", ("--input holds complex128, where numbers are needed",)),
    ("arrays", "--input={}/no_rows.npy", ("--input has the shape (0, 3): there is no example in it",)),
    ("arrays", "--input={}/number.npy", ("--input has the shape ()",)),
    ("arrays", "--input={}/zero.npy", ("zero.npy cannot be read",)),
    ("arrays", "--input={}/text.npy", ("text.npy cannot be read", "it is neither, whatever it is called")),
    ("arrays", "--input={}/objects.npy", ("objects.npy cannot be read", "it holds Python objects")),
]  # fmt: skip
_WORDS = "length,colour,kind\n" + "".join(
    f"{index / 7:.3f},{('red', 'green')[index % 3 == 0]},{'ab'[index % 2]}\n" for index in range(40)
)
_RUNS: dict[str, tuple[Files, str]] = {
    "images": (images(), "ImageFolder(path='{}/images')"),
    "table": ({"table.csv": _WORDS}, "Csv(path='{}/table.csv', target='kind')"),
    "arrays": ({"x.npy": npy(X), "y.npy": npy(Y)}, "Arrays(inputs='{}/x.npy', targets='{}/y.npy')"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each kind of data, beside its data."""
    folders = {}
    for name, (files, dataset) in _RUNS.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        lay(folder, {**files, **_NEW})
        own(folder, dataset)
        assert main(["launch.py", *(word.replace("{}", str(folder)) for word in _TRAIN)]) == 0
    return folders


@pytest.mark.parametrize(("run", "words", "says"), _PREDICTIONS)
def test_what_nothing_can_be_said_of_is_named(
    run: str, words: str, says: tuple[str, ...], runs: dict[str, Path], launch: Launch
) -> None:
    before = tree(runs[run])
    code, out, err = launch(runs[run], "--mode=predict", "--workdir={}/run", *words.split())
    assert_said(err, *says)
    assert (code, out) == (2, "")
    assert tree(runs[run]) == before


@pytest.mark.parametrize(
    ("run", "path", "names"),
    [
        ("images", "new", ["a.png", "b/c.png"]),
        ("images", "other", ["1.png"]),
        ("images", "new/a.png", ["a.png"]),
        ("images", "stored.npy", ["stored.npy[0]", "stored.npy[1]"]),
        ("table", "ok.csv", ["row 1", "row 2"]),
        ("arrays", "rows.npy", ["row 1", "row 2"]),
        ("arrays", "row.npy", ["row 1"]),
    ],
)
def test_images_of_other_sizes_and_single_examples_are_no_error(
    run: str, path: str, names: list[str], runs: dict[str, Path], launch: Launch
) -> None:
    words = "--mode=predict", "--workdir={}/run", f"--input={{}}/{path}", "--format=json"
    code, out, err = launch(runs[run], *words)
    assert (code, err) == (0, "")
    rows = json.loads(out)
    assert [row["input"] for row in rows] == names
    assert {row["class"] for row in rows} <= {"cat", "dog", "a", "b", "0", "1"}


def test_several_labels_are_said_by_their_names(launch: Launch, tmp_path: Path) -> None:
    # The bias alone decides: the first label is always there, the second one never.
    targets = np.stack([np.ones(40, np.int64), np.zeros(40, np.int64)], axis=1)
    lay(tmp_path, {"x.npy": npy(X), "y.npy": npy(targets)})
    own(tmp_path, "Arrays(inputs='{}/x.npy', targets='{}/y.npy', class_names=('sun', 'rain'))", _MULTI)
    assert launch(tmp_path, *_TRAIN, "--training.steps=100", "--optimizer.learning_rate=1")[0] == 0
    words = "--mode=predict", "--workdir={}/run", "--input={}/x.npy"
    code, out, err = launch(tmp_path, *words)
    assert (code, err) == (0, "")
    head, first, *_ = out.splitlines()
    assert head.split() == ["input", "labels", "probability"]
    assert first.split()[:3] == ["row", "1", "sun"]
    rows = json.loads(launch(tmp_path, *words, "--format=json")[1])
    assert rows[0]["labels"] == ["sun"]


# Data that changes: between launches, and under a run.


def _one_image_more(folder: Path) -> None:
    lay(folder, {"images/cat/99.png": png(9)})


def _one_row_more(folder: Path) -> None:
    (folder / "table.csv").write_text(_WORDS + "1.5,red,a\n")


def _another_array(folder: Path) -> None:
    (folder / "x.npy").write_bytes(npy(X + 1))


def _another_array_in_memory(folder: Path) -> None:
    own(folder, "Arrays(inputs=np.full((40, 3), 2.0), targets=np.arange(40) % 2)")


_CHANGES: dict[str, tuple[Files, str, Callable[[Path], None]]] = {
    "images": (*_RUNS["images"], _one_image_more),
    "table": (*_RUNS["table"], _one_row_more),
    "arrays": (*_RUNS["arrays"], _another_array),
    "memory": ({}, "Arrays(inputs=np.ones((40, 3)), targets=np.arange(40) % 2)", _another_array_in_memory),
}


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Unfinished runs whose data is another one now."""
    folders = {}
    for name, (files, dataset, change) in _CHANGES.items():
        folder = folders[name] = tmp_path_factory.mktemp(f"changed_{name}")
        lay(folder, files)
        own(folder, dataset)
        assert main(["launch.py", *(word.replace("{}", str(folder)) for word in _TRAIN)]) == 0
        (folder / "run" / "result.json").unlink()
        change(folder)
    return folders


@pytest.mark.parametrize("name", _CHANGES)
def test_a_run_does_not_go_on_with_other_data(name: str, changed: dict[str, Path], launch: Launch) -> None:
    folder = changed[name]
    before = tree(folder)
    code, out, err = launch(folder, *_TRAIN)
    assert_said(err, str(folder / "run"), "give another --workdir")
    assert (code, out) == (2, "")
    assert tree(folder) == before


@pytest.mark.parametrize("name", _CHANGES)
def test_other_data_is_called_other_data(name: str, changed: dict[str, Path], launch: Launch) -> None:
    err = launch(changed[name], *_TRAIN)[2]
    assert_said(err, "the data is not what the run in ", "was started with: ", "put it back as it was")
    assert len(err) < 500
    assert not re.search("[0-9a-f]{16}", err), "a hash says nothing to a person"


def test_another_setting_is_not_called_other_data(runs: dict[str, Path], launch: Launch) -> None:
    code, _, err = launch(runs["images"], *_TRAIN, "--dataset.size=9")
    assert_said(err, "another structure", "dataset.size: None -> 9", "give another --workdir")
    assert code == 2


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("images", ("images has changed since the run began: train had 16 images and has 17", "restore it")),
        ("table", ("table.csv is not the file that the run began with",)),
        ("arrays", ("x.npy", "are not those that the run began with; restore them, or start a new run")),
    ],
)
@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_nor_does_it_when_only_its_folder_is_named(
    mode: str, name: str, says: tuple[str, ...], changed: dict[str, Path], launch: Launch
) -> None:
    saved = tree(changed[name] / "run" / "checkpoints")
    code, out, err = launch(changed[name], f"--mode={mode}", "--workdir={}/run", "--quiet")
    assert_said(err, *says)
    assert code in (1, 2)
    assert out == ""
    assert tree(changed[name] / "run" / "checkpoints") == saved


_LONG = ("--training.steps=96", "--training.batch_size=8", "--training.steps_per_chunk=2",
         "--training.evaluate_every=48", "--training.checkpoint_every=8", "--dataset.pipeline=stream")  # fmt: skip
_LOST = "images/cat/7.png"


@dataclasses.dataclass
class Streamed:
    """A folder of images, and what a run of it that nothing happens to ends in."""

    folder: Path
    fingerprint: str


def fingerprint(folder: Path) -> str:
    return json.loads((folder / "result.json").read_text())["fingerprint"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Streamed:
    folder = tmp_path_factory.mktemp("streamed")
    lay(folder, images(40))
    own(folder, "ImageFolder(path='{}/images')")
    words = "--experiment={}/own.py", "--workdir={}/undisturbed", "--quiet", *_LONG, "--data_workers=0"
    assert main(["launch.py", *(word.replace("{}", str(folder)) for word in words)]) == 0
    return Streamed(folder, fingerprint(folder / "undisturbed"))


def _disturbed(
    streamed: Streamed, launch: Launch, run: str, workers: int, change: Callable[[Path], object], *more: str
) -> tuple[int, str, str, list[int]]:
    """Launches a run under which a file changes after its first checkpoint; returns what came of it and is saved."""
    checkpoints, file = streamed.folder / run / "checkpoints", streamed.folder / _LOST

    def watch() -> None:
        while not (checkpoints / "8").exists():
            time.sleep(0.002)
        change(file)

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    words = "--experiment={}/own.py", f"--workdir={{}}/{run}", "--quiet", *_LONG, f"--data_workers={workers}"
    code, out, err = launch(streamed.folder, *words, *more)
    watching.join()
    return code, out, err, sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdecimal())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("how", ["vanished", "truncated"])
def test_an_image_that_is_lost_under_a_run_costs_nothing_once_it_is_back(
    how: str, workers: int, undisturbed: Streamed, launch: Launch
) -> None:
    folder, file, run = undisturbed.folder, undisturbed.folder / _LOST, f"{how}_{workers}"
    content = file.read_bytes()
    change = Path.unlink if how == "vanished" else lambda path: path.write_bytes(half(content))
    try:
        code, out, err, saved = _disturbed(undisturbed, launch, run, workers, change)
    finally:
        file.write_bytes(content)
    why = "the file is gone" if how == "vanished" else "truncated"
    assert_said(err, f"{file} cannot be read as an image", why, f"the last good checkpoint is of step {saved[-1]}")
    assert (code, out) == (1, "")
    assert 8 <= saved[-1] < 96
    words = "--experiment={}/own.py", f"--workdir={{}}/{run}", "--quiet", *_LONG, f"--data_workers={workers}"
    assert launch(folder, *words) == (0, "", "")
    launches = json.loads((folder / run / "launches.json").read_text())
    assert [one["step"] for one in launches] == [0, saved[-1]]
    assert fingerprint(folder / run) == undisturbed.fingerprint


def test_the_last_checkpoint_is_named_of_validation_data_too(launch: Launch, tmp_path: Path) -> None:
    lay(tmp_path, {**images(20, prefix="train/"), **images(4, prefix="val/")})
    own(tmp_path, "ImageFolder(path='{}/images')")
    streamed = Streamed(tmp_path, "")
    code, _, err, saved = _disturbed(
        streamed,
        launch,
        "run",
        0,
        lambda _: (tmp_path / "images/val/cat/0.png").unlink(),
        "--training.evaluate_every=8",
    )
    assert_said(err, "val/cat/0.png cannot be read as an image", f"the last good checkpoint is of step {saved[-1]}")
    assert code == 1
