"""The processes of the contenders, seen from outside."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from neuralmon.errors import RunError


class Worker:
    """A process that does what it is asked, one request after the other.

    `ask` sends, `answer` waits; in between others can be asked, too.
    """

    def __init__(self, contender: str, work: str, folder: Path) -> None:
        self.contender = contender
        self._said = (folder / f"{contender}.log").open("w+")
        command = [sys.executable, "-m", "benchmarks.contenders.worker", contender, work, str(folder)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=environment(),
            cwd=Path(__file__).parents[1],
            start_new_session=True,  # Ctrl-C is for the one who asked for all of this, and ends the others
        )

    def ask(self, **request: Any) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._died()

    def answer(self) -> dict[str, Any]:
        """Returns what it answers.

        Raises:
          RunError: it ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._died()
        return json.loads(line)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def _died(self) -> None:
        self._process.wait()
        self._said.seek(0)
        last = [line for line in self._said.read().splitlines() if line.strip()][-1:]
        raise RunError(f"{self.contender} ended with exit code {self._process.returncode}: {' '.join(last)}")


def environment() -> dict[str, str]:
    """Returns the environment of the processes: this one's, with a place for what torch.compile keeps."""
    inductor = Path(tempfile.gettempdir()) / f"neuralmon-benchmarks-{os.getuid() if hasattr(os, 'getuid') else 0}"
    return {"TORCHINDUCTOR_CACHE_DIR": str(inductor), **os.environ}
