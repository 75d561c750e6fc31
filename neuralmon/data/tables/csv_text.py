"""The text of a table, row by row."""

import csv
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuralmon.errors import RequestError


class Lines(Iterator[list[str]]):
    """The rows of a file with its head, without empty lines; what the csv module cannot read is a RequestError."""

    def __init__(self, path: str, reader: Any) -> None:
        self._path, self._reader = path, reader

    @property
    def line_num(self) -> int:
        """How many lines of the file have been read."""
        return self._reader.line_num

    def __next__(self) -> list[str]:
        try:
            while not (row := next(self._reader)):
                pass
        except csv.Error as error:
            what = f"{self._path}, line {self._reader.line_num}: {error}"
            raise RequestError(f"{what}; is a quotation mark not closed, or not doubled within quotes?") from None
        return row


def read_text(path: str, kind: str = "a CSV file") -> tuple[str, str]:
    """Returns a UTF-8 file's text, without a byte order mark, and the SHA-256 of its bytes."""
    if not path:
        raise RequestError(f"the path of {kind} is empty")
    try:
        content = Path(path).expanduser().read_bytes()
    except FileNotFoundError:
        raise RequestError(f"there is no file {path} (relative paths start at {Path.cwd()})") from None
    except IsADirectoryError:
        raise RequestError(f"{path} is a folder: give the path of {kind}") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return content.decode("utf-8").removeprefix("\ufeff"), hashlib.sha256(content).hexdigest()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"{path} is not UTF-8: byte {error.start:,} (line {line}) is 0x{content[error.start]:02x}"
        encoding = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "LATIN1"
        if b"\0" in content and encoding != "UTF-16":
            raise RequestError(f"{what}, and it holds zero bytes: it is no text; give {kind}") from None
        raise RequestError(f"{what}; save it as UTF-8, or: iconv -f {encoding} -t UTF-8 OLD > NEW") from None
