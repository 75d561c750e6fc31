"""Arrays in memory or in NumPy's files: opening them, reading them block by block, and converting what is asked for."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from neuralmon.data.tables.standardize import Moments
from neuralmon.errors import RequestError

# Elements that are looked at at the same time: 32 MB of float64.
_BLOCK = 2**22
# Bytes up to which arrays are read once more to find out whether they are still the same.
_QUICK_BYTES = 2**28


@dataclasses.dataclass(frozen=True)
class Converted:
    """A column of another type than the array it is read from, of which it converts only the rows that are asked for.

    Attributes:
      source: the array, in memory or memory-mapped.
      dtype: type of what is read.
    """

    source: np.ndarray
    dtype: np.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """See `Column.shape`."""
        return self.source.shape

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """See `Column.__getitem__`."""
        return np.asarray(self.source[rows]).astype(self.dtype)


@dataclasses.dataclass(frozen=True)
class Scan:
    """What one pass through an array finds.

    Attributes:
      moments: of the rows that were asked for, for each place of the last axis; None: of no row.
      sha256: of the type, the shape and all elements.
    """

    moments: Moments | None
    sha256: str


def open_array(value: str | np.ndarray, field: str) -> np.ndarray:
    """Returns an array of numbers with at least one row; that of an .npy file is memory-mapped, not read.

    Raises:
      RequestError: what `field` says is no such array.
    """
    array = _read(value, field) if isinstance(value, str) else value
    if not isinstance(array, np.ndarray):
        what = f"{field} is a {type(array).__name__}, where a NumPy array or the path of an .npy file is needed"
        raise RequestError(f"{what}: numpy.asarray(...) makes one of most things")
    if isinstance(array, np.ma.MaskedArray):
        raise RequestError(f"{field} is a masked array: fill its missing values in, or leave their rows out")
    if array.dtype.kind not in "buif":
        what = f"{field} holds {array.dtype}, where numbers are needed"
        raise RequestError(f"{what}" + (": are its rows of unequal lengths?" if array.dtype == object else ""))
    if array.ndim == 0 or array.size == 0:
        raise RequestError(f"{field} has the shape {array.shape}: there is no example in it")
    return array


def _read(path: str, field: str) -> np.ndarray:
    name, archive, key = path.rpartition(".npz:")
    file = Path(f"{name}.npz" if archive else path).expanduser()
    if not file.exists():
        raise RequestError(f"{field}: there is no file {file} (relative paths start at {Path.cwd()})")
    if file.is_dir():
        raise RequestError(f"{field}: {file} is a folder: give the path of an .npy file, or 'FILE.npz:NAME'")
    try:
        content = np.load(file, mmap_mode=None if archive else "r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content:
            if archive and key in content.files:
                return content[key]
            known = ", ".join(content.files)
    except (OSError, EOFError, ValueError, KeyError) as error:
        # An array of objects is a pickle, and reading one runs whatever code it holds.
        pickled = "ickle" in str(error) or "Python objects" in str(error)
        why = "it holds Python objects, which are not read: save plain numbers" if pickled else f"{error}"
        if pickled and not is_numpys(file):
            why = "it is neither, whatever it is called"
        raise RequestError(f"{field}: {file} cannot be read as an .npy or .npz file: {why}") from None
    except Exception as error:  # a damaged archive: zipfile and zlib have errors of their own
        raise RequestError(f"{field}: {file} is damaged: {error}") from None
    what = f"{file} has no array {key!r}" if archive else f"{file} is an archive of arrays"
    raise RequestError(f"{field}: {what}: give '{file}:NAME', where NAME is one of {known}")


def is_numpys(file: Path) -> bool:
    """Returns whether a file begins as .npy and .npz files do; NumPy takes everything else for a pickle."""
    with file.open("rb") as content:
        return content.read(6).startswith((b"\x93NUMPY", b"PK"))


def blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Returns the array's rows in order, as many at a time as fit the memory well, with the first one's number."""
    step = max(1, _BLOCK * len(array) // array.size)
    for start in range(0, len(array), step):
        yield start, array[start : start + step]


def scan(array: np.ndarray, field: str, measured: np.ndarray | None = None) -> Scan:
    """Reads an array once; `measured` (rows,) says which rows make the moments.

    Raises:
      RequestError: there is a number in it that is not finite as float32.
    """
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    moments: Moments | None = None
    for start, block in blocks(array):
        digest.update(np.ascontiguousarray(block).data)
        with np.errstate(over="ignore"):
            wrong = None if block.dtype.kind != "f" else ~np.isfinite(block.astype(np.float32, copy=False))
        if wrong is not None and wrong.any():
            place = np.argwhere(wrong)[0]
            index = ", ".join(str(part) for part in (start + place[0], *place[1:]))
            advice = "fill it in, or leave its row out"
            raise RequestError(
                f"{field}[{index}] is {block[tuple(place)]}, which is no finite float32 number; {advice}"
            )
        if measured is not None and (inside := measured[start : start + len(block)]).any():
            found = Moments.of(block[inside].reshape(-1, block.shape[-1] if block.ndim > 1 else 1))
            moments = found if moments is None else moments + found
    return Scan(moments, digest.hexdigest())


def fingerprint_of(scans: Iterable[Scan]) -> str:
    """Returns the SHA-256 of several arrays' sums."""
    return hashlib.sha256("".join(scan.sha256 for scan in scans).encode()).hexdigest()


def has_fingerprint(arrays: Sequence[np.ndarray], fingerprint: str) -> bool:
    """Returns whether arrays are those that a fingerprint is of; of more than 256 MB it is taken for granted."""
    if sum(array.nbytes for array in arrays) > _QUICK_BYTES:
        return True
    return fingerprint_of(scan(array, "dataset.inputs or targets") for array in arrays) == fingerprint
