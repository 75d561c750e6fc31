"""Killed at any moment and launched again, a sweep ends in the table of one that was never killed."""

import dataclasses
import json
import random
import subprocess
import sys
import time

import pytest

import neuralmon as nm
from neuralmon.sweeps.progress import SweepProgress

SPACE = {"optimizer.learning_rate.peak": "1e-3:1e-1:log:6", "training.seed": "0..2"}
TRAINING = nm.Training(batch_size=32, steps=40, evaluate_every=20, steps_per_chunk=7)


@pytest.fixture(scope="module")
def never_killed(tiny, tmp_path_factory):
    experiment = dataclasses.replace(tiny, model=nm.models.MLP(hidden=(8,)), training=TRAINING)
    return nm.sweep(experiment, SPACE, tmp_path_factory.mktemp("never") / "killed", progress=SweepProgress())


def compared(rows):
    """What must be the same: all but the seconds. Trials are the same on one device and on two."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_sweep_ends_in_the_same_table(never_killed, root, tmp_path, kills):
    workdir, rng, seen = tmp_path / "sweep", random.Random(kills), []
    command = [sys.executable, "launch.py", "--experiment=tests/tiny.py", "--model=MLP(hidden=(8,))"]
    command += [f"--training.{name}={getattr(TRAINING, name)}"
                for name in ("batch_size", "steps", "evaluate_every", "steps_per_chunk")]  # fmt: skip
    command += [f"--sweep.{path}={values}" for path, values in SPACE.items()]
    command += ["--quiet", "--nofigures", "--sweep_slots=2", f"--workdir={workdir}"]

    def lines():
        file = workdir / "trials.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    for kill in range(kills):
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        before, wanted = lines(), lines() + rng.randint(1, 18 // kills + 1)
        if kill % 3 == 2:
            time.sleep(rng.uniform(0.5, 3.0))  # while starting
        while lines() < min(wanted, 17) and process.poll() is None and kill % 3 != 2:
            time.sleep(0.002)
        assert process.poll() is None or before >= 17, process.communicate()
        process.kill()
        process.communicate()
        seen.append(lines())
    assert 0 < seen[-1] < 18
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stderr) == (0, "")
    rows = sorted((json.loads(line) for line in (workdir / "trials.jsonl").open()), key=lambda row: row["trial"])
    assert compared(rows) == compared(never_killed.rows)
    result = json.loads((workdir / "result.json").read_text())
    assert result["best"]["metrics"] == never_killed.best.metrics
    assert (result["spread"], result["ensemble"]) == (never_killed.spread, never_killed.ensemble)
    kept = sorted(path.name for path in (workdir / "trials").iterdir())
    assert kept == sorted(path.name for path in (never_killed.workdir / "trials").iterdir())
    for name in kept:
        ends = [json.loads((folder / "trials" / name / "result.json").read_text())["fingerprint"]
                for folder in (workdir, never_killed.workdir)]  # fmt: skip
        assert ends[0] == ends[1]
