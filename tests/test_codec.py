"""The one grammar: what is written is read again as the same value, and nothing is ever run."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon import codec
from neuralmon.experiment import replace_at, walk
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import Initializer, Normal, VarianceScaling, he_normal
from neuralmon.names import Names
from neuralmon.optim import Constant, Cosine, Linear, Optimizer, Schedule
from neuralmon.shipped import shipped

_OWN = """
    import dataclasses
    import os
    from dataclasses import field
    from typing import Any
    import flax.linen as nn
    import neuralmon as nm
    from neuralmon.models import MLP
    from neuralmon.layers import he_normal

    @dataclasses.dataclass(frozen=True)
    class Swish:
        beta: nm.Number = 1.0
        def __call__(self, x):
            return x * nn.sigmoid(self.beta * x)

    class Own(nn.Module):
        width: int
        inner: nn.Module = nn.Dense(3)
        act: Any = nn.relu
        label: str | None = None
        @nn.compact
        def __call__(self, inputs):
            return nn.Dense(10)(inputs.reshape(inputs.shape[0], -1))

    def cube(x):
        return x**3

    _hidden = Swish(3.0)

    def experiment():
        return nm.Experiment(dataset=nm.data.Mnist(), model=MLP(hidden=(4,), activation=cube), optimizer=nm.optim.SGD(),
                             task=nm.tasks.Classification())
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> nm.Experiment:
    file = tmp_path_factory.mktemp("own") / "own_file.py"
    file.write_text(textwrap.dedent(_OWN))
    return nm.load_experiment(str(file))


Plain = tuple[Any, Any]
_VALUES: list[Plain] = [
    *[(int, value) for value in (0, 1, -1, 2**31 - 1, -(2**70), 10**300)],
    *[(float, value) for value in (0.0, 1.0, -1.5, 1e-300, 5e-324, 1.7e308 / 2, 0.1 + 0.2, -1e22, 1e16)],
    *[(bool, value) for value in (True, False)],
    *[
        (kind, value)
        for kind in (str, str | None, int | str)
        for value in (
            "",
            "plain",
            "two words",
            "it's",
            '"quoted"',
            "'a'",
            "a,b",
            "a=b",
            "x(y)",
            "größe ✓",
            "3",
            "1e-3",
            "-1",
            "true",
            "none",
            "None",
            "nan",
            " padded ",
            "(1,",
            "line\nbreak",
            "back\\slash",
            "a.b",
            "'",
        )
    ],
    (str | None, None),
    (PositiveInt | None, 3),
    (FractionNumber | None, None),
    (FractionNumber, 1.0),
    (tuple[PositiveInt, ...], ()),
    (tuple[PositiveInt, ...], (16,)),
    (tuple[PositiveInt, ...], (16, 32)),
    (tuple[PositiveInt, PositiveInt], (3, 5)),
    (tuple[tuple[int, float], ...], ((1, 2.0), (-3, 1e-9))),
    (tuple[str, ...], ("conv_*", "a,b", "3")),
    (tuple[float, ...] | None, (1.0, 2.5)),
    (Literal["fan_in", "fan_out"], "fan_out"),
    (Literal["1", "2"], "2"),
    (Mapping[str, float], {"a b": 1.0, "type": 2.0}),
    (Any, (1, "two", (None, True), {"k": 0.5})),
    (Activation, nn.gelu),
    (Activation, jnp.tanh),
    (Activation, jax.lax.rsqrt),
    (Dtype, jnp.float32),
    (Initializer, he_normal),
    (Initializer, VarianceScaling(3.0, "fan_avg", "uniform")),
    (float | Schedule, 0.5),
    (float | Schedule, Cosine(peak=1e-3, warmup=0.1)),
    (Schedule, Linear(peak=1.0, end=0.5)),
    (Schedule, Constant(2.0)),
    (Optimizer, nm.optim.SGD(learning_rate=Cosine(0.1), momentum=0.9, frozen=("*/bias", "a b"))),
    (nn.Module, nm.models.MLP(hidden=(3, 4), dropout=0.25, activation=nn.silu, kernel_init=Normal(0.5))),
    (nn.Module, nm.models.CNN(features=(2,), kernel_size=(1, 3), num_classes=5)),
    (nm.Training, nm.Training(steps=3, seed=2**31 - 1)),
]


@pytest.mark.parametrize(
    ("annotation", "value"), _VALUES, ids=lambda argument: re.sub(r" at 0x\w*", "", repr(argument))[:40]
)
def test_what_is_written_is_read_again(annotation: Any, value: Any) -> None:
    names = Names()
    data = json.loads(json.dumps(codec.to_json(value, names), allow_nan=False))
    texts = [codec.format(value, names), codec.format(value, names, full=True)]
    for again in (codec.from_json(data, annotation, names), *(codec.parse(text, annotation, names) for text in texts)):
        assert again == value
        assert type(again) is type(value)
        assert codec.canonical(codec.to_json(again, names)) == codec.canonical(codec.to_json(value, names))


