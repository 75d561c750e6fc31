"""Each form of data in docs/data.md, as a user meets it: trained, killed, resumed, evaluated, asked for predictions."""

import csv
import dataclasses
import functools
import gzip
import hashlib
import io
import itertools
import json
import re
import shlex
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import neuralmon as nm
from neuralmon.cli import main

pytest.importorskip("tensorflow_datasets")

TEXT = (Path(__file__).parents[2] / "docs" / "data.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
FILES = {text.split(maxsplit=2)[1]: text for language, text in BLOCKS if language == "python"}
COMMANDS = [line for _, text in BLOCKS for line in text.splitlines() if line.startswith("python launch.py")]
TABLES = [line.strip("| ").split(" | ") for line in TEXT.splitlines() if line.startswith("| `")]
STEPS = 60
SHORT = [f"--training.steps={STEPS}", "--training.steps_per_chunk=5", "--training.evaluate_every=30",
         "--quiet", "--figures=false"]  # fmt: skip
# Many checkpoints, so that there is one long before the end; they change nothing.
KILLABLE = [*SHORT, "--training.checkpoint_every=5"]
# Runs many command lines in one process that is as fresh as that of a launch.
LAUNCHES = """
import json, os, sys
from neuralmon.cli import main
for folder, arguments in json.load(sys.stdin):
    os.chdir(folder)
    if main(["launch.py", *arguments]):
        sys.exit(f"{folder}: {arguments}")
"""


@functools.cache
def mnist():
    return nm.data.Mnist().load()


def digits(start, count):
    """Returns some of MNIST's images, 14 x 14 pixels, and their labels."""
    train = mnist()["train"]
    part = slice(start, start + count)
    return train["inputs"][part, ::2, ::2, 0], train["targets"][part]


def write_images(folder, images, name="{}.png"):
    from PIL import Image

    for index, image in enumerate(images):
        path = folder / name.format(index)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def write_csv(path, head, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


def published(name):
    """Returns the rows of a table that comes with the package, without its head."""
    with (Path(nm.data.__file__).parent / "embedded" / name).open() as file:
        return list(csv.reader(file))[1:]


# Each writes the files that a section's commands need, and returns the inputs to predict, as the data set stores them.


def some_points(folder):
    points = np.array([[0.0, 0.1], [0.9, 0.9], [-0.3, 0.2]], np.float32)
    np.save(folder / "new_points.npy", points)
    return points


def digit_arrays(folder):
    images, labels = digits(0, 600)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    np.savez(folder / "digits.npz", images=images, labels=labels)
    new = digits(900, 4)[0]
    np.save(folder / "new_images.npy", new)
    return new


def new_photos(folder, size):
    images = np.stack([np.pad(image, (size - 14) // 2) for image in digits(900, 4)[0]])
    write_images(folder / "new_photos", images)
    return images


def photos(folder):
    images, labels = digits(0, 300)
    for name, wanted in (("cat", 3), ("dog", 8), ("eel", 1)):
        enlarged = np.pad(images[labels == wanted], ((0, 0), (9, 9), (9, 9)))
        write_images(folder / "photos" / name, enlarged)
    return new_photos(folder, 32)


def sprites(folder):
    from PIL import Image, ImageDraw

    from neuralmon.data.images.sprites import read_sprite

    def drawn(number, shade):
        image = Image.new("RGB", (40, 40), "white")
        ImageDraw.Draw(image).ellipse((5, 8, 30, 20 + number % 10), fill=(shade, 5 * number, 90))
        return np.asarray(image)

    for shade, game in ((20, "gen01_yellow"), (200, "gen05_black-white")):
        write_images(folder / "sprites" / game, [drawn(number, shade) for number in range(80)])
        (folder / "sprites" / game / "0.png").unlink()  # numbers begin with 1
    write_images(folder / "new_sprites", [drawn(number, 100) for number in (3, 9)])
    return np.stack([read_sprite(str(folder / "new_sprites" / f"{index}.png"), 64) for index in range(2)])


def flowers(folder):
    head, kinds = ["petal_length", "petal_width", "garden"], ("setosa", "versicolor", "virginica")
    gardens = itertools.cycle(("north", "south"))
    rows = [
        [*row[2:4], garden, kinds[int(row[4])]] for row, garden in zip(published("iris.csv"), gardens, strict=False)
    ]
    write_csv(folder / "flowers.csv", ["id", *head, "species"], [[index, *row] for index, row in enumerate(rows)])
    new = rows[::25]
    write_csv(folder / "new_flowers.csv", head[::-1], [row[2::-1] for row in new])
    return np.array([[row[0], row[1], row[2] == "north", row[2] == "south"] for row in new], np.float32)


def years(folder):
    series = [float(row[1]) for row in published("sunspots.csv")]
    head, rows = ["before", "last", "next"], [series[year : year + 3] for year in range(len(series) - 2)]
    write_csv(folder / "years.csv", ["year", *head], [[1700 + index, *row] for index, row in enumerate(rows)])
    write_csv(folder / "new_years.csv", head[:2], [row[:2] for row in rows[-3:]])
    return np.array([row[:2] for row in rows[-3:]], np.float32)


def iris(folder):
    rows = [row[:4] for row in published("iris.csv")[::50]]
    head = [f"{part} {side} (cm)" for part in ("sepal", "petal") for side in ("length", "width")]
    write_csv(folder / "new_iris.csv", head, rows)
    return np.array(rows, np.float32)


def last_years(folder):
    window = np.array([row[1] for row in published("sunspots.csv")[-11:]], np.float32)
    np.save(folder / "last_years.npy", window)
    return window[None, :, None]


def rain(folder):
    series = [float(row[1]) for row in published("sunspots.csv")]
    write_csv(folder / "rain.csv", ["month", "mm"], [[f"m{index}", value] for index, value in enumerate(series)])
    write_csv(folder / "new_rain.csv", ["mm"], [[value] for value in series[:15]])
    return np.stack([series[start : start + 12] for start in range(4)])[..., None].astype(np.float32)


def fashion(folder):
    from neuralmon.data.tfds.download import RemoteFile
    from neuralmon.data.tfds.prepare import prepare

    downloads, remote = folder / "tfds" / "downloads" / "fashion_mnist", []
    downloads.mkdir(parents=True)
    splits = mnist()
    for split, prefix, size in (("train", "train", 300), ("test", "t10k", 40)):
        arrays = {"images-idx3": splits[split]["inputs"][:size, ..., 0], "labels-idx1": splits[split]["targets"][:size]}
        for name, array in arrays.items():
            head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            content = gzip.compress(head + array.astype(np.uint8).tobytes(), 1)
            file = downloads / f"{prefix}-{name}-ubyte.gz"
            file.write_bytes(content)
            url = f"http://nowhere.invalid/{file.name}"
            remote.append(RemoteFile(url, len(content), hashlib.sha256(content).hexdigest()))
    prepare("fashion_mnist", folder / "tfds", remote)
    return new_photos(folder, 28)


@dataclasses.dataclass(frozen=True)
class Form:
    """A section's file and run.

    Attributes:
      file: the experiment.
      run: the folder that its commands name.
      write: writes what it needs.
      num_classes: 0: numbers are predicted.
    """

    file: str
    run: str
    write: object
    num_classes: int

    @property
    def commands(self):
        """What is trained, and what is predicted, as written."""
        return [shlex.split(line)[2:] for line in COMMANDS if f"--workdir={self.run}" in shlex.split(line)]


FORMS = [
    Form("my_arrays.py", "runs/arrays", some_points, 2),
    Form("my_npy.py", "runs/npy", digit_arrays, 10),
    Form("my_npy.py", "runs/npz", digit_arrays, 10),
    Form("my_photos.py", "runs/photos", photos, 3),
    Form("my_pokemon.py", "runs/pokemon", sprites, 18),
    Form("my_flowers.py", "runs/flowers", flowers, 3),
    Form("my_years.py", "runs/years", years, 0),
    Form("my_iris.py", "runs/iris", iris, 3),
    Form("my_sunspots.py", "runs/sunspots", last_years, 0),
    Form("my_rain.py", "runs/rain", rain, 0),
    Form("my_moons.py", "runs/moons", some_points, 2),
    Form("my_fashion.py", "runs/fashion", fashion, 10),
    Form("my_mnist.py", "runs/mnist", functools.partial(new_photos, size=28), 10),
]


def default(*runs):
    """Returns all forms, of which those not named are for `pytest -m slow`."""
    return [form if form.run in runs else pytest.param(form, marks=pytest.mark.slow) for form in FORMS]


KILLED = default("runs/flowers")
USED = default("runs/flowers", "runs/arrays", "runs/photos", "runs/fashion")
TOGETHER = ("runs/flowers", "runs/arrays", "runs/photos", "runs/fashion", "runs/moons")  # of the default run


def name_of(form):
    return form.run.rpartition("/")[2]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The folder of each form, with its files, and the inputs to predict."""
    made = {}
    for form in FORMS:
        folder = tmp_path_factory.mktemp(name_of(form))
        (folder / form.file).write_text(FILES[form.file])
        made[form.run] = folder, form.write(folder)
    return made


@pytest.fixture(scope="module")
def environ(prepared, root, quick_environment):
    """That of the launches, which share what they compile."""
    data = str(prepared["runs/fashion"][0] / "tfds")
    cache = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return {**quick_environment, **cache, "TFDS_DATA_DIR": data, "PYTHONPATH": str(root)}


def launch_all(jobs, environ):
    """Runs (folder, arguments) one after the other."""
    text = json.dumps([(str(folder), arguments) for folder, arguments in jobs])
    done = subprocess.run([sys.executable, "-c", LAUNCHES], input=text, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def kill_midway(folder, arguments, environ, root):
    """Launches a run, and kills it once it has a checkpoint."""
    process = subprocess.Popen(
        [sys.executable, root / "launch.py", *arguments], cwd=folder, env=environ, stderr=subprocess.PIPE, text=True
    )
    workdir = [argument.partition("=")[2] for argument in arguments if argument.startswith("--workdir=")][-1]
    checkpoints = folder / workdir / "checkpoints"
    while process.poll() is None and not any(path.name.isdecimal() for path in checkpoints.glob("*")):
        time.sleep(0.002)
    assert process.poll() is None, process.stderr.read() or "the run ended before it could be killed: make it longer"
    process.kill()
    process.communicate()
    assert not (folder / workdir / "result.json").exists()


@pytest.fixture(scope="module")
def trained(prepared, environ):
    """Trains a form, once, in the folder that the document names; returns the folder and the inputs to predict."""
    done = set()

    def train(form):
        if form.run not in done:
            forms = [one for one in FORMS if one.run in TOGETHER] if form.run in TOGETHER else [form]
            launch_all([(prepared[one.run][0], [*one.commands[0], *SHORT]) for one in forms], environ)
            done.update(one.run for one in forms)
        return prepared[form.run]

    return train


@pytest.mark.parametrize("file", [name for name in FILES if name != "my_waves.py"])
def test_an_example_is_short(file):
    assert file in {form.file for form in FORMS}
    lines = [line for line in FILES[file].splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 8 and max(map(len, lines)) <= 120


def read_result(folder):
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("form", KILLED, ids=name_of)
def test_a_killed_run_ends_as_one_never_killed(form, trained, environ, root):
    folder, _ = trained(form)
    arguments = [*form.commands[0], *KILLABLE, "--workdir=killed"]
    kill_midway(folder, arguments, environ, root)
    subprocess.run([sys.executable, root / "launch.py", *arguments], cwd=folder, env=environ, check=True)
    killed, never_killed = read_result(folder / "killed"), read_result(folder / form.run)
    assert killed["fingerprint"] == never_killed["fingerprint"]
    assert killed["metrics"] == never_killed["metrics"]
    launches = json.loads((folder / "killed" / "launches.json").read_text())
    assert len(launches) == 2 and 0 < launches[1]["step"] < STEPS


def run(capsys, *arguments):
    assert main(["launch.py", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("form", USED, ids=name_of)
def test_it_is_evaluated_and_predicts(form, trained, monkeypatch, capsys):
    folder, inputs = trained(form)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder / "tfds"))
    predict = [argument for argument in form.commands[1] if not argument.startswith("--format")]
    assert "--mode=predict" in predict and "--format=csv" in form.commands[1]
    own = [argument for argument in predict if argument.startswith("--experiment")]
    text = run(capsys, "--mode=evaluate", f"--workdir={form.run}", *own)
    name, value = re.search(r"^test +.*(accuracy|rmse) ([\d.]+)", text, re.MULTILINE).groups()
    assert float(value) == pytest.approx(read_result(folder / form.run)["metrics"]["test"][name], abs=6e-5)

    result = nm.load_run(form.run, *(argument.partition("=")[2] for argument in own))
    expected = result.predict(inputs)
    table, text, data = (run(capsys, *predict, f"--format={form}") for form in ("table", "csv", "json"))
    rows = list(csv.DictReader(io.StringIO(text)))
    data = json.loads(data)
    assert len(rows) == len(data) == len(inputs) == len(table.splitlines()) - 1
    assert [row["input"] for row in rows] == [row["input"] for row in data]
    if not form.num_classes:
        for predictions in ([float(row["prediction"]) for row in rows], [row["prediction"] for row in data]):
            np.testing.assert_allclose(predictions, expected["prediction"], rtol=1e-5)
        return
    names = result.experiment.dataset.spec().class_names
    assert len(names) == form.num_classes
    classes = [names[number] for number in expected["class"]]
    assert [row["class"] for row in rows] == [row["class"] for row in data] == classes
    assert all(shown in line for shown, line in zip(classes, table.splitlines()[1:], strict=True))
    in_csv = np.array([[float(row[f"probabilities[{name}]"]) for name in names] for row in rows])
    in_json = np.array([[row["probabilities"][name] for name in names] for row in data])
    for probabilities in (in_csv, in_json):
        np.testing.assert_allclose(probabilities, expected["probabilities"], rtol=1e-5)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), r"--input\[1, 0\] is nan"),
        (np.zeros((3, 5)), r"inputs of shape \(3, 5\) do not fit: expected \(examples, 2\)"),
        (np.array([["a", "b"]]), "--input holds <U1, where numbers are needed"),
        (np.zeros((0, 2)), r"--input has the shape \(0, 2\): there is no example in it"),
        (np.float32(1), r"--input has the shape \(\): there is no example in it"),
        (None, "--input: there is no file wrong.npy"),
    ],
)
def test_inputs_that_cannot_be_predicted(array, message, trained, monkeypatch, capsys):
    (form,) = [form for form in FORMS if form.run == "runs/moons"]
    folder, _ = trained(form)
    monkeypatch.chdir(folder)
    (folder / "wrong.npy").unlink(missing_ok=True)
    if array is not None:
        np.save("wrong.npy", array)
    assert main(["launch.py", "--mode=predict", "--workdir=runs/moons", "--input=wrong.npy"]) == 2
    assert re.match(f"neuralmon: error: .*{message}", capsys.readouterr().err)


@pytest.mark.slow
def test_streamed_photos_killed_and_resumed(trained, environ, root):
    """By worker processes, which the kill ends too, and which read what lies on the device otherwise."""
    (form,) = [form for form in FORMS if form.run == "runs/photos"]
    folder, _ = trained(form)
    stream = [*form.commands[0], *KILLABLE, "--dataset.pipeline=stream", "--data_workers=2", "--workdir=streamed"]
    kill_midway(folder, stream, environ, root)
    subprocess.run([sys.executable, root / "launch.py", *stream], cwd=folder, env=environ, check=True, timeout=300)
    assert read_result(folder / "streamed")["fingerprint"] == read_result(folder / form.run)["fingerprint"]
    launches = json.loads((folder / "streamed" / "launches.json").read_text())
    assert len(launches) == 2 and 0 < launches[1]["step"] < STEPS


@pytest.fixture
def in_one_folder(prepared, tmp_path, monkeypatch):
    """A folder with all files of the document, in which its commands work."""
    for folder, _ in prepared.values():
        for path in folder.iterdir():
            if not (tmp_path / path.name).exists():
                (tmp_path / path.name).symlink_to(path)
    (tmp_path / "my_waves.py").write_text(FILES["my_waves.py"])
    reviews = [(f"a {'great' if number % 2 else 'dull'} film {number}", number % 2) for number in range(120)]
    (tmp_path / "reviews.csv").write_text("review,sentiment\n" + "\n".join(f"{text},{good}" for text, good in reviews))
    for number, (text, good) in enumerate(reviews):
        file = tmp_path / "aclImdb" / ("train", "test")[number % 3 == 0] / ("neg", "pos")[good] / f"{number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared["runs/fashion"][0] / "tfds"))
    return tmp_path


def test_every_command_is_understood(in_one_folder, capsys):
    """Each flag is looked up, each value parsed, the data looked at and the model fitted to it; nothing is trained."""
    commands = [line for line in COMMANDS if "--mode" not in line and "imdb_reviews" not in line]  # it is not here
    assert len(commands) >= 20
    for command in commands:
        argv = [part for part in shlex.split(command)[1:] if not part.startswith(("--workdir", "--data_workers"))]
        assert main([*argv, "--mode=summary"]) == 0, (command, capsys.readouterr().err)


def test_errors_are_as_shown(in_one_folder, capsys):
    shown = re.findall(r"^\$ python (.*)\n(neuralmon: error: .*)$", TEXT, re.MULTILINE)
    assert len(shown) >= 4
    for command, message in shown:
        assert main([*shlex.split(command), "--workdir=wrong"]) == 2
        assert capsys.readouterr().err.strip() == message


def test_own_dataset_class(in_one_folder, capsys):
    train, predict = (shlex.split(line)[1:] for line in COMMANDS if "--workdir=runs/waves" in line)
    run(capsys, *train[1:], "--training.steps=60", "--quiet")
    result = nm.load_run("runs/waves", "./my_waves.py")
    assert result.metrics["test"]["accuracy"] > 0.9
    test = result.experiment.dataset.load()["test"]
    assert test["inputs"].shape == (100, 32)  # the flag
    np.save("new_waves.npy", test["inputs"][:5])
    classes = [line.split()[2] for line in run(capsys, *predict[1:]).splitlines()[1:]]
    assert classes == [("slow", "fast")[number] for number in result.predict(test["inputs"][:5])["class"]]


def test_the_tables_have_every_field():
    augmentations = {
        name: cls
        for name, cls in vars(nm.data).items()
        if isinstance(cls, type) and issubclass(cls, nm.data.Augmentation) and cls is not nm.data.Augmentation
    }
    shown = {row[0].strip("`"): row[2] for row in TABLES if row[0].strip("`") in augmentations}
    assert shown.keys() == augmentations.keys()
    for name, cls in augmentations.items():
        fields = re.findall(r"`(\w+)=([^`]+)`", shown[name])
        assert [field for field, _ in fields] == [field.name for field in dataclasses.fields(cls)]
        for (field, value), known in zip(fields, dataclasses.fields(cls), strict=True):
            top, _, bottom = value.partition("/")
            number = float(top) / float(bottom) if bottom else json.loads(value.lower())
            assert number == known.default, (name, field)
