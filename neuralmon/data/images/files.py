"""Image files as a column, decoded when a batch asks for them, and images for predictions."""

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from neuralmon.data.images.decoding import SUFFIXES, Resize, printable, read_image
from neuralmon.errors import RequestError, RunError

# Below this, threads wait for the interpreter's lock longer than they decode (see benchmarks/images.py).
_WORTH_THREADS = 4e-4  # seconds an image


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies below a folder.

    Attributes:
      files: the images: path relative to the folder, and size in bytes.
      ignored: how many others there are of each suffix, and "hidden" ones.
    """

    files: list[tuple[str, int]]
    ignored: Counter[str]

    def left_out(self) -> str:
        """Returns what there is beside images, such as "; left out: 3 .txt, 1 hidden", or ""."""
        counts = ", ".join(f"{count:,} {printable(what)}" for what, count in self.ignored.most_common(8))
        return f"; left out: {counts}" if counts else ""


def find_images(folder: str) -> Found:
    """Finds all image files below `folder`, sorted by path. Links are followed, hidden files and folders left out.

    Raises:
      RequestError: a folder cannot be read, a link leads nowhere or in a circle.
    """
    found = Found([], Counter())
    _find(folder, "", (), found)
    found.files.sort()
    return found


def is_hidden(name: str) -> bool:
    """Returns whether a file is not meant to be seen; zip files of macOS hold `__MACOSX` beside their content."""
    return name.startswith(".") or name == "__MACOSX"


def _find(folder: str, prefix: str, above: tuple[str, ...], found: Found) -> None:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                stem, dot, last = entry.name.rpartition(".")
                suffix = (dot + last).lower() if stem else ""
                if is_hidden(entry.name):
                    found.ignored["hidden"] += 1
                elif entry.is_dir():
                    links = _followed(above, folder, entry.path) if entry.is_symlink() else above
                    _find(entry.path, f"{prefix}{entry.name}/", links, found)
                elif suffix in SUFFIXES:
                    found.files.append((prefix + entry.name, entry.stat().st_size))
                else:
                    found.ignored[suffix or "without a suffix"] += 1
    except OSError as error:
        where = printable(os.fsdecode(error.filename or folder))
        raise RequestError(f"{where} cannot be read: {error.strerror or error}") from None


def _followed(above: tuple[str, ...], folder: str, link: str) -> tuple[str, ...]:
    """Returns the real folders that links led from and to so far, of which none may come again."""
    start, end = Path(os.path.realpath(folder)), os.path.realpath(link)
    if start.is_relative_to(end) or end in above:
        raise RequestError(f"{printable(link)} is a link to a folder that it lies in: remove it")
    return (*above, str(start), end)


@dataclasses.dataclass(frozen=True, eq=False)
class Paths:
    """Paths of files in one folder, as one piece of memory: millions of them cost little more than their letters."""

    folder: str
    text: bytes
    ends: np.ndarray

    @classmethod
    def of(cls, folder: str, names: Sequence[str]) -> "Paths":
        """Returns the paths of files called `names`, relative to `folder`."""
        encoded = [os.fsencode(name) for name in names]
        return cls(folder, b"".join(encoded), np.cumsum([0, *map(len, encoded)]))

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, row: int) -> str:
        return os.fsdecode(os.fsencode(self.folder) + b"/" + self.text[self.ends[row] : self.ends[row + 1]])


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """A `Column` of images, decoded when they are asked for.

    Attributes:
      paths: where they are.
      image_shape: (height, width, channels) of what comes out.
      resize: what becomes of other aspect ratios.
      workers: threads that decode; 0: the one that asks; None: as many as there are processors, where that pays.
    """

    paths: Paths
    image_shape: tuple[int, int, int]
    resize: Resize = "stretch"
    workers: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Column.shape`."""
        return (len(self.paths), *self.image_shape)

    @property
    def dtype(self) -> np.dtype:
        """See `Column.dtype`."""
        return np.dtype(np.uint8)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Returns the images with these numbers; RunError naming the file where one cannot be read."""
        rows = np.arange(*rows.indices(len(self.paths))) if isinstance(rows, slice) else np.asarray(rows)
        numbers = rows.reshape(-1).tolist()
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(self.paths):
            raise IndexError(f"rows {min(numbers)} to {max(numbers)} of {len(self.paths)} images")
        images = np.empty((len(numbers), *self.image_shape), np.uint8)

        def fill(positions: range) -> None:
            for position in positions:
                images[position] = read_image(self.paths[numbers[position]], self.image_shape, self.resize)

        # The first few show what an image costs; more than one, as the very first may be slow for other reasons.
        tried, worth_threads = 0, self.workers is None
        while worth_threads and tried < min(4, len(numbers)):
            begin = time.perf_counter()
            fill(range(tried, tried + 1))
            tried, worth_threads = tried + 1, time.perf_counter() - begin > _WORTH_THREADS
        workers = (_processors() if worth_threads else 0) if self.workers is None else self.workers
        rest = range(tried, len(numbers))
        if workers and rest:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(fill, [rest[first::workers] for first in range(workers)]))
        else:
            fill(rest)
        return images.reshape(*rows.shape, *self.image_shape)


def _processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def read_images(
    path: str, shape: tuple[int, ...], resize: Resize = "stretch", decode: Callable[[str], np.ndarray] | None = None
) -> tuple[list[str], np.ndarray]:
    """Reads new images for predictions.

    Args:
      path: an image file; a folder, of which all images are read, those of its folders too; or a file of `numpy.save`
        with uint8 images as stored: (images, height, width, channels), or without the first axis for one of them, or
        without the last one for grey images.
      shape: (height, width, channels) of an image as stored.
      resize: what becomes of other aspect ratios.
      decode: makes an image of a file, in place of `read_image`; RunError if it cannot.

    Returns:
      (names, images): the files' paths relative to the folder, sorted, and uint8 (images, height, width, channels).

    Raises:
      RequestError: there is nothing such, or it cannot be read.
    """
    source = expanded(path)
    if source.suffix == ".npy" and source.is_file():
        return _stored_images(source, shape)
    if source.is_dir():
        found = find_images(str(source))
        folder, names = source, [name for name, _ in found.files]
        if not names:
            raise RequestError(f"{printable(str(source))} holds no images ({', '.join(SUFFIXES)}){found.left_out()}")
    elif source.exists():
        folder, names = source.parent, [source.name]
    else:
        raise RequestError(f"{printable(str(source))} does not exist: give an image, a folder of images or a .npy file")
    height, width, channels = shape
    try:
        if decode is None:
            images = ImageFiles(Paths.of(str(folder), names), (height, width, channels), resize)[np.arange(len(names))]
        else:
            images = np.stack([decode(f"{folder}/{name}") for name in names])
    except RunError as error:
        raise RequestError(str(error)) from error
    return [printable(name) for name in names], images


def _stored_images(source: Path, shape: tuple[int, ...]) -> tuple[list[str], np.ndarray]:
    where = printable(str(source))
    try:
        images: Any = np.load(source, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        # NumPy takes whatever it does not know for a pickle, and says how to read that.
        why = "it is no .npy file of numbers, whatever it is called" if "ickle" in str(error) else f"{error}"
        raise RequestError(f"{where} cannot be read as an array: {why}") from None
    if images.size == 0:
        raise RequestError(f"{where} has the shape {images.shape}: there is no image in it")
    ends = [shape, shape[:-1]] if shape[-1] == 1 else [shape]
    fits = any(images.shape == end or images.shape[1:] == end for end in ends)
    if images.dtype != np.uint8 or not fits:
        wanted = f"uint8 (images, {', '.join(map(str, shape))})"
        raise RequestError(f"{where} holds {images.dtype} {images.shape}; images as stored are {wanted}")
    images = images.reshape(-1, *shape)
    return [f"{printable(source.name)}[{index}]" for index in range(len(images))], images


def expanded(path: str) -> Path:
    """Returns a path with `~` replaced by the home folder."""
    if not path:
        raise RequestError("the path is empty; give that of a folder with images")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise RequestError(f"{path}: {error}") from None