def test_every_array_type_comes_back() -> None:
    for dtype in (jnp.float32, jnp.bfloat16, np.float16, np.dtype("int8"), jnp.float8_e4m3fn, np.dtype(bool)):
        for annotation in (Dtype, Any):
            assert np.dtype(codec.parse(codec.format(dtype, Names()), annotation, Names())) == np.dtype(dtype)
    assert codec.parse("jnp.bfloat16", Dtype, Names()) is codec.parse("bfloat16", Dtype, Names())


@pytest.mark.parametrize(
    ("text", "annotation", "value"),
    [
        ("16", tuple[PositiveInt, ...], (16,)),
        ("16,32", tuple[PositiveInt, ...], (16, 32)),
        ("[16, 32]", tuple[PositiveInt, ...], (16, 32)),
        ("conv_*,*/bias", tuple[str, ...], ("conv_*", "*/bias")),
        ("conv_0", tuple[str, ...], ("conv_0",)),
        ("()", tuple[str, ...], ()),
        ("1", FractionNumber, 1.0),
        ("+2", float, 2.0),
        ("none", PositiveInt | None, None),
        ("true", bool, True),
        ("a/b", str | None, "a/b"),
        ("fan_out", Literal["fan_in", "fan_out"], "fan_out"),
        ("MLP", nn.Module, nm.models.MLP()),
        ("nm.models.MLP((5,), 3)", nn.Module, nm.models.MLP(hidden=(5,), num_classes=3)),
        ("neuralmon.optim.Constant(1)", Schedule, Constant(1.0)),
    ],
)
def test_convenient_spellings(text: str, annotation: Any, value: Any) -> None:
    assert repr(codec.parse(text, annotation, Names())) == repr(value)


def test_an_own_file_is_spoken_too(own: nm.Experiment) -> None:
    names, module = own.names, own.names.module
    assert module is not None
    for annotation, value in (
        (nn.Module, module.Own(width=3, label="none")),
        (nn.Module, nm.models.MLP(activation=module.Swish(2.0))),
        (Activation, module.Swish(2.0)),
        (Activation, module.cube),
        (Any, module.Swish(2.0)),
    ):
        assert codec.from_json(codec.to_json(value, names), annotation, names) == value
        assert codec.parse(codec.format(value, names), annotation, names) == value
    # Linen's own initialisers have no name; as a default they need none.
    assert codec.parse("Own(width=2, inner=flax.linen.Dense(4))", nn.Module, names).inner == nn.Dense(4)
    with pytest.raises(nm.RequestError, match="there is no public function '_hidden'"):
        codec.parse("_hidden", Activation, names)
    with pytest.raises(nm.RequestError, match="there is no public function 'os'"):
        codec.parse("os", Activation, names)


def test_what_a_file_imports_from_neuralmon_is_recorded_as_neuralmons(own: nm.Experiment) -> None:
    data = own.to_json()
    assert data["model"]["type"] == "neuralmon.models.MLP"
    assert data["model"]["kernel_init"] == {"name": "neuralmon.layers.he_normal"}
    assert data["model"]["activation"] == {"name": "own_file.cube"}


def test_the_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "changing.py"
    text = "from __future__ import annotations\n" + textwrap.dedent(_OWN)
    file.write_text(text)
    nm.load_experiment(str(file))
    file.write_text(
        text.replace("beta: nm.Number", "beta: Positive").replace(
            "_hidden", "from neuralmon.fields import PositiveNumber as Positive\n_hidden"
        )
    )
    experiment = nm.load_experiment(str(file))
    with pytest.raises(nm.RequestError, match="above 0"):
        codec.parse("Swish(-1)", Any, experiment.names)


@pytest.mark.parametrize(
    "name",
    ["os.system", "posix.system", "builtins.print", "builtins.eval", "eval", "exec", "subprocess.run", "__import__",
     "print", "jax._src.core.Tracer", "flax.linen.module._x", "optax._src", "neuralmon.cli.main",
     "neuralmon.names.importlib", "jax.numpy.np", "flax.io.rmtree", "flax.linen.module.dataclasses",
     "neuralmon.training.train", "tests.x", "",
     "MLP.__init__", "neuralmon.models.MLP.clone"],
)  # fmt: skip
def test_nothing_but_public_names_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran, names = list[Any](), Names()
    monkeypatch.setattr(os, "system", ran.append)
    for annotation in (Activation, nn.Module, Any, Initializer, Optimizer):
        for data in ({"name": name}, {"type": name}, {"type": name, "command": "touch /tmp/x"}):
            with pytest.raises(nm.RequestError):
                codec.from_json(data, annotation, names)
            with pytest.raises(nm.RequestError):
                codec.from_json({"type": "neuralmon.models.MLP", "activation": data}, nn.Module, names)
    assert not ran


