"""Records of data that tensorflow-datasets prepared, opened and decoded a few at a time."""

import contextlib
import dataclasses
import difflib
import functools
import io
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from neuralmon.errors import RequestError, RunError

_AT_ONCE = 1_000
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclasses.dataclass(frozen=True)
class Feature:
    """How one feature of a record becomes an array.

    Attributes:
      key: its name in the record.
      shape: shape of the array.
      dtype: type of the elements: uint8 of images, int32 of classes, else uint8 or float32.
      image: whether it is an encoded image.
      resize: whether that image is resized to `shape`.
    """

    key: str
    shape: tuple[int, ...]
    dtype: str
    image: bool = False
    resize: bool = False

    @classmethod
    def of(cls, info: Any, key: Any, role: str, size: tuple[int, int] | None) -> "Feature":
        """Finds a feature in a data set's description.

        Args:
          info: tensorflow-datasets's `DatasetInfo`.
          key: its name.
          role: "inputs" or "targets".
          size: height and width to which images are resized, or None.

        Raises:
          RequestError: there is none of this name, or it is of a kind that makes no inputs or targets.
        """
        import tensorflow_datasets as tfds

        if not isinstance(key, str) or key not in info.features:
            raise RequestError(f"dataset.{role}: {info.full_name} has no feature {key!r}; {describe(info)}")
        feature = info.features[key]
        shape, dtype = feature.shape, getattr(feature, "np_dtype", np.dtype(object))
        if role == "inputs" and isinstance(feature, tfds.features.Image):
            if np.dtype(dtype) != np.uint8 or shape[-1] not in _MODES:
                raise RequestError(f"dataset.inputs: {key!r} is no image of bytes with 1, 3 or 4 channels")
            if size is None and None in shape:
                raise RequestError(f"dataset.size: the images {key!r} differ in size; give one for all: size=(64, 64)")
            return cls(key, (*(size or shape[:2]), shape[-1]), "uint8", True, size is not None)
        if role == "targets" and isinstance(feature, tfds.features.ClassLabel) and feature.num_classes:
            return cls(key, (), "int32")
        numeric = isinstance(feature, tfds.features.Tensor | tfds.features.Scalar) and np.dtype(dtype).kind in "biuf"
        if not numeric or None in shape:
            kinds = "images or numbers" if role == "inputs" else "a class or numbers"
            raise RequestError(f"dataset.{role}: {key!r} is not {kinds} of one shape; {describe(info)}")
        if size is not None and role == "inputs":
            raise RequestError(f"dataset.size: {key!r} is no image")
        byte = role == "inputs" and np.dtype(dtype) == np.uint8
        return cls(key, tuple(shape) or ((1,) if role == "inputs" else ()), "uint8" if byte else "float32")

    def decode(self, record: Any) -> np.ndarray:
        """Returns the array in a parsed record (`tf.train.Example`)."""
        stored = record.features.feature[self.key]
        if not self.image:
            if (kind := stored.WhichOneof("kind")) not in ("int64_list", "float_list"):
                raise ValueError(f"{self.key!r} is stored as {kind}, not as plain numbers")
            return np.asarray(getattr(stored, kind).value, self.dtype).reshape(self.shape)
        from PIL import Image

        height, width, channels = self.shape
        with Image.open(io.BytesIO(stored.bytes_list.value[0])) as file:
            image = file if file.mode == _MODES[channels] else file.convert(_MODES[channels])
            if self.resize:
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(image).reshape(self.shape)


