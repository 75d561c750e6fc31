import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from neuralmon import codec
from neuralmon.data.dataset import Dataset, whole
from neuralmon.data.labelled import Facts
from neuralmon.data.mnist import Mnist
from neuralmon.data.splits import ChronologicalSplit, RandomSplit
from neuralmon.data.tfds.dataset import Tfds
from neuralmon.data.tfds.text import TfdsText
from neuralmon.errors import RequestError, RunError
from neuralmon.names import Names

for module in ("tensorflow_datasets", "array_record", "importlib_resources", "PIL"):
    pytest.importorskip(module)

SIZES = {"train": 300, "test": 40}
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def idx(array):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def archive(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def cifar_records(images, *labels):
    planes = np.moveaxis(images, -1, 1).reshape(len(images), -1)
    return np.concatenate([*(np.asarray(x, np.uint8)[:, None] for x in labels), planes], axis=1).tobytes()


@pytest.fixture(scope="module")
def published():
    """Examples of the four data sets by split: images and labels in their published order."""
    rng = np.random.default_rng(0)
    splits = Mnist(join_validation=True).load()
    mnist = {name: (splits[name]["inputs"][:n], splits[name]["targets"][:n]) for name, n in SIZES.items()}
    drawn = {}
    for name, sizes in {"cifar10": {"train": 50, "test": 8}, "cifar100": {"train": 20, "test": 7}}.items():
        classes = 10 if name == "cifar10" else 100
        drawn[name] = {
            split: (rng.integers(0, 256, (size, 32, 32, 3), np.uint8), rng.integers(0, classes, size))
            for split, size in sizes.items()
        }
    return {"mnist": mnist, "fashion_mnist": {split: (255 - x, y) for split, (x, y) in mnist.items()}, **drawn}


@pytest.fixture(scope="module")
def files(published):
    """The published files: path to content."""
    out = {}
    for name in ("mnist", "fashion_mnist"):
        for split, prefix in {"train": "train", "test": "t10k"}.items():
            images, labels = published[name][split]
            out[f"{name}/{prefix}-images-idx3-ubyte.gz"] = idx(images[..., 0])
            out[f"{name}/{prefix}-labels-idx1-ubyte.gz"] = idx(labels.astype(np.uint8))
    (images, labels), test = published["cifar10"]["train"], published["cifar10"]["test"]
    batches = {
        f"cifar-10-batches-bin/data_batch_{i + 1}.bin": cifar_records(
            images[10 * i : 10 * i + 10], labels[10 * i : 10 * i + 10]
        )
        for i in reversed(range(5))
    }
    names = {"cifar-10-batches-bin/batches.meta.txt": "\n".join(CIFAR10).encode() + b"\n\n"}
    test_batch = {"cifar-10-batches-bin/test_batch.bin": cifar_records(*test)}
    out["cifar10/cifar-10-binary.tar.gz"] = archive({**batches, **names, **test_batch})
    content = {
        f"cifar-100-binary/{split}.bin": cifar_records(images, labels // 5, labels)
        for split, (images, labels) in published["cifar100"].items()
    }
    content["cifar-100-binary/fine_label_names.txt"] = "\n".join(f"fine_{i}" for i in range(100)).encode()
    content["cifar-100-binary/coarse_label_names.txt"] = "\n".join(f"coarse_{i}" for i in range(20)).encode()
    out["cifar100/cifar-100-binary.tar.gz"] = archive(content)
    return out


@pytest.fixture(scope="module")
def folder(files, tmp_path_factory):
    """Where all four, and my_dataset/config:1.0.0, were downloaded and prepared by a process without TensorFlow."""
    served, data_dir = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("tfds")
    for path, content in files.items():
        (served / path).parent.mkdir(exist_ok=True)
        (served / path).write_bytes(content)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        sums = [f"{path}={len(content)}:{hashlib.sha256(content).hexdigest()}" for path, content in files.items()]
        program = [sys.executable, str(Path(__file__).parent / "tfds_prepared.py"), str(data_dir)]
        done = subprocess.run(
            [*program, f"http://127.0.0.1:{server.server_port}", *sums],
            env={**os.environ, "no_proxy": "*", "PYTHONPATH": os.pathsep.join(sys.path), "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    (data_dir / "stdout").write_text(done.stdout)
    (data_dir / "stderr").write_text(done.stderr)
    return str(data_dir)


def row_order(read, published):
    """Returns, for each image that was read, its row among the published ones, all of which must be there once."""
    rows = {image.tobytes(): row for row, image in enumerate(published)}
    order = [rows[image.tobytes()] for image in read]
    assert sorted(order) == list(range(len(published)))
    return np.array(order)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_prepared_data_holds_the_published_pixels_and_labels(name, published, folder):
    dataset = Tfds(name, data_dir=folder, split=ChronologicalSplit(validation=0.2)).resolve()
    spec, splits = dataset.spec(), dataset.load()
    total = len(published[name]["train"][0])
    assert spec.sizes == {
        "train": total - total // 5,
        "validation": total // 5,
        "test": len(published[name]["test"][0]),
    }
    together = {"test": splits["test"]}
    together["train"] = {
        key: np.concatenate([whole(splits["train"][key]), whole(splits["validation"][key])])
        for key in ("inputs", "targets")
    }
    with np.load(Path(folder) / "read.npz") as by_tfds:
        for split, columns in together.items():
            images, labels = published[name][split]
            inputs, targets = whole(columns["inputs"]), whole(columns["targets"])
            assert inputs.dtype == np.uint8 and inputs.shape[1:] == spec.features["inputs"].shape
            assert targets.dtype == spec.features["targets"].dtype == np.int32
            np.testing.assert_array_equal(targets, labels[row_order(inputs, images)])
            # tensorflow-datasets's own reader sees the same examples in the same order.
            np.testing.assert_array_equal(by_tfds[f"{name}/{split}/image"], inputs)
            np.testing.assert_array_equal(by_tfds[f"{name}/{split}/label"], targets)
            if name == "cifar100":
                np.testing.assert_array_equal(by_tfds[f"{name}/{split}/coarse_label"], targets // 5)
            if name.startswith("cifar"):
                ids = [f"{split}_{row:05d}".encode() for row in row_order(inputs, images)]
                assert by_tfds[f"{name}/{split}/id"].tolist() == ids
    assert dataset.facts.class_counts == tuple(
        np.bincount(whole(splits["train"]["targets"]), minlength=spec.num_classes)
    )


def test_class_names_are_in_the_published_order(folder):
    names = {
        name: Tfds(name, data_dir=folder).resolve().spec().class_names for name in ("mnist", "cifar10", "cifar100")
    }
    assert names["mnist"] == tuple("0123456789")
    assert names["cifar10"] == tuple(CIFAR10)
    assert names["cifar100"] == tuple(f"fine_{i}" for i in range(100))
    coarse = Tfds("cifar100", data_dir=folder, targets="coarse_label").resolve().spec().class_names
    assert coarse == tuple(f"coarse_{i}" for i in range(20))


def test_preparing_says_plainly_what_it_does(folder):
    said = (Path(folder) / "stderr").read_text()
    assert "downloading http" in said and "preparing cifar100: 27 examples" in said
    lines = [line for line in said.splitlines() if "my_dataset" not in line and "MyDataset" not in line]
    own = [line for line in lines if line.startswith(("downloading", "preparing"))]
    assert len(own) == 10 + 4
    assert "cifar" not in (Path(folder) / "stdout").read_text()


def test_published_sums_are_those_of_tensorflow_datasets():
    import tensorflow_datasets as tfds

    from neuralmon.data.tfds.prepare import NAMES

    for name in NAMES:
        infos = tfds.builder_cls(name).url_infos
        assert len(infos) == (1 if name.startswith("cifar") else 4)
        assert all(len(info.checksum) == 64 and info.size > 1000 for info in infos.values())


def test_columns_give_rows_in_any_order_in_any_process(folder):
    splits = Tfds("mnist", data_dir=folder).resolve().load()
    images, labels = (whole(splits["train"][key]) for key in ("inputs", "targets"))
    rows = np.array([5, 0, 5, 269, 3])
    for key, all_of_it in {"inputs": images, "targets": labels}.items():
        column = splits["train"][key]
        np.testing.assert_array_equal(column[rows], all_of_it[rows])
        assert column[rows[:0]].shape == (0, *column.shape[1:])
        blob = pickle.dumps(splits["test"][key])
        assert len(blob) < 1000  # a description and no examples
        np.testing.assert_array_equal(whole(pickle.loads(blob)), whole(splits["test"][key]))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork.*")
def test_columns_can_be_read_in_a_forked_process(folder):
    column = Tfds("mnist", data_dir=folder).resolve().load()["test"]["inputs"]
    expected = whole(column)
    if (child := os.fork()) == 0:
        os._exit(0 if np.array_equal(whole(column), expected) else 1)
    deadline = time.monotonic() + 20
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_inputs_are_normalised_to_mean_0_and_variance_1(folder):
    dataset = Tfds("cifar10", data_dir=folder).resolve()
    images = whole(dataset.load()["train"]["inputs"])
    batch = {"inputs": images, "targets": np.zeros(len(images), np.int32), "weights": np.ones(len(images), np.float32)}
    out = np.asarray(dataset.prepare(jax.random.key(0), batch, train=False)["inputs"])
    np.testing.assert_allclose(out.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(out.std((0, 1, 2)), 1, atol=1e-4)
    given = Tfds("cifar10", data_dir=folder, mean=(0.5,), stddev=(0.25,)).resolve()
    assert (given.mean, given.stddev) == ((0.5,), (0.25,))
    expected = (images / 255 - 0.5) / 0.25
    np.testing.assert_allclose(given.prepare(jax.random.key(0), batch, train=False)["inputs"], expected, atol=1e-5)
    half = Tfds("cifar10", data_dir=folder, mean=(0.5,)).resolve()
    assert half.mean == (0.5,) and half.stddev == dataset.stddev


def test_a_resolved_dataset_is_recorded_and_found_again(folder):
    dataset = Tfds("mnist", data_dir=folder).resolve()
    names = Names(sys.modules[Tfds.__module__])
    recorded = json.loads(json.dumps(codec.to_json(dataset, names)))
    assert codec.from_json(recorded, Dataset, names) == dataset
    text = f"Tfds(name='mnist', data_dir={folder!r}, size=(14, 14))"
    assert codec.parse(text, Dataset, names) == Tfds("mnist", data_dir=folder, size=(14, 14))
    assert dataset.resolve() is dataset
    changed = Tfds("mnist", data_dir=folder, facts=Facts(sizes={"train": 1}, shape=(28, 28, 1), fingerprint="other"))
    with pytest.raises(RunError, match=r"mnist.3\.0\.1 has changed since the run began"):
        changed.load()


def test_data_prepared_again_with_another_encoding_is_the_same(folder, published, tmp_path):
    import tensorflow_datasets as tfds
    from PIL import Image

    class Builder(tfds.builder_cls("mnist"), skip_registration=True):
        name = "mnist"

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(*columns) for split, columns in published["mnist"].items()}

        def _generate_examples(self, images, labels):
            for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                file = io.BytesIO()
                Image.fromarray(image[..., 0]).save(file, "PNG", compress_level=1)
                yield index, {"image": file.getvalue(), "label": int((label + self.shift) % 10)}

    resolved = Tfds("mnist", data_dir=folder).resolve()
    Builder.shift = 0
    Builder(data_dir=tmp_path / "same", file_format="array_record").download_and_prepare()
    moved = dataclasses.replace(resolved, data_dir=str(tmp_path / "same"))
    np.testing.assert_array_equal(whole(moved.load()["test"]["inputs"]), whole(resolved.load()["test"]["inputs"]))
    Builder.shift = 1
    Builder(data_dir=tmp_path / "other", file_format="array_record").download_and_prepare()
    with pytest.raises(RunError, match="has changed"):
        dataclasses.replace(resolved, data_dir=str(tmp_path / "other")).load()


def test_the_environment_says_where_the_data_is(folder, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", folder)
    assert Tfds("mnist").resolve().facts == Tfds("mnist", data_dir=folder).resolve().facts


MINE = "my_dataset/config:1.0.0"


def test_own_data_of_images_of_any_size(folder):
    dataset = Tfds(MINE, data_dir=folder, inputs="image", targets="label", size=(5, 7)).resolve()
    spec, splits = dataset.spec(), dataset.load()
    assert spec.sizes == {"train": 24, "validation": 6}  # the test split has no classes
    assert spec.class_names == ("cat", "dog") and spec.features["inputs"].shape == (5, 7, 3)
    assert dataset.facts.class_counts == (16, 8)
    colours = {tuple(image[0, 0]) for image in whole(splits["train"]["inputs"])}
    assert colours == {(10 * i,) * 3 if i % 4 == 0 else (9, 5, i) for i in range(24)}
    assert Tfds(MINE, data_dir=folder, size=5).resolve().spec().features["inputs"].shape == (5, 5, 3)


@pytest.mark.parametrize(
    ("inputs", "targets", "shape", "dtype", "rows"),
    [
        ("vector", "number", (3,), np.float32, [[i, 2 * i, 1] for i in range(24)]),
        ("bytes", "vector", (2,), np.uint8, [[i, 255] for i in range(24)]),
        ("number", "label", (1,), np.float32, [[7 * i] for i in range(24)]),
        ("flag", "label", (1,), np.float32, [[i % 2 == 0] for i in range(24)]),
    ],
)
def test_own_data_of_numbers(folder, inputs, targets, shape, dtype, rows):
    dataset = Tfds(MINE, data_dir=folder, inputs=inputs, targets=targets).resolve()
    column = dataset.load()["train"]["inputs"]
    assert dataset.spec().features["inputs"].shape == shape and column.dtype == dtype
    assert sorted(whole(column).tolist()) == sorted(np.array(rows, dtype).tolist())
    if targets == "label":
        return
    expected = np.array([[i, 2 * i, 1] for i in range(24)] if targets == "vector" else [[7 * i] for i in range(24)])
    np.testing.assert_allclose(dataset.facts.target_mean, expected.mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        dataset.facts.target_stddev, np.where(expected.std(0) > 0, expected.std(0), 1), rtol=1e-6
    )
    assert dataset.spec().num_classes is None


def test_a_split_of_ones_own(folder):
    rows = RandomSplit(validation=0.2, seed=3).rows(300, test=False)
    dataset = Tfds("mnist", data_dir=folder, split=RandomSplit(validation=0.2, seed=3)).resolve()
    everything = whole(Tfds("mnist", data_dir=folder, split=ChronologicalSplit(validation=0)).load()["train"]["inputs"])
    for name, numbers in rows.items():
        np.testing.assert_array_equal(whole(dataset.load()[name]["inputs"]), everything[numbers])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"name": "minst"}, r"'minst' is neither .*\(did you mean mnist"),
        ({"name": "my_datset"}, r"did you mean my_dataset"),
        ({"name": "my_dataset/other"}, r"neither .* nor prepared in .*; there is my_dataset/config/1\.0\.0$"),
        (
            {"name": "beans"},
            r"not prepared in .*pip install 'neuralmon\[tfds\]'.*tfds build beans --file_format=array_record",
        ),
        ({"name": "mnist:1.0.0"}, r"Dataset mnist cannot be loaded at version 1\.0\.0"),
        ({"name": "imagenet_resized/1x1"}, r"'imagenet_resized/1x1' cannot be opened"),
        ({"name": "kaggle:mnist"}, "namespace"),
        ({"name": ""}, "cannot be opened"),
        ({"name": MINE}, r"dataset\.size: the images 'image' differ in size"),
        ({"name": MINE, "inputs": "pixels"}, r"no feature 'pixels'; its features: .*image \(Image\[None, None, 3\]\)"),
        ({"name": MINE, "inputs": "text"}, r"dataset\.inputs: 'text' is not images or numbers of one shape"),
        ({"name": MINE, "inputs": "ragged"}, r"dataset\.inputs: 'ragged' is not"),
        ({"name": MINE, "inputs": "nested"}, r"dataset\.inputs: 'nested' is not"),
        ({"name": MINE, "inputs": "depth"}, r"'depth' is no image of bytes"),
        ({"name": MINE, "inputs": "vector", "size": 4}, r"dataset\.size: 'vector' is no image"),
        (
            {"name": MINE, "inputs": "vector", "targets": "image"},
            r"dataset\.targets: 'image' is not a class or numbers",
        ),
        ({"name": MINE, "inputs": "vector", "targets": "text"}, r"dataset\.targets: 'text' is not"),
        (
            {"name": MINE, "inputs": "vector", "mean": (0.0, 1.0)},
            r"dataset\.mean: \(0\.0, 1\.0\) is not one number or 3",
        ),
        ({"name": MINE, "inputs": "vector", "stddev": (0.0,)}, r"dataset\.stddev: .* not above 0"),
        ({"name": MINE, "inputs": "vector", "targets": "number", "balanced_sampling": True}, "no classes"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(folder, arguments, complaint, capfd):
    begin = time.monotonic()
    with pytest.raises(RequestError, match=complaint) as caught:
        Tfds(**{"data_dir": folder, **arguments}).resolve()
    assert time.monotonic() - begin < 2 and "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_values_that_are_stored_compressed_are_refused(folder):
    with pytest.raises((RequestError, RunError), match=r"'zipped' is stored as bytes_list"):
        Tfds(MINE, data_dir=folder, inputs="zipped").resolve()


def test_offline_it_fails_at_once_and_takes_files_put_there_by_hand(monkeypatch, tmp_path):
    def lookup(*args, **kwargs):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setenv("no_proxy", "*")
    begin = time.monotonic()
    with pytest.raises(RequestError, match=r"name resolution.*put it into .*downloads.cifar10"):
        Tfds("cifar10", data_dir=str(tmp_path)).resolve()
    assert time.monotonic() - begin < 2
    by_hand = tmp_path / "downloads" / "cifar10" / "cifar-10-binary.tar.gz"
    by_hand.write_bytes(b"another file")
    with pytest.raises(RequestError, match="is not the published file"):
        Tfds("cifar10", data_dir=str(tmp_path)).resolve()


@pytest.mark.parametrize(
    ("name", "path", "content"),
    [
        ("cifar10", "cifar-10-binary.tar.gz", b"no archive"),
        ("cifar10", "cifar-10-binary.tar.gz", archive({"cifar-10-batches-bin/test_batch.bin": b"123"})),
        ("mnist", "train-images-idx3-ubyte.gz", gzip.compress(b"1234", mtime=0)),
        ("mnist", "train-images-idx3-ubyte.gz", b"not compressed"),
    ],
)
def test_files_that_are_of_another_kind(name, path, content, tmp_path):
    from neuralmon.data.tfds.download import RemoteFile
    from neuralmon.data.tfds.prepare import prepare

    (tmp_path / "downloads" / name).mkdir(parents=True)
    (tmp_path / "downloads" / name / path).write_bytes(content)
    file = RemoteFile(f"http://nowhere.invalid/{path}", len(content), hashlib.sha256(content).hexdigest())
    with pytest.raises(RequestError, match=f"the files are not those of {name}"):
        prepare(name, tmp_path, [file])


def test_damaged_and_missing_files_are_named(folder, tmp_path):
    shutil.copytree(Path(folder) / "mnist", tmp_path / "mnist")
    splits = Tfds("mnist", data_dir=str(tmp_path)).resolve().load()
    test = next((tmp_path / "mnist").rglob("mnist-test*"))
    test.write_bytes(test.read_bytes().replace(b"IHDR", b"XXXX"))
    with pytest.raises(RunError, match=r"mnist.*split test cannot be read"):
        whole(splits["test"]["inputs"])
    test.unlink()
    with pytest.raises(RunError, match=r"mnist.*split test cannot be read"):
        Tfds("mnist", data_dir=str(tmp_path)).resolve()


def test_data_in_a_format_without_random_access(folder, tmp_path):
    shutil.copytree(Path(folder) / "mnist", tmp_path / "mnist")
    info = next((tmp_path / "mnist").rglob("dataset_info.json"))
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(
        RequestError, match=r"prepared as tfrecord.*tfds convert_format --dataset_version_dir=.*3\.0\.1"
    ):
        Tfds("mnist", data_dir=str(tmp_path)).resolve()


def test_classes_of_large_data_are_counted_only_if_that_is_needed(folder, monkeypatch):
    counts = Tfds("mnist", data_dir=folder).resolve().facts.class_counts
    monkeypatch.setattr("neuralmon.data.tfds.dataset._QUICK_BYTES", 0)
    assert Tfds("mnist", data_dir=folder).resolve().facts.class_counts == ()
    assert Tfds("mnist", data_dir=folder, class_weights="balanced").resolve().facts.class_counts == counts
    balanced = Tfds("mnist", data_dir=folder, balanced_sampling=True).resolve()
    targets = whole(balanced.load()["train"]["targets"])
    assert np.bincount(targets).tolist() == [max(counts)] * 10
    assert balanced.spec().sizes["train"] == len(targets)


def test_without_the_packages_it_says_what_to_install(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "array_record", None)
    with pytest.raises(RequestError, match=r"pip install 'neuralmon\[tfds\]', or without TensorFlow: pip install"):
        Tfds("mnist", data_dir=folder).resolve()


def test_new_images_for_predictions(folder, tmp_path):
    from PIL import Image

    image = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    Image.fromarray(image).save(tmp_path / "seven.png")
    dataset = Tfds("mnist", data_dir=folder).resolve()
    names, inputs = dataset.read_inputs(str(tmp_path))
    assert list(names) == ["seven.png"]
    np.testing.assert_array_equal(inputs, image[None, ..., None])
    with pytest.raises(RequestError, match="only images"):
        Tfds(MINE, data_dir=folder, inputs="vector").resolve().read_inputs(str(tmp_path))


def test_texts_with_classes(folder):
    dataset = TfdsText(MINE, data_dir=folder, text="text", target="label", length=5).resolve()
    splits = dataset.load()
    # The test split has no classes, but says so with -1.
    assert dataset.spec().class_names == ("cat", "dog") and len(splits["train"]["targets"]) == 24
    said = {dataset.vocabulary.decode(row) for row in splits["train"]["inputs"]}
    assert all(text.startswith("example") for text in said)
    with pytest.raises(RequestError, match=r"dataset\.text: .*'number' is no feature of the kind Text"):
        TfdsText(MINE, data_dir=folder, text="number", target="label").resolve()
