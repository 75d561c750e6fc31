"""The command line: what is listed, explained, overridden, and what comes of it."""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import neuralmon as nm
from neuralmon.cli import main
from neuralmon.experiment import walk
from neuralmon.shipped import shipped

# Everything an own experiment needs, away from the repository.
_OWN = '''
    """My own network on my own data."""
    import flax.linen as nn
    import neuralmon as nm
    from mine_data import Blobs

    class TwoLayers(nn.Module):
        """Two dense layers.

        Attributes:
          width: units of the first layer.
        """
        width: int = 8
        num_classes: int | None = None
        rate: nm.Number = 1.0
        @nn.compact
        def __call__(self, inputs):
            hidden = nn.relu(nn.Dense(self.width)(inputs.reshape(inputs.shape[0], -1)))
            return self.rate * nn.Dense(self.num_classes)(hidden)

    def experiment() -> nm.Experiment:
        return nm.Experiment(
            dataset=Blobs(), model=TwoLayers(), task=nm.tasks.Classification(),
            optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=1e-2)),
            training=nm.Training(batch_size=16, steps=4, evaluate_every=2),
        )
'''
_DATA = '''
    import dataclasses
    import jax
    import numpy as np
    import neuralmon as nm

    @dataclasses.dataclass(frozen=True)
    class Blobs:
        """Three clouds of points.

        Attributes:
          spread: how far they reach.
        """
        spread: float = 0.5
        flipped: bool = False
        def spec(self):
            image, label = jax.ShapeDtypeStruct((4, 4, 1), np.float32), jax.ShapeDtypeStruct((), np.int32)
            sizes = {"train": 64, "validation": 16, "test": 16}
            return nm.data.Spec({"inputs": image, "targets": label}, sizes, ("a", "b", "c"))
        def load(self):
            random = np.random.default_rng(0)
            splits = {}
            for name, size in self.spec().sizes.items():
                targets = random.integers(0, 3, size).astype(np.int32)
                noise = self.spread * random.normal(size=(size, 4, 4, 1))
                splits[name] = {"inputs": (noise + targets[:, None, None, None]).astype(np.float32), "targets": targets}
            return splits
        def prepare(self, key, batch, train):
            return batch
'''

Launch = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "mine.py").write_text(textwrap.dedent(_OWN))
    (folder / "mine_data.py").write_text(textwrap.dedent(_DATA))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            code = main(["launch.py", f"--experiment={folder}/mine.py", f"--workdir={folder}/run", "--quiet"])
        assert (code, out.getvalue()) == (0, "")
        yield folder