@dataclasses.dataclass(frozen=True)
class FeatureColumn:
    """One feature of all records of a split: a `Column` of which nothing is in memory.

    It is a description only: whoever indexes it, a worker process too, opens the files then.

    Attributes:
      folder: of the prepared data set.
      split: as tensorflow-datasets names it.
      size: number of records.
      feature: what is read of each.
    """

    folder: str
    split: str
    size: int
    feature: Feature

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Column.shape`."""
        return (self.size, *self.feature.shape)

    @property
    def dtype(self) -> np.dtype:
        """See `Column.dtype`."""
        return np.dtype(self.feature.dtype)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """See `Column.__getitem__`."""
        from tensorflow_datasets.proto import tf_example_pb2

        numbers = np.asarray(rows).tolist()
        out = np.empty((len(numbers), *self.feature.shape), self.dtype)
        which = ""
        # Parsing a record costs a small part of decoding an image, so inputs and targets each parse it for themselves.
        try:
            # Files opened before a process forks cannot be read after it.
            records = _records(self.folder, self.split, os.getpid()).__getitems__(numbers)
            for place, record in enumerate(records):
                which = f"example {numbers[place]} of "
                out[place] = self.feature.decode(tf_example_pb2.Example.FromString(record))
        except Exception as error:
            raise RunError(f"{self.folder}: {which}split {self.split} cannot be read: {error}") from error
        return out


def raw_records(folder: str, split: str) -> Iterator[Any]:
    """Yields the parsed records (`tf.train.Example`) of a split, in order.

    Raises:
      RunError: one cannot be read.
    """
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        records = _records(folder, split, os.getpid())
        for start in range(0, len(records), _AT_ONCE):
            numbers = list(range(start, min(start + _AT_ONCE, len(records))))
            yield from map(tf_example_pb2.Example.FromString, records.__getitems__(numbers))
    except Exception as error:
        raise RunError(f"{folder}: split {split} cannot be read: {error}") from error


def builder_for(name: str, data_dir: str | None) -> Any:
    """Returns the builder of a data set that is prepared, after preparing it if that goes without TensorFlow.

    Raises:
      RequestError: tensorflow-datasets is not installed or does not know the name, or the data set is not prepared.
    """
    from neuralmon.data.tfds import prepare as preparing  # downloading: not for those who only read

    with _quiet():
        tfds = _library()
        folder = data_dir or os.environ.get("TFDS_DATA_DIR")
        arguments = {"data_dir": Path(folder).expanduser()} if folder else {}
        if re.search(r":[A-Za-z_]", name):
            raise RequestError(f"dataset.name: {name!r}: names with a namespace before a colon are not supported")
        try:
            builder = tfds.builder(name, **arguments)
            if not builder.is_prepared() and builder.name in preparing.NAMES:
                preparing.prepare(builder.name, Path(builder.data_dir_root))
                builder = tfds.builder(name, **arguments)
        except RequestError:
            raise
        except tfds.core.DatasetNotFoundError as error:
            raise RequestError(_unknown(name, Path(folder or "~/tensorflow_datasets").expanduser())) from error
        except Exception as error:
            reason = re.sub(r"^Failed to construct .*?\}\": ", "", " ".join(str(error).split()) or type(error).__name__)
            reason = re.split(r" (?:Here are|The builder name string) ", reason)[0]  # long lists, and their grammar
            raise RequestError(f"dataset.name: {name!r} cannot be opened: {reason[:300]}") from error
        if not builder.is_prepared():
            raise RequestError(
                f"dataset.name: {name} is not prepared in {builder.data_dir_root}: pip install 'neuralmon[tfds]' (with "
                f"TensorFlow, which preparing needs), then: tfds build {name} --file_format=array_record "
                f"--data_dir={builder.data_dir_root}"
            )
        formats = {str(file_format.value) for file_format in builder.info.available_file_formats()}
        if "array_record" not in formats:
            raise RequestError(
                f"dataset.name: {name} is prepared as {', '.join(sorted(formats))}, which cannot be read in any order: "
                f"tfds convert_format --dataset_version_dir={builder.data_path} --out_file_format=array_record"
            )
        return builder


def describe(info: Any) -> str:
    """Returns a line with the names, kinds and shapes of the features, and the splits."""
    features = ", ".join(
        f"{key} ({type(feature).__name__}{list(feature.shape) if isinstance(feature.shape, tuple) else ''})"
        for key, feature in info.features.items()
    )
    return f"its features: {features}; its splits: {', '.join(info.splits)}"


def _unknown(name: str, folder: Path) -> str:
    first = re.split("[/:]", name)[0]
    prepared = {path.parent.name for path in folder.glob("*/*") if path.is_dir()} - {"downloads"}
    known = {*_library().list_builders(with_community_datasets=False), *prepared}
    close = difflib.get_close_matches(first, sorted(known), n=3)
    hint = f" (did you mean {' or '.join(close)}?)" if close else ""
    if first in prepared:
        versions = sorted(str(path.parent.relative_to(folder)) for path in folder.glob(f"{first}/**/dataset_info.json"))
        hint = f"; there is {', '.join(versions)}"
    return f"dataset.name: {name!r} is neither a data set of tensorflow-datasets nor prepared in {folder}{hint}"


@functools.lru_cache(maxsize=16)
def _records(folder: str, split: str, process: int) -> Any:
    """Returns the records of a split as bytes, by number."""
    from tensorflow_datasets.core.decode import DeserializeMethod

    with _quiet():
        builder = _library().builder_from_directory(folder)
        return builder.as_data_source(split, deserialize_method=DeserializeMethod.RAW_BYTES)


def _library() -> Any:
    try:
        import array_record  # noqa: F401
        import PIL  # noqa: F401
        import tensorflow_datasets as tfds
    except ImportError as error:
        missing = str(error)
    else:
        # Where something it needs is missing, it logs that and goes on without half of its names.
        if hasattr(tfds, "builder_from_directory"):
            return tfds
        missing = "the installed tensorflow-datasets cannot be imported; is importlib_resources there?"
    raise RequestError(
        f"dataset: Tfds needs tensorflow-datasets ({missing}): pip install 'neuralmon[tfds]', or without TensorFlow: "
        "pip install tensorflow-datasets importlib_resources array_record pillow"
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what tensorflow-datasets logs off the screen: what matters of it is in our own messages."""
    logger = logging.getLogger("absl")

    def nothing(record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(nothing)
    try:
        yield
    finally:
        logger.removeFilter(nothing)
