"""Training: all contenders on one work."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.contenders.worker import CONTENDERS
from benchmarks.rounds import Settings, measured
from benchmarks.rows import OURS, Row
from benchmarks.workers import Worker, environment
from benchmarks.works import WORKS
from neuralmon.errors import RunError

Say = Callable[[str], None]

# How far losses may be apart, relatively. Rounding errors grow with every step; another network, other data or another
# optimizer is off by far more.
LOSS_TOLERANCE = 2e-2


def measure(name: str, settings: Settings, folder: Path, say: Say) -> Row:
    """Returns what everybody reaches on a work.

    Raises:
      RunError: a process ended, or does not train the same.
    """
    work = WORKS[name]
    batch_size = work.experiment().training.batch_size
    _prepare(name, folder)
    with contextlib.ExitStack() as stack:
        workers = {contender: Worker(contender, name, folder) for contender in CONTENDERS}
        for worker in workers.values():
            stack.callback(worker.close)
        # All at once: nothing of this is timed.
        say("imports, compiles, compares losses")
        for worker in workers.values():
            worker.ask(losses=settings.losses)
        losses = {contender: worker.answer()["losses"] for contender, worker in workers.items()}
        differences = check(losses)
        steps, details = {}, {}
        for contender, worker in workers.items():
            say(f"warms up {contender}")
            worker.ask(calibrate=settings.seconds, guess=work.steps, tries=settings.tries)
            answer = worker.answer()
            steps[contender], details[contender] = answer["steps"], answer["details"]

        def turn(contender: str) -> Callable[[], float]:
            def run() -> float:
                workers[contender].ask(run=steps[contender])
                return steps[contender] * batch_size / workers[contender].answer()["seconds"]

            return run

        say(f"{settings.rounds} rounds")
        rounds, disturbed = measured(settings.rounds, {one: turn(one) for one in workers}, machine.speed)
        workers[OURS].ask(clock=steps[OURS])
        clock = workers[OURS].answer()["clock"]
    speeds = [one.machine for one in [*rounds, *disturbed]]
    details |= {
        "losses": losses,
        "loss_differences": differences,
        "steps": steps,
        "flops_per_example": details[OURS]["step_flops"] / batch_size,
        "peak_flops": details[OURS]["peak_flops"],
        "machine_flops": speeds,
        "counted_seconds_to_wall_clock": clock,
        "disturbed_rounds": [dict(one.numbers) for one in disturbed],
    }
    return Row(work.title, "examples/s", [one.numbers for one in rounds], details=details)


def check(losses: Mapping[str, list[float]]) -> dict[str, float]:
    """Returns how far each contender's losses are from ours, relatively, at most.

    Raises:
      RunError: they are not the same training.
    """
    ours = np.array(losses[OURS])
    differences = {
        contender: float(np.max(np.abs(np.array(theirs) / ours - 1)))  # NaN, too, is one
        for contender, theirs in losses.items()
        if contender != OURS
    }
    for contender, difference in differences.items():
        if not difference <= LOSS_TOLERANCE:
            raise RunError(
                f"{contender} does not train the same: its losses differ by {difference:.1%}, "
                f"{_listed(losses[contender])} against {_listed(losses[OURS])}"
            )
    return differences


def _listed(losses: list[float]) -> str:
    return " ".join(f"{loss:.4f}" for loss in losses[:5])


def _prepare(name: str, folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.job", name, str(folder)]
    done: Any = subprocess.run(
        command, env=environment(), cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise RunError(f"{name} could not be prepared: {' '.join(last)}")
