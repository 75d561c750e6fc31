"""What the README says works as it says."""

import re
import shlex
import types

import pytest

import neuralmon as nm
from neuralmon.cli import main

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def blocks(root):
    return FENCE.findall((root / "README.md").read_text())


@pytest.fixture
def own_file(blocks, tmp_path, monkeypatch):
    """The README's own experiments, as files in the current folder."""
    monkeypatch.chdir(tmp_path)
    for language, text in blocks:
        if language == "python" and (name := re.match(r"# (\w+\.py)\n", text)):
            (tmp_path / name[1]).write_text(text)
    return tmp_path / "my_own.py"


def test_the_two_commands_are_one_line_each(blocks):
    lines = [line for _, text in blocks for line in text.splitlines() if line.startswith("pip install")]
    assert lines == [
        "pip install -e . && python launch.py --experiment=cnn_mnist",
        "pip install -e '.[test]' && pytest",
    ]


def test_every_command_is_understood(blocks, own_file, capsys):
    """With --help each flag is looked up and each value parsed, and nothing is trained."""
    commands = [line for _, text in blocks for line in text.splitlines() if line.startswith("python launch.py")]
    assert len(commands) >= 8
    for command in commands:
        argv = shlex.split(command, comments=True)[1:]
        if any(argument.startswith("--workdir") for argument in argv) and "--experiment" not in command:
            continue  # needs the run of the command before it; tests/test_cli.py has those
        assert main([*argv, "--help"]) == 0, (command, capsys.readouterr().err)


def test_the_experiment_shown_is_the_one_shipped(blocks, root):
    (shown,) = [text for language, text in blocks if language == "python" and text.startswith("# experiments/cnn")]
    code = (root / "experiments" / "cnn_mnist.py").read_text()
    assert shown.split("\n", 1)[1].strip() == code[code.index("import neuralmon") :].strip()


def test_the_own_experiment_trains(own_file, capsys):
    argv = ["launch.py", "--experiment=./my_own.py", "--model.width=8", "--training.steps=3", "--workdir=run"]
    assert main(argv) == 0, capsys.readouterr().err
    assert "test" in capsys.readouterr().out
    source = own_file.read_text()
    model = source[source.index("class TwoLayer") : source.index("def experiment")].strip()
    assert len(model.splitlines()) <= 15


def test_the_module_elsewhere_runs(blocks):
    (source,) = [text for language, text in blocks if language == "python" and "jax.jit(model.apply)" in text]
    module = types.ModuleType("readme")
    exec(compile(source, "README.md", "exec"), module.__dict__)
    assert module.logits.shape == (8, 10)


def test_the_training_page_names_every_optimizer_and_schedule(root):
    page = (root / "docs" / "training.md").read_text()
    for name in set(nm.optim.__all__) - {"Optimizer", "Schedule"}:
        assert re.search(rf"\b{name}\b", page), name


def test_the_data_page_names_every_dataset_and_augmentation(root):
    page = (root / "docs" / "data.md").read_text()
    kinds = nm.data.LabelledDataset, nm.data.Augmentation, nm.data.Split
    names = [
        name for name in nm.data.__all__ if isinstance(kind := getattr(nm.data, name), type) and issubclass(kind, kinds)
    ]
    assert len(names) > 20
    for name in set(names) - {"LabelledDataset", "LabelledText", "Series", "Augmentation", "Split"}:
        assert re.search(rf"\b{name}\b", page), name
