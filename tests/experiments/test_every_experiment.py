"""Every shipped experiment trains, is evaluated and leaves a result: a few steps, with what is large made small."""

import contextlib
import dataclasses
import functools
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from neuralmon.catalog import load_experiment
from neuralmon.cli import main
from neuralmon.data import Facts, Mnist
from neuralmon.data.text import passages, shakespeare, verses, words
from neuralmon.shipped import shipped
from neuralmon.tasks import adversarial
from neuralmon.training import program

_DIGITS = 300  # of each split
_FEW = ("--training.steps=4", "--training.batch_size=32", "--training.evaluate_every=4", "--training.steps_per_chunk=2")
_TEXT = ("--dataset.context_length=16", "--dataset.split.validation=0.001", "--dataset.split.test=0.001")
_GPT = ("--model.num_layers=1", "--model.num_heads=1", "--model.width=8")
_DRAWN = ("--dataset.train_size=100", "--dataset.validation_size=20", "--dataset.test_size=20")
_TRANSFORMER = ("--model.num_layers=1", "--model.num_heads=1", "--model.width=8", "--model.feedforward_dim=8")
_PAIRS = (
    *("--dataset.train_size=100", "--dataset.held_out_size=20", "--dataset.longest=4", "--dataset.longer=5"),
    *_TRANSFORMER,
)
# What is made small, beside the number of steps; what is in braces the test makes.
_SMALLER: dict[str, tuple[str, ...]] = {
    "cgan_mnist": (
        *("--model.generator.hidden=8", "--model.generator.label_features=4"),
        *("--model.discriminator.hidden=8", "--model.discriminator.pieces=2"),
    ),
    "cnn_mnist": ("--model.features=4,4", "--model.hidden=8"),
    "cnn_mnist_best": ("--model.features=4,4,4", "--model.hidden=8"),
    "crnn_digits": (*_DRAWN, "--model.hidden=8"),
    "dcgan_mnist": ("--model.generator.features=4,2", "--model.discriminator.features=2,4"),
    "gan_mnist": ("--model.generator.hidden=8", "--model.discriminator.hidden=8", "--model.discriminator.pieces=2"),
    "gpt_finetune": (*_GPT, "--model.context_length=16", "--dataset.length=16"),
    "gpt_pretrain": (*_TEXT, *_GPT, "--model.context_length=16", "--dataset.tokenizer.vocab_size=100"),
    "gpt_shakespeare": (*_TEXT, *_GPT),
    "gru_mnist": ("--model.hidden=8",),
    "image_to_text": (
        *(*_DRAWN, "--model.num_layers=1", "--model.num_heads=1", "--model.width=8", "--model.feedforward_dim=8"),
        *("--dataset.max_length=1", "--model.encoder=Sequential((Conv(4, (3, 3), strides=(4, 4)),))"),
    ),
    "lenet5_mnist": (),
    "lstm_adding": (*_DRAWN, "--dataset.length=10", "--model.hidden=8"),
    "lstm_mnist": ("--model.hidden=8",),
    "lstm_shakespeare": (*_TEXT, "--model.hidden=8"),
    "lstm_sunspots": ("--model.hidden=4",),
    "mlp_iris": (),
    "mlp_mnist": ("--model.hidden=8",),
    "mlp_moons": (),
    "mlp_sunspots": (),
    "mnist_transfer": ("--model.features=4,4", "--model.hidden=8"),
    "perceptron_iris": ("--training.batch_size=1",),
    "perceptron_mnist": ("--training.batch_size=1",),
    "perceptron_moons": ("--training.batch_size=1",),
    "perceptron_setosa": ("--training.batch_size=1",),
    "pokemon_types": ("--dataset.path={sprites}", "--model.features=2,2", "--model.hidden=4"),
    "pokemon_types_best": ("--dataset.path={sprites}", "--model.stage_sizes=1", "--model.features=4"),
    "resnet_cifar10": ("--dataset.path={photos}", "--model.stage_sizes=1", "--model.features=4"),
    "resnet_mnist": ("--model.stage_sizes=1", "--model.features=4"),
    "resnet_vs_plain": ("--dataset.path={photos}", "--model.stage_sizes=1", "--model.features=4"),
    "rnn_adding": (*_DRAWN, "--dataset.length=10", "--model.hidden=8"),
    "rnn_mnist": ("--model.hidden=8",),
    "rnn_shakespeare": (*_TEXT, "--model.hidden=8"),
    "sentiment": ("--dataset.path={reviews}", "--dataset.length=8", "--model.features=4", "--model.embedding_dim=4"),
    "skipgram_shakespeare": ("--model.embedding_dim=4", "--training.batch_size=1024"),
    "softmax_mnist": (),
    "spam": ("--dataset.path={reviews}", "--dataset.length=8", "--model.features=4", "--model.embedding_dim=4"),
    "transformer_copy": _PAIRS,
    "transformer_en_es": (
        *(
            "--dataset.pack=512",
            "--dataset.validation_books=Ruth,",
            "--dataset.test_books=Jonah,",
            "--dataset.tokenizer.vocab_size=300",
        ),
        *(*_TRANSFORMER, "--task.beam_size=1"),
    ),
    "transformer_reverse": _PAIRS,
    "vit_mnist": ("--model.num_layers=1", "--model.width=16"),
}


