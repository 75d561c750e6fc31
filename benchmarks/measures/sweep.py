"""Sweeps from the command to the finished table, beside one launch of PyTorch after the other."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measures.processes import ROOT, installed, timed
from benchmarks.rows import OURS, Row

_EPOCH, _EXAMPLES = 430, 55_000  # steps, the last of which has what is left, and images


def measure(quick: bool) -> list[Row]:
    """Returns rows of 64 trainings of `mlp_mnist` and of 16 of `cnn_mnist`, an epoch each; `quick`: of 8 MLPs."""
    if quick:
        return _rows("mlp", ("4", "0..1"), rounds=1)
    return [*_rows("mlp", ("8", "0..7"), rounds=3), *_rows("cnn", ("4", "0..3"), rounds=1)]


def _rows(network: str, sizes: tuple[str, str], rounds: int) -> list[Row]:
    """Returns the rows of one network: its learning rates times its seeds."""
    rates, seeds = sizes
    space = f"--sweep.optimizer.learning_rate.peak=3e-4:1e-2:log:{rates}", f"--sweep.training.seed={seeds}"
    flags = (f"--experiment={network}_mnist", "--training.epochs=1", *space)
    trials = _launched(*flags, "--training.steps=2")[2]  # what was compiled is kept
    whole, rate = [], []
    for _ in range(rounds):
        seconds, training, trials = _launched(*flags)
        whole.append({OURS: seconds})
        rate.append({OURS: trials * _EXAMPLES / training})
        if installed("torch"):
            # Launches are alike, so a few of them say how long all would take.
            launches = [timed("torch_epoch.py", str(_EPOCH), network, "evaluate") for _ in range(3)]
            whole[-1]["PyTorch eager"] = trials * statistics.median(one[0] for one in launches)
            rate[-1]["PyTorch eager"] = _EXAMPLES / statistics.median(one[1] for one in launches)
    what = f"{trials} x {network}_mnist, an epoch each"
    note = f"PyTorch: {trials} times the median of 3 launches"
    return [
        Row(f"{what}: command to the table", "s", whole, more_is_better=False, note=note),
        Row(f"{what}: training, steady", "examples/s", rate, note="neuralmon's evaluations are part of its training"),
    ]


def _launched(*flags: str) -> tuple[float, float, int]:
    """Returns the seconds of a sweep from the command to its end, those of them in training, and how many trials."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "launch.py", *flags, f"--workdir={folder}/sweep", "--quiet"]
        begun = time.monotonic()
        subprocess.run(command, check=True, cwd=ROOT)
        seconds = time.monotonic() - begun
        result = json.loads((Path(folder) / "sweep" / "result.json").read_text())
        return seconds, result["seconds"]["training"], sum(result["trials"].values())
