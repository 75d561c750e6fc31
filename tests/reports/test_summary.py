"""Counts, shapes and FLOPs are those worked out by hand, whatever way a model is written."""

import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import pytest
from jax import lax

import neuralmon as nm
from neuralmon.names import Names
from neuralmon.reports.summary import summary


def _text(experiment: nm.Experiment, **parts: Any) -> str:
    return summary(dataclasses.replace(experiment, **{"names": Names(), **parts}).resolve())


def _rows(text: str) -> dict[str, list[str]]:
    """Cells of the table by layer or parameter: kind, shape, parameters, FLOPs, initialiser."""
    lines = text.splitlines()
    rule = next(index for index, line in enumerate(lines) if line.startswith("----"))
    spans = [match.span() for match in re.finditer("-+", lines[rule])]
    table = [[line[start:end].strip() for start, end in spans] for line in lines[rule + 1 : lines.index("", rule)]]
    assert len({row[0] for row in table}) == len(table)
    return {name: cells for name, *cells in table}


def _flops(experiment: nm.Experiment, model: nn.Module) -> dict[str, int]:
    """FLOPs of one example by layer, after a check that they add up."""
    text = _text(experiment, model=model)
    flops = {name: int(cells[3].replace(",", "")) for name, cells in _rows(text).items() if cells[3] not in ("", "0")}
    assert f"\nforward     {sum(flops.values()):,} FLOPs an example" in text
    return flops


def test_mlp_by_hand(tiny: nm.Experiment) -> None:
    text = _text(tiny, model=nm.models.MLP(hidden=(16, 8)))
    assert _rows(text) == {
        "hidden_0": ["Dense", "(32, 16)", "1,040", "2,048", ""],
        "hidden_0/kernel": ["trainable", "(64, 16)", "1,024", "", "he_normal"],
        "hidden_0/bias": ["trainable", "(16,)", "16", "", "zeros"],
        "hidden_1": ["Dense", "(32, 8)", "136", "256", ""],
        "hidden_1/kernel": ["trainable", "(16, 8)", "128", "", "he_normal"],
        "hidden_1/bias": ["trainable", "(8,)", "8", "", "zeros"],
        "output": ["Dense", "(32, 6)", "54", "96", ""],
        "output/kernel": ["trainable", "(8, 6)", "48", "", "lecun_normal"],
        "output/bias": ["trainable", "(6,)", "6", "", "zeros"],
    }
    assert "parameters  1,230: 1,230 trainable, 0 frozen" in text
    assert "bytes       4,920 of parameters (float32)" in text
    assert "training    about 2.3e+05 FLOPs a step: 3 x forward x 32 examples" in text


def test_cnn_by_hand(tiny: nm.Experiment) -> None:
    assert _flops(tiny, tiny.model) == {
        "conv_0": 2 * 8 * 8 * (3 * 3 * 1) * 4,
        "conv_1": 2 * 4 * 4 * (3 * 3 * 4) * 8,
        "hidden": 2 * (2 * 2 * 8) * 16,
        "output": 2 * 16 * 6,
    }
    rows = _rows(_text(tiny))
    assert rows["conv_0"][:3] == ["Conv", "(32, 8, 8, 4)", str(3 * 3 * 4 + 4)]
    assert rows["conv_1/kernel"] == ["trainable", "(3, 3, 4, 8)", "288", "", "he_normal"]


def test_the_text() -> None:
    text = _text(nm.load_experiment("cnn_mnist"), dataset=nm.data.Mnist(), optimizer=nm.optim.SGD(frozen=("conv_*",)))
    lines = [" ".join(line.split()) for line in text.splitlines()]
    for line in (
        "cnn_mnist",
        "dataset Mnist()",
        "model CNN(num_classes=10, dropout=0.4)",
        "task Classification()",
        "optimizer SGD(frozen=('conv_*',))",
        "training Training(epochs=10)",
        "steps 4,300 of 128 examples; an epoch has 430",
        "examples 55,000 train, 5,000 validation, 10,000 test",
        "layer, parameter kind output, shape parameters FLOPs initialiser",
        "conv_0 Conv (128, 28, 28, 32) 320 451,584",
        "conv_0/kernel frozen (3, 3, 1, 32) 288 he_normal",
        "hidden/kernel trainable (3136, 256) 802,816 he_normal",
        "parameters 824,458: 805,642 trainable, 18,816 frozen",
        "bytes 3,297,832 of parameters (float32)",
        "training about 3.57e+09 FLOPs a step: 3 x forward x 128 examples",
    ):
        assert line in lines
    assert "elementwise work is not counted" in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii()
    assert not re.search(" $", text, re.MULTILINE)


