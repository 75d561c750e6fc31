"""The layer that is named is the one that was made to fail."""

import dataclasses
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.data import Batch
from neuralmon.optim import freezing
from neuralmon.parallel import make_mesh
from neuralmon.state import TrainState
from neuralmon.training.nan_hunt import hunt
from neuralmon.training.program import initial_variables
from neuralmon.training.step import make_step

_BATCH = 8


class Net(nn.Module):
    """Two dense layers around what a test puts there; no argument `train`."""

    middle: Any = None
    last_init: Any = nn.initializers.lecun_normal()
    num_classes: int = 6

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        x = nn.relu(nn.Dense(16, name="first")(inputs.reshape(inputs.shape[0], -1)))
        if self.middle is not None:
            x = self.middle()(x)
        return nn.Dense(self.num_classes, name="last", kernel_init=self.last_init)(x)


class LogOfZero(nn.Module):
    """Has the logarithm of zero within itself."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.log(jnp.maximum(x, 0.0) * 0.0)


class Inline(nn.Module):
    """Fails between two layers, in its own lines; has an argument `train` and dropout."""

    num_classes: int = 6

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(16, name="first")(inputs.reshape(inputs.shape[0], -1))
        x = nm.layers.Dropout(0.5, name="dropout")(x, train)
        return nn.Dense(self.num_classes, name="last")(x / 0.0)


class NormAtZero(nn.Module):
    """The outputs are finite, the derivative of the root at zero is not."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Dense(4, name="zero", kernel_init=nn.initializers.zeros)(x)
        return jnp.sqrt((x**2).sum(axis=-1, keepdims=True)) + jnp.ones(4)


class Cell(nn.Module):
    """Squares within a scan: overflows in the sixth turn, and not before."""

    @nn.compact
    def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
        x = nn.Dense(16, name="dense", kernel_init=nn.initializers.constant(1 / 16))(x)
        return Square(name="square")(x), None


class Square(nn.Module):
    """x -> 10 x^2, at least 10."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return 10.0 * (1.0 + x**2)


class Scanned(nn.Module):
    """A rematerialised scan."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        axes = {"variable_axes": {"params": 0}, "split_rngs": {"params": True}}
        return nn.scan(nn.remat(Cell), **axes, length=8)(name="cells")(x, None)[0]


