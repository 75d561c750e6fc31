"""Killed at any moment and launched again, a sweep ends in the table of one that was never killed."""

import json
import random
import subprocess
import sys
import time

import pytest


def command(workdir):
    words = [sys.executable, "launch.py", "--experiment=tests/tiny.py", "--model=MLP(hidden=(8,))"]
    words += ["--training.batch_size=32", "--training.steps=40", "--training.evaluate_every=20"]
    words += ["--training.steps_per_chunk=7", "--sweep.optimizer.learning_rate.peak=1e-3:1e-1:log:6"]
    return [*words, "--sweep.training.seed=0..2", "--quiet", "--nofigures", "--sweep_slots=2", f"--workdir={workdir}"]


@pytest.fixture(scope="module")
def never_killed(root, tmp_path_factory):
    """The folder of a sweep that nobody stopped."""
    workdir = tmp_path_factory.mktemp("never") / "killed"
    subprocess.run(command(workdir), cwd=root, check=True, timeout=300)
    return workdir


def table(workdir):
    """What must be the same: all but the seconds."""
    rows = [json.loads(line) for line in (workdir / "trials.jsonl").open()]
    return [{**row, "seconds": None} for row in sorted(rows, key=lambda row: row["trial"])]


@pytest.mark.parametrize("kills", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_killed_sweep_ends_in_the_same_table(never_killed, root, tmp_path, kills):
    workdir, rng, seen = tmp_path / "sweep", random.Random(kills), []

    def lines():
        file = workdir / "trials.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    for kill in range(kills):
        process = subprocess.Popen(command(workdir), cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
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
    finished = subprocess.run(command(workdir), cwd=root, capture_output=True, text=True, timeout=300)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert table(workdir) == table(never_killed)
    ends = [json.loads((folder / "result.json").read_text()) for folder in (workdir, never_killed)]
    for name in ("best", "spread", "ensemble", "trials"):
        commands = [
            json.dumps(end[name]).replace(str(folder), "")
            for end, folder in zip(ends, (workdir, never_killed), strict=True)
        ]
        assert commands[0] == commands[1]
    kept = [sorted(path.name for path in (folder / "trials").iterdir()) for folder in (workdir, never_killed)]
    assert kept[0] == kept[1]
    for name in kept[0]:
        prints = [
            json.loads((folder / "trials" / name / "result.json").read_text())["fingerprint"]
            for folder in (workdir, never_killed)
        ]
        assert prints[0] == prints[1]
