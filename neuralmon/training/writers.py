"""Where metrics go: one JSON line per evaluation, and TensorBoard event files without TensorFlow."""

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from neuralmon.errors import RunError

Metrics = Mapping[str, Any]
"""Numbers, or nested dicts and lists of numbers (a confusion matrix, a table per class)."""

_LARGEST_TABLE = 100  # TensorBoard draws a chart per entry; larger tables are in metrics.jsonl only


class Writer(Protocol):
    """Takes the metrics of one split at one step."""

    def write(self, step: int, split: str, metrics: Metrics) -> None:
        """Records `metrics`; raises `RunError` where they cannot be stored."""

    def close(self) -> None:
        """Stores what is still under way; a second call does nothing."""


class JsonLines:
    """Appends `{"step": 430, "split": "validation", "loss": 0.05}` lines; NaN and infinity are null.

    Every line goes to the operating system at once, so a kill loses at most part of the last line.

    Args:
        path: the file, by convention `metrics.jsonl` in the run's folder.
        resume_step: the step of the checkpoint the run continues from. Later lines are dropped,
            for the run is about to write them again. None starts an empty file.
    """

    def __init__(self, path: str | os.PathLike[str], resume_step: int | None = None) -> None:
        self.path = Path(path)
        with _run_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if resume_step is not None:
                _keep_until(self.path, resume_step)
            # Unbuffered: a full disk is then reported by the write itself, not later by close().
            self._file = self.path.open("wb" if resume_step is None else "ab", buffering=0)

    def write(self, step: int, split: str, metrics: Metrics) -> None:
        """Appends one line."""
        record = _plain({"step": step, "split": split, **metrics}, null_for_nonfinite=True)
        line = memoryview(json.dumps(record, allow_nan=False).encode() + b"\n")
        with _run_errors(self.path):
            while line:  # a nearly full disk takes a part first and gives the error afterwards
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Closes the file."""
        with _run_errors(self.path):
            self._file.close()


class TensorBoard:
    """Writes scalars `train/loss`, and `validation/f1/3` for tables per class; matrices are skipped.

    tensorboardX is imported and the disk is waited for in a thread, so `write` costs microseconds.
    Its own `SummaryWriter` is not used: on a full disk its thread ends and the run then waits
    for it forever. Here the error comes with the next `write` or with `close`.

    Args:
        directory: where the event file goes; each launch adds one.
        resume_step: as in `JsonLines`; TensorBoard hides what earlier launches wrote after it.
    """

    def __init__(self, directory: str | os.PathLike[str], resume_step: int | None = None) -> None:
        self.directory = Path(directory)
        self._purge_step = 0 if resume_step is None else resume_step + 1
        self._queue = queue.SimpleQueue[tuple[float, int, dict[str, float]] | None]()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def write(self, step: int, split: str, metrics: Metrics) -> None:
        """Hands the scalars in `metrics` to the thread, which stores them within moments."""
        self._raise_error()
        if self._thread is None:
            # A daemon, so that a program that ends without close() does end.
            self._thread = threading.Thread(target=self._run, name="TensorBoard", daemon=True)
            self._thread.start()
        self._queue.put((time.time(), step, dict(_scalars(_plain(metrics), split))))

    def close(self) -> None:
        """Waits until everything is on disk."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with _run_errors(self.directory):
                self._store_events()
        except Exception as error:
            self._error = error

    def _store_events(self) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # type: ignore[import-untyped]
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
        from tensorboardX.proto.summary_pb2 import Summary  # type: ignore[import-untyped]

        self.directory.mkdir(parents=True, exist_ok=True)
        # tensorboardX names files by the second: two launches within one would overwrite.
        file = EventsWriter(str(self.directory / "events"), f".{time.time_ns()}")
        start = SessionLog(status=SessionLog.START)
        file.write_event(Event(wall_time=time.time(), step=self._purge_step, session_log=start))
        while (item := self._queue.get()) is not None:
            wall_time, step, scalars = item
            values = [Summary.Value(tag=tag, simple_value=x) for tag, x in scalars.items()]
            file.write_event(Event(wall_time=wall_time, step=step, summary=Summary(value=values)))
            if self._queue.empty():  # what arrives during this flush shares the next one
                file.flush()
        file.close()


class Writers:
    """Sends metrics to each of `writers`; a context manager that closes them all."""

    def __init__(self, *writers: Writer) -> None:
        self._writers = writers

    def write(self, step: int, split: str, metrics: Metrics) -> None:
        """Records `metrics` with every writer."""
        for writer in self._writers:
            writer.write(step, split, metrics)

    def close(self) -> None:
        """Closes every writer, those after one that fails too."""
        with contextlib.ExitStack() as stack:
            for writer in reversed(self._writers):
                stack.callback(writer.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        # Whatever ended the run is the news; an error in closing must not take its place.
        with contextlib.suppress(*([] if kind is None else [RunError])):
            self.close()


@contextlib.contextmanager
def _run_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"metrics cannot be written to {path}: {reason}") from error


def _keep_until(path: Path, last_step: int) -> None:
    """Drops, in one rename, the lines of `path` after `last_step` and a partial last line."""
    if not path.exists():
        return
    lines = path.read_bytes().splitlines()
    kept = []
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["step"] <= last_step:
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):  # no kill does this: somebody's edit, theirs to mend
                raise RunError(f"{path}, line {number}, is not a line of metrics") from error
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.writelines(kept)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _plain(metrics: Metrics, null_for_nonfinite: bool = False) -> dict[str, Any]:
    """Copies `metrics` as Python's own dicts, lists and numbers; arrays are read here."""
    text = json.dumps(metrics, default=lambda x: x.tolist() if hasattr(x, "tolist") else dict(x))
    plain: dict[str, Any]
    plain = json.loads(text, parse_constant=(lambda _: None) if null_for_nonfinite else float)
    return plain


def _scalars(value: Any, tag: str) -> Iterator[tuple[str, float]]:
    """Yields the tag and value of every number that deserves a chart of its own."""
    if isinstance(value, int | float):
        yield tag, float(value)
    elif isinstance(value, Mapping) and len(value) <= _LARGEST_TABLE:
        for name, entry in value.items():
            yield from _scalars(entry, f"{tag}/{name}")
    elif isinstance(value, Sequence) and len(value) <= _LARGEST_TABLE:
        for index, entry in enumerate(value):
            if isinstance(entry, int | float):  # lists of lists are matrices
                yield f"{tag}/{index}", float(entry)
