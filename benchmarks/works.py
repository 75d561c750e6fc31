"""The work that is compared: six networks, each with its data, batch and optimizer."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array

import neuralmon as nm
from neuralmon.data.text import shakespeare

Kind = Literal["digits", "wide digits", "text", "reversed text"]


@dataclasses.dataclass(frozen=True)
class Examples:
    """Training examples as everyone gets them: prepared, in float32 or as tokens, and all of them in memory.

    Attributes:
      kind: "digits": MNIST (28, 28, 1); "wide digits": the same with a border and three channels, (32, 32, 3); "text":
        characters and the ones that follow; "reversed text": characters to read, to be written in reverse.
      length: characters of an example.
      size: number of examples.
    """

    kind: Kind
    length: int = 0
    size: int = 20_000

    def spec(self) -> nm.data.Spec:
        """See `Dataset.spec`."""
        features = {
            name: jax.ShapeDtypeStruct(column.shape[1:], column.dtype) for name, column in self.load()["train"].items()
        }
        if self.kind in ("digits", "wide digits"):
            return nm.data.Spec(features, {"train": self.size}, class_names=tuple("0123456789"))
        return nm.data.Spec(features, {"train": self.size}, vocab_size=_text()[1])

    def load(self) -> dict[str, dict[str, np.ndarray]]:
        """See `Dataset.load`."""
        return {"train": dict(_columns(self))}

    def prepare(self, key: Array, batch: nm.data.Batch, train: bool) -> nm.data.Batch:
        """Returns the batch as it is; of "reversed text" the model gets what it reads and what it has written."""
        if self.kind != "reversed text":
            return batch
        inputs: Any = {"source": batch["inputs"], "target": batch["written"]}
        return {"inputs": inputs, "targets": batch["targets"], "weights": batch["weights"]}


@functools.cache
def _text() -> tuple[np.ndarray, int]:
    """The plays as numbers of characters, from 1 on, and the number of different ones, 0 included."""
    codes = np.frombuffer(shakespeare.read().encode("latin-1", "replace"), np.uint8)
    kinds, numbers = np.unique(codes[:2_000_000], return_inverse=True)
    return numbers.astype(np.int32) + 1, len(kinds) + 1


@functools.cache
def _columns(examples: Examples) -> Mapping[str, np.ndarray]:
    size, length = examples.size, examples.length
    if examples.kind in ("digits", "wide digits"):
        train = nm.data.Mnist().load()["train"]
        images = train["inputs"][:size].astype(np.float32).reshape(-1, 28, 28, 1) / 255
        if examples.kind == "wide digits":
            images = np.tile(np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0))), 3)
        return {"inputs": images, "targets": train["targets"][:size].astype(np.int32)}
    starts = np.random.default_rng(0).integers(0, len(_text()[0]) - length - 1, size)
    windows = _text()[0][starts[:, None] + np.arange(length + 1)]
    if examples.kind == "text":
        return {"inputs": windows[:, :-1], "targets": windows[:, 1:]}
    targets = windows[:, :-1][:, ::-1]
    written = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    return {"inputs": windows[:, :-1], "written": written, "targets": np.ascontiguousarray(targets)}


@dataclasses.dataclass(frozen=True)
class Work:
    """A network, and how it is trained.

    Attributes:
      title: what a table calls it.
      experiment: what neuralmon trains; a slice of `steps` updates is timed at a time.
      steps: updates of a slice, about two seconds.
      optimizer: what the others take: "adam", or "momentum" (0.9), with the learning rate of the experiment.
    """

    title: str
    experiment: Callable[[], nm.Experiment]
    steps: int
    optimizer: Literal["adam", "momentum"] = "adam"


def _experiment(
    model: nn.Module,
    examples: Examples,
    task: nm.tasks.Task,
    batch_size: int,
    optimizer: nm.optim.Optimizer | None = None,
) -> nm.Experiment:
    return nm.Experiment(
        model=model,
        dataset=examples,
        task=task,
        optimizer=optimizer or nm.optim.Adam(learning_rate=1e-3),
        training=nm.Training(batch_size=batch_size, epochs=1000),
    )


def _mlp() -> nm.Experiment:
    return _experiment(nm.models.MLP(hidden=(256,)), Examples("digits"), nm.tasks.Classification(), 128)


def _cnn() -> nm.Experiment:
    return _experiment(nm.models.CNN(), Examples("digits"), nm.tasks.Classification(), 128)


def _resnet20() -> nm.Experiment:
    momentum = nm.optim.SGD(learning_rate=0.1, momentum=0.9)
    examples = Examples("wide digits", size=4_000)
    return _experiment(nm.models.resnet20, examples, nm.tasks.Classification(), 128, momentum)


def _lstm() -> nm.Experiment:
    model = nm.models.LSTM(hidden=(128,), output="all", vocab_size=_text()[1], num_classes=_text()[1])
    return _experiment(model, Examples("text", 100), nm.tasks.LanguageModel(), 64)


def _gpt(batch_size: int) -> nm.Experiment:
    model = nm.models.GPT(vocab_size=_text()[1], context_length=64, num_layers=4, num_heads=4, width=128)
    return _experiment(model, Examples("text", 64), nm.tasks.LanguageModel(), batch_size)


def _transformer() -> nm.Experiment:
    model = nm.models.Transformer(
        vocab_size=_text()[1], num_layers=2, num_heads=4, width=128, feedforward_dim=512, activation=jax.nn.relu
    )
    return _experiment(model, Examples("reversed text", 32), nm.tasks.LanguageModel(), 64)


WORKS = {
    "mlp": Work("MLP 784-256-10, batch 128", _mlp, 4000),
    "cnn": Work("CNN 32-64-256, batch 128", _cnn, 60),
    "resnet20": Work("ResNet-20, batch 128", _resnet20, 6, "momentum"),
    "lstm": Work("LSTM 128, 100 steps, batch 64", _lstm, 80),
    "gpt": Work("GPT 4 x 128, 64 tokens, batch 64", functools.partial(_gpt, 64), 20),
    "gpt_b12": Work("GPT 4 x 128, 64 tokens, batch 12", functools.partial(_gpt, 12), 100),
    "transformer": Work("Transformer 2 + 2 x 128, 32 + 32 tokens, batch 64", _transformer, 25),
}
