"""Killed at any moment and launched again, a run ends in bitwise the parameters of one that was never killed."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest


def arguments(epochs, checkpoint_every):
    return [f"--training.epochs={epochs}", f"--training.checkpoint_every={checkpoint_every}", "--quiet"]


@pytest.fixture(scope="module")
def launch(root):
    def start(workdir, *arguments, program=("launch.py",)):
        command = [sys.executable, *program, "--experiment=tests/tiny.py", f"--workdir={workdir}", "--figures=false"]
        # As a user's launches do, they keep every program that they compiled.
        environment = {**os.environ, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*command, *arguments], cwd=root, env=environment, **pipes)

    return start


@pytest.fixture(scope="module")
def uninterrupted(launch, tmp_path_factory):
    @functools.cache
    def run(epochs, checkpoint_every):
        workdir = tmp_path_factory.mktemp("uninterrupted") / "run"
        process = launch(workdir, *arguments(epochs, checkpoint_every))
        _, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, b"")
        return workdir

    return run


def newest(folder):
    """Returns what changes whenever a checkpoint is begun or completed."""
    try:
        return sorted(entry.name for entry in os.scandir(folder))
    except FileNotFoundError:
        return []


def begun(folder, seen):
    """Returns whether a checkpoint is being written that was not before."""
    return any("tmp" in name for name in newest(folder) if name not in seen)


@pytest.mark.parametrize(("kills", "epochs"), [(4, 6), pytest.param(20, 16, marks=pytest.mark.slow)])
def test_killed_at_random_moments(launch, uninterrupted, tmp_path, kills, epochs):
    # It saves so often that most of the time a checkpoint is being written.
    workdir, flags = tmp_path / "run", arguments(epochs, checkpoint_every=8)
    rng = random.Random(0)
    steps, while_saving = [], 0
    for kill in range(kills):
        process = launch(workdir, *flags)
        if kill % 5 == 4:
            # While starting: importing, reading the folder, compiling.
            time.sleep(rng.uniform(0.1, 1.5))
        else:
            seen = newest(workdir / "checkpoints")
            while not begun(workdir / "checkpoints", seen) and process.poll() is None:
                time.sleep(0.002)
            # Every third kill comes while that checkpoint is being written.
            time.sleep(0.0 if kill % 3 == 0 else rng.uniform(0.0, 0.15))
        assert process.poll() is None, "the run ended before it could be killed: make it longer"
        process.kill()
        process.communicate()
        names = newest(workdir / "checkpoints")
        while_saving += any("tmp" in name for name in names)
        steps.append(max((int(name) for name in names if name.isdecimal()), default=0))
    process = launch(workdir, *flags)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    never_killed = uninterrupted(epochs, checkpoint_every=8)
    expected, result = (json.loads((folder / "result.json").read_text()) for folder in (never_killed, workdir))
    assert result["fingerprint"] == expected["fingerprint"]
    assert result["metrics"] == expected["metrics"]
    assert (workdir / "metrics.jsonl").read_text() == (never_killed / "metrics.jsonl").read_text()
    assert len(json.loads((workdir / "launches.json").read_text())) >= kills // 2
    # The kills must have been worth something: spread over the run, and some in the middle of a save.
    assert len(set(steps)) >= max(2, kills // 3)
    assert while_saving >= max(1, kills // 6)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_saves_and_exits(launch, uninterrupted, tmp_path, number, code):
    workdir = tmp_path / "run"
    # No checkpoint is due before the end: what is there was saved because of the signal.
    flags = [*arguments(epochs=6, checkpoint_every=1000), "--training.steps_per_chunk=2"]
    process = launch(workdir, *flags)
    while not (workdir / "metrics.jsonl").exists() or not (workdir / "metrics.jsonl").read_text():
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors.decode()
    assert f"launch again with --workdir={workdir}" in errors.decode()
    saved = [int(name) for name in newest(workdir / "checkpoints") if name.isdecimal()]
    assert len(saved) == 1
    assert 0 < saved[0] < 114
    process = launch(workdir, *flags)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    never_stopped = uninterrupted(6, checkpoint_every=8)
    fingerprints = [
        json.loads((folder / "result.json").read_text())["fingerprint"] for folder in (workdir, never_stopped)
    ]
    assert fingerprints[0] == fingerprints[1]


SAYS_WHEN_IT_TRAINS = """
import runpy
from neuralmon.training.loop import Loop

def run(*arguments, run=Loop.run):
    print("compiled", flush=True)
    return run(*arguments)

Loop.run = run
runpy.run_path("launch.py", run_name="__main__")
"""


def test_a_second_ctrl_c_exits_at_once(launch, tmp_path):
    # One long chunk, for whose end the first Ctrl-C waits.
    flags = "--training.epochs=500000", "--training.steps_per_chunk=9500000", "--training.evaluate_every=9500000"
    process = launch(tmp_path / "run", *flags, "--quiet", program=("-c", SAYS_WHEN_IT_TRAINS))
    assert process.stdout.readline() == b"compiled\n"
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first Ctrl-C waits for the chunk"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=2.0)
    assert process.returncode == -signal.SIGINT


OWN = """
import flax.linen as nn

import neuralmon as nm


class Own(nn.Module):
    width: int = 64
    num_classes: int | None = None

    @nn.compact
    def __call__(self, inputs, train=False):
        x = nn.relu(nn.Dense(self.width)(inputs.reshape(inputs.shape[0], -1)))
        x = nm.layers.Dropout(0.2)(x, train)
        return nn.Dense(self.num_classes)(x)


def experiment():
    return nm.Experiment(
        dataset=nm.data.Mnist(augment=(nm.data.Shift(1),)),
        model=Own(),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(),
        training=nm.Training(steps=400, steps_per_chunk=5, checkpoint_every=10, evaluate_every=200),
    )
"""


@pytest.mark.slow
def test_an_own_model_outside_the_repository_is_overridden_killed_and_resumed(launch, root, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    fingerprints = []
    for kills in (0, 1):
        workdir = tmp_path / f"run{kills}"
        flags = [f"--experiment={tmp_path / 'own.py'}", "--model.width=16", "--optimizer=SGD(momentum=0.9)", "--quiet"]
        for _ in range(kills):
            process = launch(workdir, *flags)
            seen = newest(workdir / "checkpoints")
            while newest(workdir / "checkpoints") == seen and process.poll() is None:
                time.sleep(0.002)
            assert process.poll() is None
            process.kill()
            process.communicate()
        _, errors = (process := launch(workdir, *flags)).communicate(timeout=300)
        assert process.returncode == 0, errors.decode()
        fingerprints.append(json.loads((workdir / "result.json").read_text())["fingerprint"])
    assert fingerprints[0] == fingerprints[1]
