"""Downloads of published files: every wait has a limit, sums are checked, and no half of a file is taken for a file."""

import contextlib
import dataclasses
import hashlib
import http.client
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from neuralmon.errors import RequestError

_CHUNK = 2**16
# Where there is no network, a person wants to be told at once; a far server may think longer about its answer.
_CONNECT_SECONDS, _STALL_SECONDS = 1.5, 5.0


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
      url: its address.
      size: its length in bytes.
      sha256: its SHA-256 sum in hexadecimal digits.
    """

    url: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


def fetch(
    file: RemoteFile, folder: Path, connect_seconds: float = _CONNECT_SECONDS, stall_seconds: float = _STALL_SECONDS
) -> Path:
    """Returns the path of `file` in `folder`, to which it is downloaded unless it lies there already.

    A download that broke off is continued the next time, where the server can do so.

    Args:
      file: what is wanted.
      folder: where it goes; files put there by hand are taken if their sum is right.
      connect_seconds: how long finding and reaching the server may take.
      stall_seconds: how long the server may send nothing.

    Raises:
      RequestError: there is no network, the server has no such file, or what lies there or was sent is another file.
    """
    path, part = folder / file.name, folder / f"{file.name}.part"
    if path.exists():
        if (found := _sha256(path)) != file.sha256:
            raise RequestError(f"{path} is not the published file (SHA-256 {found}, not {file.sha256}): delete it")
        return path
    by_hand = f"or get {file.name} elsewhere and put it into {folder}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{folder} cannot be made ({_reason(error)}); choose another dataset.data_dir") from error
    try:
        _probe(file.url, connect_seconds)
        _receive(file, part, stall_seconds)
    except (OSError, http.client.HTTPException) as error:
        raise RequestError(f"{file.url} cannot be downloaded ({_reason(error)}); try again later, {by_hand}") from error
    if (found := _sha256(part)) != file.sha256:
        part.unlink()
        raise RequestError(f"{file.url} sent another file (SHA-256 {found}, not {file.sha256}); try again, {by_hand}")
    return part.replace(path)


@contextlib.contextmanager
def progress(title: str, total: int, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
    """Shows on stderr how far something is: a bar in a terminal, a plain line now and then elsewhere.

    Yields:
      A function that is told how much was done since it was last called.
    """
    if sys.stderr.isatty():
        from rich import progress as rich_progress
        from rich.console import Console

        column = rich_progress.DownloadColumn() if unit == "bytes" else rich_progress.MofNCompleteColumn()
        columns = rich_progress.TextColumn("{task.description}"), rich_progress.BarColumn(), column
        with rich_progress.Progress(
            *columns, rich_progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True
        ) as bar:
            task = bar.add_task(title, total=total)
            yield lambda count: bar.advance(task, count)
        return
    done, said = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done, said
        done += count
        if time.monotonic() - said > 10:
            said = time.monotonic()
            print(f"{title}: {100 * done // max(total, 1)} %", file=sys.stderr, flush=True)

    print(
        f"{title}: {total / 1e6:.1f} MB" if unit == "bytes" else f"{title}: {total} {unit}", file=sys.stderr, flush=True
    )
    yield advance


def _probe(url: str, seconds: float) -> None:
    """Raises an OSError if the server, or the proxy on the way to it, cannot be reached in time."""
    target = urllib.parse.urlsplit(url)
    proxy = urllib.request.getproxies().get(target.scheme)
    if proxy and not urllib.request.proxy_bypass(target.netloc):
        target = urllib.parse.urlsplit(proxy if "://" in proxy else f"//{proxy}")
    address = target.hostname or "", target.port or (443 if target.scheme == "https" else 80)
    outcome: list[Exception | None] = []

    def connect() -> None:
        try:
            socket.create_connection(address, timeout=seconds).close()
            outcome.append(None)
        except Exception as error:
            outcome.append(error)

    # A thread, since looking a name up knows no time limit and can take half a minute without a network.
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"{address[0]} cannot be reached within {seconds:g} s; is there a network?")
    if outcome[0] is not None:
        raise ConnectionError(f"{address[0]} cannot be reached: {_reason(outcome[0])}")


def _receive(file: RemoteFile, part: Path, seconds: float) -> None:
    have = part.stat().st_size if part.exists() else 0
    have = have if have < file.size else 0
    request = urllib.request.Request(file.url, headers={"Range": f"bytes={have}-"} if have else {})
    # `urlopen` would keep the proxies of its first call.
    with urllib.request.build_opener().open(request, timeout=seconds) as response:
        have = have if response.status == http.HTTPStatus.PARTIAL_CONTENT else 0
        with part.open("ab" if have else "wb") as out, progress(f"downloading {file.url}", file.size) as advance:
            advance(have)
            while have <= file.size and (chunk := response.read(_CHUNK)):
                have += out.write(chunk)
                advance(len(chunk))
    if have < file.size:
        raise ConnectionError(f"it broke off after {have} of {file.size} bytes")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, Exception):
        return _reason(error.reason)
    if isinstance(error, TimeoutError) and str(error) in ("timed out", "The read operation timed out"):
        return "the server does not answer"
    return str(error) or type(error).__name__