@pytest.fixture
def launch(capfd: pytest.CaptureFixture[str]) -> Launch:
    def run(*words: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main(["launch.py", *map(str, words)])
        return (code, *capfd.readouterr())

    return run


def fields(text: str) -> dict[str, str]:
    """The values that `--help` shows."""
    return dict(re.findall(r"^  --([\w.]+)=(.*)\n      (?=\S)", text, re.MULTILINE))


def test_list_names_every_experiment_and_what_it_is(launch: Launch) -> None:
    code, out, err = launch("--list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(shipped())
    for line, description in zip(out.splitlines(), shipped().values(), strict=True):
        assert line.endswith(description)


def test_help_explains_the_options(launch: Launch) -> None:
    for flag in ("--help", "-h"):
        code, out, err = launch(flag)
        assert (code, err) == (0, "")
        for option in (
            *("--experiment=", "--mode=train|evaluate|predict|sample|summary|results", "--workdir=", "--allow_changes"),
            *("--checkpoint=", "--split=", "--devices=", "--quiet", "--debug", "--list", "--prompt=", "--temperature="),
        ):
            assert re.search(rf"^  {re.escape(option)}.*\w", out, re.MULTILINE)
        assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("name", [*shipped(), "own"])
def test_help_of_an_experiment_shows_type_value_and_meaning_of_every_field(
    name: str, own: Path, launch: Launch
) -> None:
    source = str(own / "mine.py") if name == "own" else name
    code, out, err = launch(f"--experiment={source}", "--help")
    assert (code, err) == (0, "")
    experiment = nm.load_experiment(source)
    assert fields(out).keys() == {node.path for node in walk(experiment)}
    explanations = re.findall(r"^  --([\w.]+)=.*\n      (\S.*)$", out, re.MULTILINE)
    # Own fields may go without an explanation, neuralmon's may not.
    lacking = [path for path, text in explanations if "; " not in text]
    own_fields = {"dataset.flipped", "model.num_classes", "model.rate"}
    # An element of a stack of layers has no name of its own.
    assert not {path for path in lacking if not re.search(r"\.layers\.\d+$", path)} - own_fields
    assert "int (1 or more); examples of a step" in out
    assert fields(out)["training.batch_size"] == str(experiment.training.batch_size)


def test_help_shows_what_flags_made_of_the_experiment(launch: Launch) -> None:
    """Flags go from shallow to deep, whatever their order."""
    _, out, _ = launch("--experiment=cnn_mnist", "--model.features=16", "--optimizer.learning_rate=1e-3", "--help",
                       "--model=CNN(hidden=8, features=(4, 4))", "--model.activation=gelu", "--model.dtype=bfloat16",
                       "--model.kernel_init=lecun_normal", "--model.kernel_init.scale=3",
                       "--optimizer.frozen=conv_*,*/bias")  # fmt: skip
    shown = fields(out)
    assert shown["model"] == (
        "CNN(features=(16,), hidden=8, activation=flax.linen.gelu, kernel_init=VarianceScaling(scale=3.0), "
        "dtype=bfloat16)"
    )
    assert shown["model.dropout"] == "None"
    assert shown["optimizer.learning_rate"] == "0.001"
    assert "optimizer.learning_rate.peak" not in shown
    assert shown["optimizer.frozen"] == "('conv_*', '*/bias')"


def test_what_help_shows_can_be_given_back(own: Path, launch: Launch) -> None:
    for source in ("cnn_mnist", str(own / "mine.py")):
        _, out, _ = launch(f"--experiment={source}", "--help")
        given = [f"--{path}={value}" for path, value in fields(out).items() if value != "..."]
        assert launch(f"--experiment={source}", *given, "--help") == (0, out, "")


@pytest.mark.parametrize(
    ("flag", "path", "value"),
    [
        (["--model.features", "16,32"], "model.features", "(16, 32)"),
        (["--model.features=16"], "model.features", "(16,)"),
        (["-model.hidden=7"], "model.hidden", "7"),
        (["--model=MLP"], "model", "MLP()"),
        (["--model=MLP", "--model.hidden=512,512"], "model.hidden", "(512, 512)"),
        (["--model.kernel_init=he_normal"], "model.kernel_init", "he_normal"),
        (["--model.kernel_init=Normal(0.1)"], "model.kernel_init", "Normal(stddev=0.1)"),
        (["--model.dropout=none"], "model.dropout", "None"),
        (["--model.activation", "jax.numpy.sin"], "model.activation", "jax.numpy.sin"),
        (["--dataset.join_validation=true"], "dataset.join_validation", "True"),
        (["--optimizer.learning_rate.peak", "1"], "optimizer.learning_rate.peak", "1.0"),
        (["--optimizer=SGD(momentum=0.9)"], "optimizer", "SGD(momentum=0.9)"),
        (
            ["--optimizer=SGD()", "--optimizer.learning_rate=Linear(1)"],
            "optimizer",
            "SGD(learning_rate=Linear(peak=1.0))",
        ),
        (["--training=Training(epochs=3)", "--training.seed=5"], "training", "Training(epochs=3, seed=5)"),
        (["--name=mine=yours"], "name", "mine=yours"),
    ],
)
def test_a_flag_sets_its_field(flag: list[str], path: str, value: str, launch: Launch) -> None:
    for line in (["--experiment=cnn_mnist", *flag], [*flag, "--experiment", "cnn_mnist"]):
        code, out, err = launch(*line, "--help")
        assert (code, err) == (0, "")
        assert fields(out)[path] == value


def test_a_finished_run_prints_its_result_again(own: Path, launch: Launch) -> None:
    before = {path: path.stat().st_mtime_ns for path in (own / "run").rglob("*.json*")}
    code, out, err = launch(f"--experiment={own}/mine.py", f"--workdir={own}/run")
    assert code == 0
    assert err == f"the run in {own}/run is finished\n"
    record = json.loads((own / "run" / "result.json").read_text())
    assert f"accuracy {record['metrics']['test']['accuracy']:.4f}" in out
    assert record["fingerprint"] in out
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_evaluating_gives_the_numbers_of_the_end_of_training(own: Path, launch: Launch) -> None:
    metrics = json.loads((own / "run" / "result.json").read_text())["metrics"]
    source, workdir = f"--experiment={own}/mine.py", f"--workdir={own}/run"
    for split in ("test", "validation"):
        for checkpoint in ("latest", "4"):
            code, out, err = launch(
                "--mode=evaluate", source, workdir, f"--split={split}", f"--checkpoint={checkpoint}"
            )
            assert (code, err) == (0, "")
            for name in ("accuracy", "loss", "f1"):
                assert f"{name} {metrics[split][name]:.4f}" in out
    assert "step 2\n" in launch("--mode=evaluate", source, workdir, "--checkpoint=2")[1]
    result = nm.load_run(own / "run", str(own / "mine.py"))
    assert result.evaluate("test")["confusion"] == metrics["test"]["confusion"]
    assert result.evaluate("test")["loss"] == metrics["test"]["loss"]


def test_quiet_prints_nothing(own: Path, launch: Launch) -> None:
    # While it trained there was nothing either: the fixture sees to that.
    assert launch(f"--experiment={own}/mine.py", f"--workdir={own}/run", "--quiet") == (0, "", "")


def test_the_workdir_alone_goes_on_with_a_run(tmp_path: Path, launch: Launch) -> None:
    """What flags had changed is remembered, and new numbers are taken where that is allowed."""
    workdir = f"--workdir={tmp_path}/run"
    line = (
        "--experiment=softmax_mnist",
        "--training.steps=2",
        "--training.batch_size=32",
        "--training.evaluate_every=1",
    )
    assert launch(*line, workdir)[0] == 0
    finished = json.loads((tmp_path / "run" / "result.json").read_text())
    (tmp_path / "run" / "result.json").unlink()
    newest = max((tmp_path / "run" / "checkpoints").iterdir(), key=lambda path: path.name)
    newest.rename(tmp_path / newest.name)
    code, out, err = launch(workdir)
    assert code == 0
    assert "resumed from step 1" in err
    assert finished["fingerprint"] in out
    assert json.loads((tmp_path / "run" / "result.json").read_text())["metrics"] == finished["metrics"]
    (tmp_path / "run" / "result.json").unlink()
    assert launch(workdir, "--optimizer.weight_decay=0.5", "--allow_changes")[0] == 0
    launches = json.loads((tmp_path / "run" / "launches.json").read_text())
    assert [each["changes"] for each in launches] == [{}, {}, {"optimizer.weight_decay": [0.01, 0.5]}]
    assert nm.load_run(tmp_path / "run").experiment.optimizer.weight_decay == 0.5


@pytest.mark.slow
def test_an_own_file_is_launched_by_path_from_anywhere(own: Path, tmp_path: Path) -> None:
    launcher = Path(__file__).parents[1] / "launch.py"
    flags = ["--model.width=5", "--model.rate=0.5", "--dataset.spread=0.1", "--optimizer.learning_rate=1e-3"]
    done = subprocess.run(
        [sys.executable, str(launcher), f"--experiment={own}/mine.py", *flags],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(own)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "mine").iterdir()
    assert f"runs/mine/{run.name}" in done.stdout
    recorded = json.loads((run / "experiment.json").read_text())["experiment"]
    assert recorded["model"] == {"type": "mine.TwoLayers", "width": 5, "num_classes": 3, "rate": 0.5}
    assert recorded["dataset"]["spread"] == 0.1
    assert recorded["optimizer"]["learning_rate"] == 0.001
    assert (run / "experiment.py").read_text() == (own / "mine.py").read_text()
    result = nm.load_run(run, str(own / "mine.py"))
    assert result.state.params["Dense_0"]["kernel"].shape == (16, 5)
    assert result.fingerprint in done.stdout
