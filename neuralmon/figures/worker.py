"""`Drawing`: asks a process of its own for figures."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

_MAIN = Path(__file__).with_name("draw_main.py")
_LARGEST_REQUEST = 64_000_000  # bytes


class Drawing:
    """Draws figures into a folder, in one process of low priority that starts with the first figure.

    Nothing that goes wrong with a figure harms the caller: `draw` and `finish` raise nothing, `finish` tells. The
    process ends by itself when this object is closed or its owner dies; figures asked for by then are still drawn.

    Args:
      folder: where `<name>.png` goes; it is made when the first figure is written.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._requests: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._asked: list[str] = []
        self._failures: dict[str, str] = {}

    def draw(self, name: str, figure: str | None = None, **data: Any) -> None:
        """Asks for a figure and returns at once; asked for again by the same name, it is drawn over.

        Args:
          name: of the file, without `.png`.
          figure: which one (see `FIGURES`); None: that of the file's name.
          **data: the arguments of the drawing function: arrays, numbers, texts, lists and dicts of them; a few MB at
            most. A `Path` of a file of JSON lines stands for the list of its rows.
        """
        try:
            self._failures.pop(name, None)
            self._asked.append(name)
            process = self._started()
            request = self._requests / f"{len(self._asked)}.npz"  # type: ignore[operator]
            _write_request(request, data)
            # It fits into the pipe, so this never waits for the other process.
            asked = {"name": name, "figure": figure or name, "request": str(request)}
            line = json.dumps(asked).encode() + b"\n"
            process.stdin.write(line)  # type: ignore[union-attr]
        except BrokenPipeError:
            pass  # It ended early: finish() says so.
        except Exception as error:
            self._failures[name] = _one_line(error)

    def finish(self, timeout: float = 60.0) -> list[str]:
        """Waits until all figures are drawn, at most `timeout` seconds; returns a line for each kind of failure."""
        if self._process is not None:
            self._collect(self._process, timeout)
            self._process = None
        reasons: dict[str, list[str]] = {}
        for name, reason in self._failures.items():
            reasons.setdefault(reason, []).append(name)
        self._asked, self._failures = [], {}
        return [f"figures not drawn ({', '.join(names)}): {reason}" for reason, names in reasons.items()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            process.stdin.write(b"\n")  # type: ignore[union-attr]
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]
        if process.poll() is not None:  # else it removes them itself
            shutil.rmtree(self._requests or "", ignore_errors=True)

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._requests = Path(tempfile.mkdtemp(prefix="neuralmon-figures-"))
            command = [sys.executable, "-P", str(_MAIN), str(self._folder), str(self._requests)]
            # One thread, and no window: the user's MPLBACKEND may name one.
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
            pipe = subprocess.PIPE
            try:
                # In a session of its own, Ctrl-C at the terminal does not reach it.
                self._process = subprocess.Popen(
                    command,
                    bufsize=0,  # what could not be sent to a dead process is forgotten
                    stdin=pipe,
                    stdout=pipe,
                    stderr=subprocess.DEVNULL,
                    env=environment,
                    start_new_session=True,
                )
            except OSError:
                shutil.rmtree(self._requests, ignore_errors=True)
                raise
        return self._process

    def _collect(self, process: subprocess.Popen[bytes], timeout: float) -> None:
        ending = ""
        try:
            # An empty line: a forked process may hold the pipe open, so that closing it is not enough.
            output, _ = process.communicate(b"\n", timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            ending = f"not ready after {timeout:g} s"
        outcomes: dict[str, str | None] = {}
        for line in output.splitlines():
            with contextlib.suppress(ValueError):  # a line that was cut off
                answer = json.loads(line)
                outcomes[answer["name"]] = answer["error"]
        ending = ending or f"the process that draws ended early (exit code {process.returncode})"
        for name in dict.fromkeys(self._asked):
            if (reason := outcomes.get(name, ending)) is not None:
                self._failures.setdefault(name, reason)
        if self._requests is not None:
            shutil.rmtree(self._requests, ignore_errors=True)


def _write_request(path: Path, data: Mapping[str, Any]) -> None:
    """Stores arrays as such and all else as JSON, under the name ""."""
    arrays = {name: _plain(value) for name, value in data.items() if hasattr(value, "__array__")}
    size = sum(array.nbytes for array in arrays.values())
    if size > _LARGEST_REQUEST:
        raise ValueError(f"{size:,} bytes of data are too many for a figure (at most {_LARGEST_REQUEST:,})")
    rest: dict[str, Any] = {}
    for name, value in data.items():
        if name not in arrays:
            rest[name] = {"rows of": str(value.absolute())} if isinstance(value, Path) else value
    text = json.dumps(rest, default=lambda value: np.asarray(value).tolist())
    np.savez(path, **{"": np.array(text), **arrays})  # type: ignore[arg-type]


def _plain(value: Any) -> np.ndarray:
    """Returns an array of NumPy's own types, no wider than float32 (others, such as bfloat16, need more than NumPy)."""
    array = np.asarray(value)
    return array if array.dtype.kind in "biuU" else array.astype(np.float32)


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
