"""docs/text.md as a user meets it: trained on a file, asked to write, and what is wrong is said in one line."""

import re
import shlex
from pathlib import Path

import pytest

import neuralmon as nm
from neuralmon.cli import main
from neuralmon.data import Tokenizer
from neuralmon.data.text import shakespeare

TEXT = (Path(__file__).parents[2] / "docs" / "text.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    shlex.split(line.replace("\\\n", ""))[2:]
    for _, text in BLOCKS
    for line in re.findall(r"^python launch\.py(?:\\\n|.)*", text, re.MULTILINE)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (source,) = [text for language, text in BLOCKS if language == "python"]
    (folder / "my_novel.py").write_text(source)
    for name in ("novel.txt", "input.txt"):
        (folder / name).write_text(shakespeare.read()[:20_000], encoding="utf-8")
    return folder


@pytest.mark.slow
def test_its_commands_train_and_write_and_need_no_text_to_write(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    train, sample, recipe = COMMANDS
    short = ["--training.steps=2", "--training.evaluate_every=2", "--quiet", "--model.num_layers=1", "--model.width=8"]
    assert main(["launch.py", *train, *short]) == 0, capsys.readouterr().err
    (folder / "novel.txt").unlink()
    capsys.readouterr()
    assert main(["launch.py", *sample, "--length=70"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert said.startswith("It was") and len(said) == len("It was") + 70 + 1
    assert main(["launch.py", *sample, "--prompt=Ünder"]) == 2
    assert "--prompt: line 1, column 1: the character 'Ü'" in capsys.readouterr().err
    assert main(["launch.py", "--mode=summary", *recipe]) == 0, capsys.readouterr().err


def test_the_page_names_every_tokenizer_and_flag():
    for name in [name for name, cls in vars(nm.data).items() if isinstance(cls, type) and issubclass(cls, Tokenizer)]:
        assert name == "Tokenizer" or f"`{name}" in TEXT, name
