"""Where metrics, as `Task.report` returns them, go: JSON lines, and TensorBoard event files without TensorFlow."""

import concurrent.futures
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from neuralmon.errors import RunError

Status = Literal["finished", "failed", "killed"]


SPEED = "speed"  # stands for a split where a number is no metric but says how fast the steps were


class Writer(Protocol):
    """Where metrics go. `neuralmon.training.trackers` has those of other programs."""

    def write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Records what `Task.report` said of a split after `step` updates."""
        ...

    def result(self, step: int, result: Mapping[str, Any]) -> None:
        """Records the outcome of a finished run, as in `result.json`."""
        ...

    def close(self, status: Status = "finished") -> None:
        """Ends the record; `status` says how the run ended."""
        ...


class JsonLines:
    """Appends `{"step": 430, "split": "validation", "loss": 0.05}` lines; NaN and infinity are null.

    Every line goes to the operating system at once, so a kill loses at most part of the last line.

    Args:
      path: the file, by convention `metrics.jsonl` in the run's folder.
      resume_step: where the run continues; later lines are dropped, for they come again. None starts an empty file.
    """

    def __init__(self, path: Path, resume_step: int | None = None) -> None:
        self._path = path
        with _run_errors(path):
            if resume_step is not None and path.exists():
                _keep_until(path, resume_step)
            self._file = path.open("wb" if resume_step is None else "ab")

    def write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Appends one line; none of SPEED, so that a run killed and resumed leaves the same file as another."""
        if split == SPEED:
            return
        record = json.loads(json.dumps({"step": step, "split": split, **metrics}), parse_constant=lambda constant: None)
        with _run_errors(self._path):
            self._file.write(json.dumps(record).encode() + b"\n")
            self._file.flush()

    def result(self, step: int, result: Mapping[str, Any]) -> None:
        """Does nothing: it is in `result.json`."""

    def close(self, status: Status = "finished") -> None:
        """Closes the file."""
        self._file.close()


class TensorBoard:
    """Writes numbers as scalars: `train/loss`, and `validation/per_class/3/f1` of tables.

    A thread imports tensorboardX and waits for the disk; its errors come with a later `write` or with `close`.
    tensorboardX's own `SummaryWriter` is not used: on a full disk the run would wait for it forever.

    Args:
      directory: where the event file goes; each launch adds one.
      resume_step: as in `JsonLines`; TensorBoard hides what earlier launches wrote after it.
    """

    def __init__(self, directory: Path, resume_step: int | None = None) -> None:
        self._directory = directory
        self._purge_step = 0 if resume_step is None else resume_step + 1
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "TensorBoard")
        self._pending: list[concurrent.futures.Future[None]] = []
        self._file: Any = None

    def write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Hands the scalars in `metrics` to the thread, which stores them within moments."""
        # result() is None, or raises what went wrong.
        self._pending = [future for future in self._pending if not future.done() or future.result()]
        self._pending.append(self._thread.submit(self._store, time.time(), step, scalars(split, metrics)))

    def result(self, step: int, result: Mapping[str, Any]) -> None:
        """Stores the metrics of the final state: `test/accuracy`."""
        for split, metrics in result.get("metrics", {}).items():
            if split != "validation":  # the last evaluation was of the same state
                self.write(step, split, metrics)

    def close(self, status: Status = "finished") -> None:
        """Waits until everything is on disk."""
        self._thread.shutdown()
        for future in self._pending:
            future.result()
        if self._file is not None:
            self._file.close()

    def _store(self, wall_time: float, step: int, numbers: dict[str, float]) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # type: ignore[import-untyped]
        from tensorboardX.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

        with _run_errors(self._directory):
            if self._file is None:
                self._directory.mkdir(parents=True, exist_ok=True)
                # tensorboardX names files by the second: two launches within one would overwrite.
                self._file = EventsWriter(str(self._directory / "events"), f".{time.time_ns()}")
                start = {"status": SessionLog.START}
                self._file.write_event(Event(wall_time=wall_time, step=self._purge_step, session_log=start))
            values = [{"tag": tag, "simple_value": value} for tag, value in numbers.items()]
            self._file.write_event(Event(wall_time=wall_time, step=step, summary={"value": values}))
            self._file.flush()


class Writers:
    """Sends metrics to each of `writers`; a context manager that closes them all, those after one that fails too."""

    def __init__(self, *writers: Writer) -> None:
        self._writers = writers

    def write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Records `metrics` with every writer."""
        for writer in self._writers:
            writer.write(step, split, metrics)

    def result(self, step: int, result: Mapping[str, Any]) -> None:
        """Records the outcome with every writer."""
        for writer in self._writers:
            writer.result(step, result)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        killed = kind is not None and not issubclass(kind, Exception)  # Ctrl-C, SIGTERM
        status: Status = "finished" if kind is None else "killed" if killed else "failed"
        # Whatever ended the run is the news; an error in closing must not take its place.
        with contextlib.suppress(*([] if kind is None else [Exception])), contextlib.ExitStack() as stack:
            for writer in reversed(self._writers):
                stack.callback(writer.close, status)


@contextlib.contextmanager
def _run_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"metrics cannot be written to {path}: {error.strerror or error}") from error


def _keep_until(path: Path, last_step: int) -> None:
    """Drops, in one rename, the lines of `path` after `last_step` and a partial last line."""
    lines, kept = path.read_bytes().splitlines(), []
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["step"] <= last_step:
                kept.append(line + b"\n")
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):  # no kill does this: somebody's edit, theirs to mend
                raise RunError(f"{path}, line {number}, is not a line of metrics") from error
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_bytes(b"".join(kept))
    temporary.replace(path)


def scalars(tag: str, value: Any) -> dict[str, float]:
    """Returns every number by its tag; tables beyond 100 entries would be as many charts, lists are none."""
    if isinstance(value, Mapping) and len(value) <= 100:
        return {leaf: x for name, entry in value.items() for leaf, x in scalars(f"{tag}/{name}", entry).items()}
    return {tag: float(value)} if isinstance(value, int | float) else {}