class Mapped(nn.Module):
    """Layers under vmap."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        lifted = nn.vmap(LogOfZero, variable_axes={"params": None}, split_rngs={"params": False})
        return lifted(name="mapped")(x)


@dataclasses.dataclass(frozen=True)
class Points:
    """Floating inputs, divided by `scale`."""

    scale: float = 1.0

    def spec(self) -> nm.data.Spec:
        features = {"inputs": jax.ShapeDtypeStruct((5,), np.float32), "targets": jax.ShapeDtypeStruct((), np.int32)}
        return nm.data.Spec(features, {"train": 64}, class_names=tuple("abcdef"))

    def load(self) -> dict[str, dict[str, np.ndarray]]:
        raise AssertionError("the batch is given")

    def prepare(self, key: jax.Array, batch: Batch, train: bool) -> Batch:
        assert train is False or key is not None
        return {**batch, "inputs": batch["inputs"] / self.scale}


def _case(model: nn.Module, **parts: Any) -> tuple[nm.Experiment, TrainState, dict[str, np.ndarray]]:
    optimizer = parts.pop("optimizer", nm.optim.SGD(learning_rate=0.1))
    training = nm.Training(batch_size=_BATCH, steps=20, **parts.pop("training", {}))
    experiment = nm.Experiment(
        dataset=parts.pop("dataset", Points()), model=model, optimizer=optimizer, training=training,
        task=nm.tasks.Classification(), **parts,
    ).resolve()  # fmt: skip
    variables = initial_variables(experiment, jax.random.key(3))
    params = variables.pop("params")
    trainable, _ = freezing.partition(params, optimizer.frozen)
    state = TrainState(jnp.int32(17), params, variables, optimizer.transform(20).init(trainable))
    rng = np.random.default_rng(0)
    spec = experiment.dataset.spec()
    batch = {
        "inputs": rng.integers(0, 255, (_BATCH, *spec.features["inputs"].shape)).astype(spec.features["inputs"].dtype),
        "targets": (np.arange(_BATCH) % 6).astype(np.int32),
        "weights": np.ones(_BATCH, np.float32),
    }
    return experiment, state, batch


def _sentence(text: str) -> str:
    """The first line; whatever is below it is a table."""
    first, *table = text.splitlines()
    assert table[0] == "" and table[1].split() == ["what", "smallest", "largest", "not", "finite"]
    return first


_HUGE = nn.initializers.constant(1e37)


def _slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Net(last_init=_HUGE), r"the output of 'last' \(Dense\) is the first .* from inputs between"),
        (
            Net(middle=LogOfZero),
            r"the output of 'LogOfZero_0' \(LogOfZero\) is .* 128 of 128 numbers, from inputs between",
        ),
        _slow(Inline(), r"what the model itself \(Inline\) computed before it called 'last' \(Dense\)"),
        (Net(middle=Scanned), r"the output of 'Scanned_0/cells/square' \(Square\) is the first"),
        _slow(Net(middle=Mapped), r"the output of 'Mapped_0/mapped' \(LogOfZero\)"),
        (Net(middle=NormAtZero), r"the gradient of 'NormAtZero_0/zero/\w+' is not: .*'last/\w+', nearer to the loss"),
    ],
    ids=["overflow", "log", "inline", "scanned", "mapped", "gradient"],
)
def test_the_layer_is_named(model: nn.Module, expected: str) -> None:
    experiment, state, batch = _case(model)
    new, sums = jax.jit(make_step(experiment, 20, make_mesh(_BATCH)))(state, batch)
    finite = [bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves((new.params, sums["loss"][0]))]
    assert not all(finite)  # the step does fail
    sentence = _sentence(hunt(experiment, state, batch))
    assert re.match(f"step 17: .*{expected}", sentence), sentence
    assert "Error" not in sentence


def test_a_bad_input_is_named_with_its_example() -> None:
    experiment, state, batch = _case(Net())
    batch["inputs"][3, 1] = np.nan
    batch["inputs"][5, 0] = np.inf
    sentence = _sentence(hunt(experiment, state, batch))
    assert sentence == (
        "step 17: the data is not finite: 'inputs' of examples 3, 5 of the batch (counted from 0), 2 of 40 numbers"
    )


def test_what_prepare_spoils_is_not_the_models_fault() -> None:
    experiment, state, batch = _case(Net(), dataset=Points(scale=0.0))
    assert "step 17: what the dataset's `prepare` made is not finite: 'inputs'" in hunt(experiment, state, batch)


def test_a_target_that_is_no_class_is_named() -> None:
    experiment, state, batch = _case(Net())
    batch["targets"][5] = 12
    sentence = _sentence(hunt(experiment, state, batch))
    assert sentence.endswith(
        "but the loss of them is not: that of example 5 of the batch (counted from 0) (targets [12])"
    )


def test_a_parameter_that_was_spoilt_before() -> None:
    experiment, state, batch = _case(Net())
    params = jax.tree.map(np.array, state.params)
    params["last"]["kernel"][2, 3] = np.inf
    sentence = _sentence(hunt(experiment, dataclasses.replace(state, params=params), batch))
    assert "before the step, the parameter 'last/kernel' was not finite already: 1 of 96" in sentence


def test_an_update_that_overflows() -> None:
    experiment, state, batch = _case(Net(), optimizer=nm.optim.SGD(learning_rate=3e38, frozen=("last",)))
    batch["inputs"] *= 100
    assert re.match(r"step 17: .* are finite, but the update of 'first/\w+' is not", hunt(experiment, state, batch))


class Normed(nn.Module):
    """Dropout and running statistics."""

    num_classes: int = 6

    @nn.compact
    def __call__(self, inputs: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(16, name="first")(inputs.reshape(inputs.shape[0], -1))
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        return nn.Dense(self.num_classes, name="last")(nm.layers.Dropout(0.5, name="dropout")(x, train))


@pytest.mark.slow
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_the_replayed_step_is_the_steps_own(tiny: nm.Experiment, micro_batches: int) -> None:
    """The same augmentation, the same dropout, the same statistics: the same loss."""
    experiment, state, batch = _case(Normed(), dataset=tiny.dataset, training={"micro_batches": micro_batches})
    (total, _), losses = jax.jit(make_step(experiment, 20, make_mesh(_BATCH)))(state, batch)[1]["loss"], []
    text = hunt(experiment, state, batch)
    assert _sentence(text).startswith("step 17: done once more, all of it was finite")
    for line in text.splitlines():
        if line.split()[:2] == ["loss", "loss"]:
            losses.append(float(line.split()[2]))
    assert len(losses) == micro_batches
    assert sum(losses) == pytest.approx(float(total), rel=2e-3)
    other, another = dataclasses.replace(state, step=jnp.int32(18)), []
    for line in hunt(experiment, other, batch).splitlines():
        if line.split()[:2] == ["loss", "loss"]:
            another.append(float(line.split()[2]))
    assert sum(another) != pytest.approx(float(total), rel=2e-3)  # the tolerance tells steps apart


def test_the_table_shows_every_layer_and_long_ones_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    class Deep(nn.Module):
        num_classes: int = 6

        @nn.compact
        def __call__(self, inputs: jax.Array) -> jax.Array:
            x = inputs
            for index in range(24):
                x = nn.Dense(4, name=f"layer_{index}")(x) if index != 12 else LogOfZero(name="log")(x)
            return nn.Dense(self.num_classes, name="last")(x)

    experiment, state, batch = _case(Deep())
    monkeypatch.setattr("neuralmon.training.nan_hunt._MAX_ROWS", 20)
    text = hunt(experiment, state, batch)
    assert "'log' (LogOfZero)" in _sentence(text)
    lines = text.splitlines()
    assert len(lines) == 24 and re.fullmatch(r"\(20 of \d+ rows\)", lines[-1])
    assert any(line.startswith("layer_11 ") and line.endswith(" 0") for line in lines)
    assert any(line.startswith("log ") and line.endswith("32 of 32") for line in lines)
    assert any(line.startswith("layer_13 ") and line.endswith("32 of 32") for line in lines)


def test_it_never_takes_the_place_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, state, batch = _case(Net())
    monkeypatch.setattr(Points, "prepare", lambda *_, **__: {}["gone"])
    assert hunt(experiment, state, batch).startswith("step 17: it could not be done once more (KeyError: 'gone')")
