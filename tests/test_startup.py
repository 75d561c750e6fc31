"""How soon training starts. Wall time of an idle machine, so not part of the default run."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_a_warm_second_launch_trains_within_1_3_seconds(root, tmp_path):
    seconds = []
    for index in range(4):
        workdir = tmp_path / str(index)
        command = [sys.executable, "launch.py", "--experiment=cnn_mnist", "--training.steps=2", f"--workdir={workdir}"]
        subprocess.run([*command, "--quiet"], cwd=root, check=True)
        # From the start of the process to the first step.
        seconds.append(json.loads((workdir / "result.json").read_text())["seconds"]["startup"])
    assert min(seconds[1:]) < 1.3, seconds
