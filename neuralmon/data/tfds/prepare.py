"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 prepared as tensorflow-datasets prepares them, but without TensorFlow.

What results are ordinary prepared data sets, with tensorflow-datasets's names, versions, features and order of the
examples: `tfds.data_source("cifar10")` reads them anywhere. Addresses and SHA-256 sums of the published files are those
in tensorflow-datasets. Of CIFAR the binary files are taken, as there: unlike the pickled ones, they can only hold data.
"""

import contextlib
import gzip
import io
import struct
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from neuralmon.data.tfds.download import RemoteFile, fetch, progress
from neuralmon.errors import RequestError

# Of CIFAR: the bytes before each image, the files of each split, and the files with the names of the classes.
_CIFAR: Mapping[str, tuple[tuple[str, ...], Mapping[str, tuple[str, ...]], Mapping[str, str]]] = {
    "cifar10": (
        ("label",),
        {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)},
        {"label": "batches.meta.txt"},
    ),
    "cifar100": (
        ("coarse_label", "label"),
        {"train": ("train.bin",), "test": ("test.bin",)},
        {"label": "fine_label_names.txt", "coarse_label": "coarse_label_names.txt"},
    ),
}
NAMES = ("mnist", "fashion_mnist", *_CIFAR)

# Columns of a split: "image" (N, height, width, channels) uint8, the numbers of the classes, and perhaps "id".
Splits = Mapping[str, Mapping[str, Any]]


def prepare(name: str, data_dir: Path, files: Sequence[RemoteFile] | None = None) -> None:
    """Downloads and prepares a data set below `data_dir`, unless it is there; other processes wait meanwhile.

    Args:
      name: one of `NAMES`.
      data_dir: tensorflow-datasets's folder. The published files go to, or are found in, its `downloads/<name>`.
      files: where the published files are, if not where tensorflow-datasets has them from.

    Raises:
      RequestError: a file can be neither found nor downloaded, or is not what it should be.
    """
    import tensorflow_datasets as tfds

    stock, folder = tfds.builder_cls(name), data_dir / "downloads" / name
    if files is None:
        files = [RemoteFile(url, int(info.size), info.checksum) for url, info in stock.url_infos.items()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{folder} cannot be made ({error.strerror}); choose another dataset.data_dir") from error
    with FileLock(folder / "prepare.lock"):
        if stock(data_dir=data_dir).is_prepared():
            return
        paths = {file.name: fetch(file, folder) for file in files}
        try:
            splits, class_names = _read_cifar(name, *paths.values()) if name in _CIFAR else (_read_mnist(paths), {})
        except (OSError, EOFError, KeyError, ValueError, tarfile.TarError, struct.error) as error:
            raise RequestError(f"{folder}: the files are not those of {name}: {error}") from error
        _write(stock, data_dir, splits, class_names)


def _write(stock: Any, data_dir: Path, splits: Splits, class_names: Mapping[str, Sequence[str]]) -> None:
    import tensorflow_datasets as tfds
    from PIL import Image

    total = sum(len(columns["image"]) for columns in splits.values())
    with progress(f"preparing {stock.name}", total, "examples") as advance:

        def examples(columns: Mapping[str, Any]) -> Iterator[tuple[int, dict[str, Any]]]:
            for index, row in enumerate(zip(*columns.values(), strict=True)):
                example = dict(zip(columns, row, strict=True))
                # From a PIL image tensorflow-datasets makes a PNG by itself, from an array it does so with TensorFlow.
                image = example["image"]
                example["image"] = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
                yield index, example
                advance(1)

        class Builder(stock, skip_registration=True):  # type: ignore[call-arg]
            name = stock.name

            def _split_generators(self, dl_manager: object) -> dict[str, Iterator]:
                for key, names in class_names.items():
                    self.info.features[key].names = list(names)
                return {split: examples(columns) for split, columns in splits.items()}

        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                Builder(data_dir=data_dir, file_format="array_record").download_and_prepare()
        finally:
            tfds.enable_progress_bar()


def _read_mnist(paths: Mapping[str, Path]) -> Splits:
    return {
        split: {
            "image": _read_idx(paths[f"{prefix}-images-idx3-ubyte.gz"])[..., None],
            "label": _read_idx(paths[f"{prefix}-labels-idx1-ubyte.gz"]).tolist(),
        }
        for split, prefix in {"train": "train", "test": "t10k"}.items()
    }


def _read_idx(path: Path) -> np.ndarray:
    """Reads bytes with their shape in front: two zeros, type 8, the rank, and each size as a big-endian uint32."""
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path.name} holds no bytes in the IDX format")
    rank = data[3]
    shape = struct.unpack(f">{rank}I", data[4 : 4 + 4 * rank])
    return np.frombuffer(data, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _read_cifar(name: str, path: Path) -> tuple[Splits, dict[str, list[str]]]:
    """Reads records of one byte per label and 3,072 bytes of an image: its red, green and blue planes, row by row."""
    labels, split_files, name_files = _CIFAR[name]
    content = {}
    with tarfile.open(path) as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                content[Path(member.name).name] = file.read()
    splits: dict[str, dict[str, Any]] = {}
    for split, files in split_files.items():
        records = np.frombuffer(b"".join(content[base] for base in files), np.uint8)
        records = records.reshape(-1, len(labels) + 3072)
        splits[split] = {
            "id": [f"{split}_{index:05d}" for index in range(len(records))],
            "image": records[:, len(labels) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
            **{label: records[:, column].tolist() for column, label in enumerate(labels)},
        }
    return splits, {label: content[base].decode().split() for label, base in name_files.items()}
