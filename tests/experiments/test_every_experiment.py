"""Every shipped experiment trains, is evaluated and leaves a result: a few steps, with what is large made small."""

import contextlib
import io
import json
from pathlib import Path

import pytest

from neuralmon.cli import main
from neuralmon.shipped import shipped

_FEW = ("--training.steps=4", "--training.batch_size=16", "--training.evaluate_every=4", "--training.steps_per_chunk=2")
_TEXT = ("--dataset.context_length=16", "--dataset.split.validation=0.001", "--dataset.split.test=0.001")
# What is made small, beside the number of steps.
_SMALLER: dict[str, tuple[str, ...]] = {
    "cnn_mnist": ("--model.features=4,4", "--model.hidden=8"),
    "gpt_shakespeare": (*_TEXT, "--model.num_layers=1", "--model.num_heads=1", "--model.width=8"),
    "lstm_shakespeare": (*_TEXT, "--model.hidden=8"),
    "mlp_iris": (),
    "mlp_mnist": ("--model.hidden=8",),
    "mlp_moons": (),
    "mlp_sunspots": (),
    "perceptron_iris": ("--training.batch_size=1",),
    "perceptron_moons": ("--training.batch_size=1",),
    "rnn_shakespeare": (*_TEXT, "--model.hidden=8"),
    "skipgram_shakespeare": ("--model.embedding_dim=4", "--training.batch_size=1024"),
    "softmax_mnist": (),
}


def test_every_experiment_is_here() -> None:
    assert _SMALLER.keys() == shipped().keys()


@pytest.mark.parametrize("name", _SMALLER)
def test_it_runs(name: str, tmp_path: Path) -> None:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(["neuralmon", f"--experiment={name}", *_FEW, *_SMALLER[name], f"--workdir={tmp_path / 'run'}"])
    assert code == 0, said.getvalue()
    outcome = json.loads((tmp_path / "run" / "result.json").read_text())
    assert outcome["step"] == 4
    assert all(metrics["loss"] > 0 for metrics in outcome["metrics"].values())


@pytest.mark.parametrize("name", _SMALLER)
def test_its_file_says_what_it_is(name: str, root: Path) -> None:
    lines = (root / "experiments" / f"{name}.py").read_text().splitlines()
    assert len(lines) < 60
    assert f"--experiment={name}" in "\n".join(lines)