@pytest.mark.parametrize(
    "data",
    [{}, {"nam": "x"}, {"name": "flax.linen.relu", "more": 1}, {"name": 3}, {"type": None}, {"dict": []},
     {"type": "neuralmon.models.MLP", "parent": None}, {"type": "neuralmon.models.MLP", "name": "x"},
     {"type": "neuralmon.models.MLP", "hidden": [0]}, {"type": "neuralmon.models.MLP", "hidden": [float("nan")]},
     {"type": "neuralmon.models.MLP", "dropout": float("nan")},
     {"type": "neuralmon.models.MLP", "num_classes": 10**400}],
)  # fmt: skip
def test_damaged_data_is_refused(data: Any) -> None:
    with pytest.raises(nm.RequestError):
        codec.from_json(data, nn.Module, Names())


@pytest.mark.parametrize(
    "text", ["(" * 500 + ")" * 500, "-" * 50_000 + "1", "a" + ".a" * 50_000, "9" * 10_000, "1j", "b'x'"]
)
def test_monstrous_text_is_refused_in_few_words(text: str) -> None:
    for annotation in (float, nn.Module, Activation, tuple[PositiveInt, ...]):
        with pytest.raises(nm.RequestError) as refusal:
            codec.parse(text, annotation, Names())
        assert len(str(refusal.value)) < 700


def test_what_cannot_be_read_again_is_not_written() -> None:
    @dataclasses.dataclass(frozen=True)
    class HasType:
        type: str = "x"

    for value in (lambda x: x, object(), float("nan"), float("inf"), HasType()):
        with pytest.raises(nm.RequestError):
            codec.to_json(value, Names())


def round_trips(asked: nm.Experiment) -> None:
    data = asked.to_json()
    again = nm.Experiment.from_json(json.loads(json.dumps(data)), Names())
    assert codec.canonical(again.to_json()) == codec.canonical(data)
    for node in walk(asked):
        written = codec.to_json(node.value, asked.names)
        for text in {codec.format(node.value, asked.names, full) for full in (False, True)}:
            value = codec.parse(text, node.annotation, asked.names)
            assert codec.to_json(value, asked.names) == written, node.path
            assert replace_at(asked, node.path, value).to_json() == data, node.path


_SHIPPED = {name: nm.load_experiment(name) for name in shipped()}
_LEARNS_WORDS = [name for name, one in _SHIPPED.items() if hasattr(one.dataset, "tokenizer")]
_WITH_ITS_DATA = [name for name, one in _SHIPPED.items() if not hasattr(one.dataset, "path")]  # not a user's


@pytest.mark.parametrize("name", _SHIPPED)
def test_shipped_experiments_round_trip(name: str) -> None:
    round_trips(_SHIPPED[name])


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in _LEARNS_WORDS else []) for name in _WITH_ITS_DATA]
)
def test_shipped_experiments_round_trip_with_what_their_data_decides(name: str) -> None:
    round_trips(_SHIPPED[name].resolve())


def test_equal_experiments_have_equal_canonical_json_in_every_process() -> None:
    def make(one: Any, widths: Any) -> nm.Experiment:
        return nm.Experiment(
            dataset=nm.data.Mnist(augment=(nm.data.Shift(one),)),
            model=nm.models.MLP(hidden=widths, dtype=jnp.bfloat16),
            task=nm.tasks.Classification(), optimizer=nm.optim.SGD(learning_rate=Cosine(peak=one)),
        )  # fmt: skip

    texts = {codec.canonical(make(one, w).to_json()) for one in (1, 1.0, np.float64(1)) for w in ((4,), [4])}
    assert len(texts) == 1
    code = """
        import numpy, jax.numpy as jnp, neuralmon as nm
        from neuralmon import codec
        e = nm.Experiment(optimizer=nm.optim.SGD(learning_rate=nm.optim.Cosine(1)), task=nm.tasks.Classification(),
                          model=nm.models.MLP((4,), dtype=numpy.dtype(jnp.bfloat16)), dataset=nm.data.Mnist(
                      augment=(nm.data.Shift(1),)))
        print(codec.canonical(e.to_json()))
    """
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": root, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, env=environment, check=True
    )
    assert {done.stdout.strip()} == texts
