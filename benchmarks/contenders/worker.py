"""The process of one contender: it reads requests, a line of JSON each, and answers with a line each.

  python -m benchmarks.contenders.worker CONTENDER WORK FOLDER

Requests: {"losses": count}, {"calibrate": seconds, "guess": steps, "tries": whether it may try several ways},
{"run": steps}, and, of neuralmon alone, {"clock": steps}.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

CONTENDERS = {
    "neuralmon": "neuralmon_run",
    "bare scan": "bare_scan",
    "PyTorch eager": "torch_loop",
    "torch.compile": "torch_loop",
    "Flax loop": "flax_loop",
}
_OURS = ("neuralmon", "bare scan")  # whose process is set up like that of neuralmon's command


class Contender(Protocol):
    """Somebody who trains.

    Attributes:
      details: settings and choices that are to be recorded.
    """

    details: dict[str, Any]

    def losses(self, count: int) -> list[float]:
        """Returns the losses of the first steps, from the initial weights."""
        ...

    def choose(self, seconds: float) -> None:
        """Chooses between ways to do the same, if there are any, by trying each for so long; 0: the usual way."""
        ...

    def run(self, steps: int) -> float:
        """Trains for so many steps and returns the seconds they took. A number of steps may be slow at first."""
        ...


def calibrate(contender: Contender, seconds: float, guess: int, tries: bool) -> int:
    """Returns how many steps take so many seconds; behind it, that many are warm."""
    contender.choose(seconds / 6 if tries else 0.0)
    steps = max(guess // 8, 1)
    contender.run(steps)
    steps = max(round(steps * seconds / contender.run(steps)), 1)
    contender.run(steps)
    return steps


def main() -> None:
    name, work, folder = sys.argv[1:]
    # Only answers go to where the other side listens, whatever libraries print.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if name in _OURS:
        from neuralmon import process

        process.configure()  # before jax is imported
    contender: Contender = importlib.import_module(f"benchmarks.contenders.{CONTENDERS[name]}").make(
        name, work, Path(folder)
    )
    for line in sys.stdin:
        request, begun = json.loads(line), time.perf_counter()
        answer: dict[str, Any] = {}
        if "losses" in request:
            answer["losses"] = contender.losses(request["losses"])
        elif "calibrate" in request:
            answer["steps"] = calibrate(contender, request["calibrate"], request["guess"], request["tries"])
        elif "clock" in request:
            answer["clock"] = contender.clock(request["clock"])  # type: ignore[attr-defined]
        else:
            answer["seconds"] = contender.run(request["run"])
        answer |= {"took": time.perf_counter() - begun, "details": contender.details}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