def test_long_parts_are_wrapped(tiny: nm.Experiment) -> None:
    text = _text(tiny, optimizer=nm.optim.AdamW(frozen=tuple(f"hidden/{'?' * 6}" for _ in range(20))))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("'hidden/??????'") == 20


def test_nothing_is_loaded_or_compiled(tiny: nm.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(type(tiny.dataset), "load")
    events: list[str] = []

    def listener(event: str, *_: Any, **__: Any) -> None:
        events.append(event)

    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        assert "(37, 8, 8, 4)" in _text(tiny, training=nm.Training(batch_size=37))
        assert not [event for event in events if "compile" in event and "trace" not in event]
        jax.block_until_ready(jax.jit(lambda x: x + 37)(jax.numpy.ones(37)))
        assert [event for event in events if "backend_compile" in event]
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)


class Block(nn.Module):
    """A step of a scanned stack."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None = None) -> tuple[jax.Array, None]:
        return nn.relu(nn.Dense(16, name="dense")(x)), None


class Stack(nn.Module):
    """Five blocks, scanned or in turn; no argument `train`."""

    scanned: bool
    depth: int = 5

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        x = nn.Dense(16, name="first")(inputs.reshape(inputs.shape[0], -1))
        if self.scanned:
            axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
            x, _ = nn.scan(nn.remat(Block), **axes, length=self.depth)(name="blocks")(x, None)
        else:
            for index in range(self.depth):
                x, _ = Block(name=f"blocks_{index}")(x)
        return nn.Dense(6, name="last")(x)


def test_a_scanned_layer_counts_as_often_as_it_runs(tiny: nm.Experiment) -> None:
    scanned, in_turn = _flops(tiny, Stack(scanned=True)), _flops(tiny, Stack(scanned=False))
    assert scanned == {"first": 2 * 64 * 16, "blocks/dense": 5 * 2 * 16 * 16, "last": 2 * 16 * 6}
    assert sum(scanned.values()) == sum(in_turn.values())
    rows = _rows(_text(tiny, model=Stack(scanned=True)))
    assert rows["blocks/dense/kernel"] == ["trainable", "(5, 16, 16)", "1,280", "", "variance_scaling"]
    assert rows["blocks/dense"][1] == "(32, 16)"


class Sequences(nn.Module):
    """A recurrent cell over the rows of an image, and attention."""

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = nn.RNN(nn.SimpleCell(4), name="rnn")(inputs[..., 0])
        x = nn.MultiHeadDotProductAttention(num_heads=2, name="attention")(x)
        return nn.Dense(6, name="last")(x[:, -1])


def test_recurrence_and_attention(tiny: nm.Experiment) -> None:
    flops = _flops(tiny, Sequences())
    cell = sum(count for name, count in flops.items() if name.split("/")[0] not in ("attention", "last"))
    assert cell == 8 * (2 * 8 * 4 + 2 * 4 * 4)
    assert flops["attention"] == 2 * (2 * 8 * 8 * 4)  # every query with every key, then every weight with every value
    assert flops["attention/query"] == 8 * 2 * 4 * 4


@jax.jit
def _product(x: jax.Array, w: jax.Array) -> jax.Array:
    return x @ w


class Square(nn.Module):
    """Has equations that belong to the module only through what is around them."""

    def setup(self) -> None:
        self.w = self.param("w", nn.initializers.normal(0.02), (64, 64))
        self.v = self.param("v", nn.initializers.normal(0.02), (64,))

    def __call__(self, x: jax.Array) -> jax.Array:
        return _product(x, self.w)


class Twins(nn.Module):
    """The same compiled function in two modules, one of which is called twice; parameters of the model itself."""

    w_init: Any = nm.layers.Normal(0.5)

    def setup(self) -> None:
        self.squares = [Square(), Square()]
        self.w = self.param("w", self.w_init, (64, 6))

    def __call__(self, inputs: jax.Array) -> jax.Array:
        x = inputs.reshape(inputs.shape[0], -1)
        return self.squares[1](self.squares[0](self.squares[0](x))) @ self.w


def test_equations_belong_to_the_innermost_module(tiny: nm.Experiment) -> None:
    once = 2 * 64 * 64
    assert _flops(tiny, Twins()) == {"squares_0": 2 * once, "squares_1": once, "(model)": 2 * 64 * 6}
    rows = _rows(_text(tiny, model=Twins()))
    assert list(rows)[:3] == ["(model)", "w", "squares_0"]
    assert rows["w"] == ["trainable", "(64, 6)", "384", "", "Normal(stddev=0.5)"]
    assert rows["squares_1/v"] == ["trainable", "(64,)", "64", "", "-"]


class Convolutions(nn.Module):
    """Grouped, transposed and strided convolutions, normalised."""

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Conv(8, (3, 3), strides=2, padding="VALID", name="strided")(inputs)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Conv(8, (1, 3), feature_group_count=4, name="grouped")(x)
        x = nn.ConvTranspose(4, (4, 4), strides=(2, 2), name="transposed")(x)
        return nn.Dense(6, name="last", bias_init=nn.initializers.normal())(x.mean((1, 2)))


def test_convolutions_and_batch_norm(tiny: nm.Experiment) -> None:
    assert _flops(tiny, Convolutions()) == {
        "strided": 2 * 3 * 3 * (3 * 3 * 1) * 8,
        "grouped": 2 * 3 * 3 * (3 * 8 // 4) * 8,
        "transposed": 2 * 3 * 3 * (4 * 4 * 4) * 8,  # each input meets each entry of the kernel once
        "last": 2 * 4 * 6,
    }
    text = _text(tiny, model=Convolutions())
    rows = _rows(text)
    assert rows["norm"] == ["BatchNorm", "(32, 3, 3, 8)", "16", "0", ""]
    assert rows["norm/scale"] == ["trainable", "(8,)", "8", "", "ones"]
    assert rows["last/bias"][-1] == "normal"
    assert "\nbatch_stats 16 values, not moved by gradients\n" in text


class Control(nn.Module):
    """Branches and a loop of unknown length."""

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        x, w = inputs.reshape(inputs.shape[0], -1), self.param("w", nn.initializers.zeros, (64, 64))
        x = lax.cond(x.sum() > 0, lambda x: x @ w @ w, lambda x: x @ w, x)
        x = lax.while_loop(lambda x: x.sum() < 0, lambda x: x @ w, x)
        x = lax.fori_loop(0, 7, lambda _, x: x @ w, x)
        return jax.checkpoint(lambda x: x[:, :6])(x)


def test_the_costliest_branch_counts_and_a_while_loop_once(tiny: nm.Experiment) -> None:
    assert _flops(tiny, Control()) == {"(model)": (2 + 1 + 7) * 2 * 64 * 64}


@pytest.mark.parametrize("patterns", [(), ("*/bias",), ("conv_0", "output/kernel"), ("*",)])
def test_frozen_parameters_are_those_that_training_freezes(tiny: nm.Experiment, patterns: tuple[str, ...]) -> None:
    text = _text(tiny, optimizer=nm.optim.SGD(frozen=patterns))
    frozen = {name for name, cells in _rows(text).items() if cells[0] == "frozen"}
    every = {f"{layer}/{name}" for layer in ("conv_0", "conv_1", "hidden", "output") for name in ("kernel", "bias")}
    biases = {name for name in every if name.endswith("bias")}
    expected = {(): set(), ("*/bias",): biases, ("*",): every}
    assert frozen == expected.get(patterns, {"conv_0/kernel", "conv_0/bias", "output/kernel"})
    count = sum(int(_rows(text)[name][2].replace(",", "")) for name in frozen)
    assert f" trainable, {count:,} frozen\n" in text


def test_learning_rates_of_layers_are_shown(tiny: nm.Experiment) -> None:
    rates = (nm.optim.LayerRate("conv_0", 0.1), nm.optim.LayerRate("*/bias", 2))
    text = _text(tiny, optimizer=nm.optim.SGD(layer_rates=rates, frozen=("hidden",)))
    assert {name: cells[0] for name, cells in _rows(text).items() if "/" in name} == {
        "conv_0/kernel": "rate x 0.1",
        "conv_0/bias": "rate x 0.1",  # the first that matches
        "conv_1/kernel": "trainable",
        "conv_1/bias": "rate x 2",
        "hidden/kernel": "frozen",
        "hidden/bias": "frozen",
        "output/kernel": "trainable",
        "output/bias": "rate x 2",
    }
    assert "rate is the factor of the learning rate" in text
    assert "factor of the learning rate" not in _text(tiny)
