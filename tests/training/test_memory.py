"""A data set larger than the memory that there is, is trained on within that memory."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

IMAGES = 600_000  # of 64 x 64 bytes: 2.5 GB
LIMIT = 2_000_000_000  # bytes of private memory; jax and what it loads take about half of it
SCRIPT = """
import json, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
from neuralmon.cli import main

code = main(["launch.py", *sys.argv[1:]])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
held = [int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData")]
print(json.dumps({{"peak": peak, "private": held[0]}}))
sys.exit(code)
"""
EXPERIMENT = """
import neuralmon as nm


def experiment():
    return nm.Experiment(
        dataset=nm.data.Arrays(inputs="images.npy", targets="labels.npy", standardize=False),
        model=nm.models.MLP(hidden=(32,)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(),
        training=nm.Training(batch_size=256, steps=100),
    )
"""


@pytest.mark.slow
def test_data_larger_than_the_memory_is_streamed_within_it(root, tmp_path):
    images = np.lib.format.open_memmap(tmp_path / "images.npy", mode="w+", dtype=np.uint8, shape=(IMAGES, 64, 64, 1))
    images[:, 0, 0, 0] = np.arange(IMAGES) % 10  # the rest is holes of the file, and zero
    images.flush()
    np.save(tmp_path / "labels.npy", (np.arange(IMAGES) % 10).astype(np.int32))
    (tmp_path / "own.py").write_text(EXPERIMENT)
    (tmp_path / "limited.py").write_text(SCRIPT.format(limit=LIMIT))

    def launch(pipeline):
        command = [sys.executable, "limited.py", "--experiment=./own.py", f"--workdir={pipeline}", "--figures=false",
                   "--quiet", f"--dataset.pipeline={pipeline}", "--data_workers=0"]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    streamed = launch("stream")
    assert streamed.returncode == 0, streamed.stderr
    memory = json.loads(streamed.stdout.splitlines()[-1])
    assert memory["private"] < LIMIT < IMAGES * 64 * 64
    assert launch("device").returncode != 0, "the limit must be worth something"
    print(f"{memory['private'] / 1e6:.0f} MB of private memory for {IMAGES * 64 * 64 / 1e6:.0f} MB of data")
