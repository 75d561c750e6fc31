"""Whoever trains a sweep's trials, and whoever is killed meanwhile, the table is the same."""

import dataclasses
import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import flax.linen as nn
import pytest

import neuralmon as nm
from neuralmon.sweeps.executors import make_executor
from neuralmon.sweeps.executors.remote import Job
from neuralmon.sweeps.progress import SweepProgress
from neuralmon.sweeps.search.listed import Listed
from neuralmon.sweeps.trials import Trials

SPACE = {"optimizer.learning_rate.peak": [1e-3, 1e-2, 1e-1], "training.seed": range(2)}


@pytest.fixture(scope="module")
def experiment(tiny):
    training = dataclasses.replace(tiny.training, epochs=2, steps_per_chunk=2)
    dataset = dataclasses.replace(tiny.dataset, train_size=160)
    return dataclasses.replace(tiny, dataset=dataset, model=nm.models.MLP(hidden=(4,), dropout=0.1), training=training)


def table(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def expected(experiment):
    return table(nm.sweep(experiment, SPACE, slots=2, progress=SweepProgress()).rows)


def workers_of(parent):
    """Returns the worker processes that a process has started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat, command = (folder / "stat").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        if b"neuralmon.sweeps.executors.worker" in command and int(fields[1]) == parent and fields[0] != "Z":
            found.append(int(folder.name))
    return found


class Disturbed(SweepProgress):
    """Does something when trials have come somewhere for the first time, and keeps what is said."""

    def __init__(self, disturb):
        self.said, self.disturb = [], disturb
        super().__init__()

    def advanced(self, steps, objectives):
        super().advanced(steps, objectives)
        if self.disturb is not None:
            disturb, self.disturb = self.disturb, None
            disturb()

    def notice(self, text):
        self.said.append(text)


@pytest.mark.skipif(sys.platform != "linux", reason="finds worker processes by /proc")
def test_what_a_killed_worker_had_is_done_by_another(experiment, expected, tmp_path):
    progress = Disturbed(lambda: os.kill(workers_of(os.getpid())[0], signal.SIGKILL))
    options = {"executor": "process", "workers": 2, "slots": 4, "progress": progress}
    result = nm.sweep(experiment, SPACE, tmp_path / "sweep", **options)
    assert table(result.rows) == expected
    assert [text for text in progress.said if text.startswith("a worker ended (signal SIGKILL)")]
    assert not workers_of(os.getpid())
    assert result.compilations <= 2  # by the one that lived and, if anything was left, by the one that came after
    lines = [json.loads(line) for line in (tmp_path / "sweep" / "trials.jsonl").read_text().splitlines()]
    assert table(sorted(lines, key=lambda row: row["trial"])) == expected


# What is started is killed at random moments: while it starts, and after one more trial has ended.
@pytest.mark.skipif(sys.platform != "linux", reason="finds worker processes by /proc")
@pytest.mark.parametrize(
    ("executor", "kills"),
    [("process", 1), *(pytest.param(name, 10, marks=pytest.mark.slow) for name in ("process", "ray"))],
)
def test_killed_and_launched_again(experiment, expected, root, tmp_path, executor, kills):
    if executor == "ray":
        pytest.importorskip("ray")
    record = tmp_path / "sweep" / "trials.jsonl"
    fields = ["--dataset.train_size=160", "--model=MLP(hidden=(4,),dropout=0.1)"]
    fields += ["--training.epochs=2", "--training.steps_per_chunk=2", "--sweep.training.seed=0..1"]
    command = [sys.executable, "launch.py", "--experiment=tests/tiny.py", *fields, "--quiet", "--sweep_slots=2"]
    command += ["--sweep.optimizer.learning_rate.peak=1e-3,1e-2,1e-1", f"--workdir={tmp_path / 'sweep'}"]
    command += [f"--executor={executor}", f"--sweep_workers={min(kills, 2)}", "--nofigures"]
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    chance, ended = random.Random(kills), []

    def rows():
        return [json.loads(line) for line in record.read_text().splitlines(True) if line.endswith("\n")]

    for kill in range(kills):
        process = subprocess.Popen(command, cwd=root, env=environment, stderr=subprocess.PIPE, process_group=0)
        before, begun = len(rows()) if record.exists() else 0, time.monotonic()
        patience = chance.uniform(0.2, 8.0) if kill % 2 else float("inf")
        while process.poll() is None and time.monotonic() - begun < patience:
            if (len(rows()) if record.exists() else 0) > before:
                time.sleep(chance.uniform(0.0, 0.2))
                break
            time.sleep(0.005)
        workers = workers_of(process.pid)
        process.kill()
        process.communicate()
        ended.append(len(rows()) if record.exists() else 0)
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < deadline, "a worker outlived the sweep"
            time.sleep(0.01)
        if (tmp_path / "sweep" / "result.json").exists():
            break
    assert ended[0] > 0
    process = subprocess.run(command, cwd=root, env=environment, capture_output=True)
    assert process.returncode == 0, process.stderr.decode()
    assert table(sorted(rows(), key=lambda row: row["trial"])) == expected


def test_an_experiment_that_no_other_process_knows(experiment):
    class Mine(nn.Module):
        @nn.compact
        def __call__(self, inputs, train=False):
            return nn.Dense(6)(inputs.reshape(len(inputs), -1))

    trials = Trials(dataclasses.replace(experiment, model=Mine()))
    trials.trial(0, {"training.seed": 1})
    with pytest.raises(nm.RequestError, match=r"executor: the experiment cannot be told to another process: .*Mine"):
        Job.of(trials, Listed([]))


@pytest.mark.slow
def test_what_a_worker_cannot_do_is_said_as_it_is_here(experiment):
    streamed = dataclasses.replace(experiment, dataset=dataclasses.replace(experiment.dataset, pipeline="stream"))
    with pytest.raises(nm.RequestError, match="dataset: a sweep needs its data in memory"):
        nm.sweep(streamed, SPACE, executor="process", workers=1, progress=SweepProgress())


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(nm.RequestError, match=r"executor=ray needs the package ray: pip install 'neuralmon\[ray\]'"):
        make_executor("ray")


@pytest.fixture
def cluster(monkeypatch):
    """A Ray cluster of three machines, as far as Ray can tell: the sweep's own and two with a worker each."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Some Rays let nobody in without a token; it is this cluster's own.
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = pytest.importorskip("ray")  # looks at these when it is imported
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    yield cluster, nodes
    ray.shutdown()
    cluster.shutdown()


@pytest.mark.slow
def test_a_machine_of_a_ray_cluster_that_is_lost(cluster, experiment, expected):
    together, nodes = cluster
    progress = Disturbed(lambda: together.remove_node(nodes[0], allow_graceful=False))
    options = {"executor": "ray", "address": together.address, "workers": 2, "slots": 4, "progress": progress}
    result = nm.sweep(experiment, SPACE, **options)
    assert table(result.rows) == expected
    assert [text for text in progress.said if text.startswith("a worker ended")]


@pytest.mark.slow
def test_no_ray_cluster_there():
    pytest.importorskip("ray")
    with pytest.raises(nm.RequestError, match=r"ray_address: no Ray cluster at 127\.0\.0\.1:1"):
        make_executor("ray", address="127.0.0.1:1")
