"""From the command to the end of the first training step, whole processes in turns."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.measures.processes import ROOT, installed, seconds_until
from benchmarks.rows import OURS, Row


def launched(*flags: str) -> dict[str, float]:
    """Returns the seconds that a run of the command has counted: since it was launched, and by what they went into."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "launch.py", *flags, f"--workdir={folder}/run", "--quiet"]
        subprocess.run([*command, "--training.evaluate_every=1000000000"], check=True, cwd=ROOT)
        return dict(json.loads((Path(folder) / "run" / "result.json").read_text())["seconds"])


def until_first_step() -> float:
    """Returns the seconds from the command to the end of its first step, with every cache warm."""
    seconds = launched("--experiment=mlp_mnist", "--training.steps=1")
    return seconds["startup"] + seconds["training"]


def measure(quick: bool) -> list[Row]:
    """Returns one row; the first round warms caches and files and is not counted."""
    contenders: dict[str, Callable[[], float]] = {OURS: until_first_step}
    if installed("torch"):
        contenders["PyTorch eager"] = lambda: seconds_until("torch_first_step.py")
    if installed("flax"):
        contenders["Flax loop"] = lambda: seconds_until("flax_first_step.py")
    rounds = [{name: run() for name, run in contenders.items()} for _ in range(3 if quick else 8)]
    return [Row("command to the end of the first step, MLP on MNIST", "s", rounds[1:], more_is_better=False)]
