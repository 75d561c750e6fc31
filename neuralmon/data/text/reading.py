"""Text files, read in pieces, so that they may be larger than memory."""

import codecs
import io
from collections.abc import Iterable, Iterator
from pathlib import Path

from neuralmon.data.text.vocabularies import cut
from neuralmon.errors import RequestError

_BLOCK = 2**20  # bytes
_LONGEST = 2**24  # characters of a piece, if there is no place to cut before


def check_file(path: str, field: str) -> Path:
    """Returns the path of a file that exists and is not empty, or raises RequestError."""
    file = Path(path).expanduser()
    if not path or not file.exists():
        raise RequestError(f"{field}: there is no file {path!r} (relative paths start at {Path.cwd()})")
    if file.is_dir():
        other = ", or TextFolder(path=...) for all its files" if field.startswith("dataset") else ""
        raise RequestError(f"{field}: {file} is a folder: give a text file{other}")
    if not file.stat().st_size:
        raise RequestError(f"{field}: {file} is empty")
    return file


def read_pieces(file: Path, field: str) -> Iterator[str]:
    """Yields the text of a UTF-8 file in pieces, cut where no token reaches across (see `vocabularies.pieces`).

    A byte order mark is left out, and line ends of other systems become "\\n".

    Raises:
      RequestError: a byte of it is no UTF-8; or it cannot be read.
    """
    waiting = ""
    for text in _blocks(file, field):
        waiting += text
        while len(waiting) > _BLOCK:
            place = cut(waiting, _BLOCK)
            if place == len(waiting):
                if place < _LONGEST:
                    break  # perhaps there is a place further on
                place = _LONGEST
            yield waiting[:place]
            waiting = waiting[place:]
    if waiting:
        yield waiting


def read_text(path: str, field: str) -> str:
    """Returns the whole text of a file (see `read_pieces`)."""
    return "".join(read_pieces(check_file(path, field), field))


def _blocks(file: Path, field: str) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    at, lines, first = 0, 1, True
    try:
        with file.open("rb") as stream:
            while True:
                block = stream.read(_BLOCK)
                pending = utf8.getstate()[0]
                try:
                    text = utf8.decode(block, final=not block)
                except UnicodeDecodeError as error:
                    place = at - len(pending) + error.start
                    lines += (pending + block).count(b"\n", 0, error.start)
                    raise _no_utf8(file, field, place, lines, (pending + block)[error.start]) from None
                at += len(block)
                lines += block.count(b"\n")
                yield newlines.decode(text.removeprefix("\ufeff") if first else text, final=not block)
                first = False
                if not block:
                    return
    except OSError as error:
        raise RequestError(f"{field}: {file} cannot be read: {error.strerror}") from None


def _no_utf8(file: Path, field: str, place: int, line: int, byte: int) -> RequestError:
    with file.open("rb") as stream:
        start = stream.read(1024)
    what = f"{field}: {file} is not UTF-8: byte {place:,} (line {line:,}) is 0x{byte:02x}"
    utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if b"\0" in start and not utf16:
        return RequestError(f"{what}, and it holds zero bytes: it is no text")
    return RequestError(f"{what}; save it as UTF-8, or: iconv -f {'UTF-16' if utf16 else 'LATIN1'} -t UTF-8 OLD > NEW")


def parts(pieces: Iterable[str], ends: Iterable[int]) -> Iterator[tuple[int, str]]:
    """Yields (part, piece) with each piece cut where a part ends; `ends` are places in the whole text, ascending."""
    borders, part, at = list(ends), 0, 0
    for piece in pieces:
        while part < len(borders) - 1 and at + len(piece) > borders[part]:
            here = max(borders[part] - at, 0)
            if here:
                yield part, piece[:here]
            piece, at, part = piece[here:], at + here, part + 1
        at += len(piece)
        if piece:
            yield part, piece