def test_every_experiment_is_here() -> None:
    assert _SMALLER.keys() == shipped().keys()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a user has: a table of texts, a folder of sprites, and folders of photos by class."""
    folder = tmp_path_factory.mktemp("data")
    words = ("awful", "dull", "fine", "great")
    rows = [f"a {words[n % 4]} film number {n % 7},{'good' if n % 4 > 1 else 'bad'}" for n in range(60)]
    (folder / "reviews.csv").write_text("text,label\n" + "\n".join(rows))
    (folder / "sprites" / "old").mkdir(parents=True)
    for number in range(1, 81):
        image = Image.new("RGB", (24, 24), "white")
        ImageDraw.Draw(image).rectangle((4, 4, 19, 19), fill=(3 * number, 90, 60))
        image.save(folder / "sprites" / "old" / f"{number}.png")
    for split, of in (("train", 40), ("test", 4)):
        for label, colour in (("ship", "blue"), ("frog", "green")):
            (folder / "photos" / split / label).mkdir(parents=True)
            for number in range(of):
                Image.new("RGB", (32, 32), colour).save(folder / "photos" / split / label / f"{number}.png")
    return {
        "photos": str(folder / "photos"),
        "reviews": str(folder / "reviews.csv"),
        "sprites": str(folder / "sprites"),
    }


@pytest.fixture(scope="module", autouse=True)
def _little_data() -> Iterator[None]:
    """What comes with the package is much, too: some of the digits and verses, and the beginning of each play."""
    examine, read, plays, verse = Mnist.examine, Mnist.read, shakespeare.read, verses.read

    def some(self: Mnist) -> dict[str, dict[str, np.ndarray]]:
        splits = read(self)
        return {split: {name: array[:_DIGITS] for name, array in part.items()} for split, part in splits.items()}

    def facts(self: Mnist) -> Facts:
        found = examine(self)
        return dataclasses.replace(found, sizes={split: min(size, _DIGITS) for split, size in found.sizes.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Mnist, "read", some)
        patch.setattr(Mnist, "examine", facts)
        patch.setattr(shakespeare, "read", lambda: _beginnings(plays()))
        patch.setattr(verses, "read", lambda: verse()[::40])
        patch.setattr(adversarial, "_STUDIED", 100)  # samples whose quality is measured
        # Neither does what other tests have read come in here, nor the little text get out.
        for module in (passages, words):
            for name, function in list(vars(module).items()):
                if hasattr(function, "cache_clear"):
                    patch.setattr(module, name, functools.cache(function.__wrapped__))
        patch.setattr(program, "_programs", {})
        yield


@functools.cache
def _beginnings(text: str) -> str:
    return "".join(play[:20_000] for play in re.split(r"(?m)^(?=.+\n\n+ACT I\n)", text))


# In the default run one of each kind of data, network and task.
_ALIKE = {
    *("cgan_mnist", "cnn_mnist_best", "gan_mnist", "gpt_pretrain", "gru_mnist", "lenet5_mnist", "lstm_shakespeare"),
    *("mlp_mnist", "mlp_moons", "mnist_transfer", "perceptron_iris"),
    *("perceptron_moons", "pokemon_types_best", "resnet_mnist", "resnet_vs_plain", "rnn_adding", "rnn_mnist"),
    *("rnn_shakespeare", "softmax_mnist", "spam", "transformer_reverse"),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in _ALIKE else []) for name in _SMALLER]
)
def test_it_runs(name: str, data: dict[str, str], tmp_path: Path) -> None:
    smaller = [word.format(**data) for word in _SMALLER[name]]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        code = main(["neuralmon", f"--experiment={name}", *_FEW, *smaller, f"--workdir={tmp_path / 'run'}"])
    assert code == 0, said.getvalue()
    outcome = json.loads((tmp_path / "run" / "result.json").read_text())
    assert outcome["step"] == 4
    assert all(metrics["loss"] > 0 for metrics in outcome["metrics"].values())
    published = getattr(load_experiment(name).names.module, "PUBLISHED", None)
    assert published is None or published.metric in outcome["metrics"]["test"]


@pytest.mark.parametrize("name", _SMALLER)
def test_its_file_says_what_it_is(name: str, root: Path) -> None:
    lines = (root / "experiments" / f"{name}.py").read_text().splitlines()
    assert len(lines) < 60
    assert f"--experiment={name}" in "\n".join(lines)
