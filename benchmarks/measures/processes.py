"""Contenders as processes of their own: started for each measurement, or kept and asked again and again."""

import contextlib
import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"


def installed(package: str) -> bool:
    """Returns whether a contender's package is there; without it, its column is left out."""
    return importlib.util.find_spec(package) is not None


def seconds_until(script: str, *arguments: str) -> float:
    """Returns the time from the command to the moment that the script has printed, by the clock all processes share."""
    return timed(script, *arguments)[0]


def timed(script: str, *arguments: str) -> tuple[float, float]:
    """Returns that time, and the seconds that the script has counted itself, if it prints them before (else 0)."""
    begun = time.monotonic()
    command = [sys.executable, str(SCRIPTS / script), *arguments]
    words = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.split()
    return float(words[-1]) - begun, float(words[-2]) if len(words) > 1 else 0.0


class Worker:
    """A process that answers requests, one line of JSON each: `python -m benchmarks.measures.scripts.MODULE TOPIC`.

    Attributes:
      process: it.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        command = [sys.executable, "-m", f"benchmarks.measures.scripts.{module}", *arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)

    def ask(self, **request: Any) -> dict[str, Any]:
        """Returns the answer. Raises RuntimeError if the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended without an answer to {request}")
        return dict(json.loads(line))

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()


def requests() -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields, within a worker, each request and the function that answers it."""
    for line in sys.stdin:
        yield json.loads(line), lambda **answer: print(json.dumps(answer), flush=True)
