"""Experiments before anything is compiled: paths, numbers and structure, sizes, boundaries."""

import dataclasses
import random

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon import codec
from neuralmon.experiment import Epochs, merge, replace_at, split, walk
from neuralmon.shipped import shipped
from neuralmon.training.check import check


class Tower(nn.Module):
    """A model of models."""

    blocks: tuple[nn.Module, ...] = (nm.models.MLP(hidden=(), num_classes=4), nm.models.MLP(hidden=(3,), dropout=0.5))
    num_classes: int | None = None


def make(**parts: object) -> nm.Experiment:
    defaults = {
        "dataset": nm.data.Mnist(augment=(nm.data.Shift(2),)),
        "model": nm.models.CNN(dropout=0.4),
        "task": nm.tasks.Classification(label_smoothing=0.1),
        "optimizer": nm.optim.SGD(learning_rate=nm.optim.Linear(peak=1), momentum=0.9, clip_norm=None),
    }
    return nm.Experiment(**{**defaults, **parts})  # type: ignore[arg-type]


def text(experiment: nm.Experiment) -> str:
    return codec.canonical(experiment.to_json())


def test_numbers_are_the_marked_fields_and_nothing_else() -> None:
    _, numbers = split(make())
    assert numbers.keys() == {
        "dataset.augment.0.pixels", "model.dropout",
        "model.kernel_init.scale", "model.output_init.scale", "model.bias_init.value",
        "task.label_smoothing", "optimizer.learning_rate.peak", "optimizer.learning_rate.warmup",
        "optimizer.learning_rate.end", "optimizer.momentum", "training.seed",
    }  # fmt: skip
    assert numbers.pop("training.seed").dtype == np.int32
    # Also where the file says 1 for 1.0: another type would be another program.
    assert {array.dtype for array in numbers.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", [*shipped(), "tower"])
def test_merge_undoes_split(name: str) -> None:
    experiment = make(model=Tower()) if name == "tower" else nm.load_experiment(name)
    structure, numbers = split(experiment)
    plain = {path: float(value) if value.dtype == np.float32 else int(value) for path, value in numbers.items()}
    merged = merge(structure, plain)
    for before, after in zip(walk(experiment), walk(merged), strict=True):
        assert before.path == after.path
        if before.number_type is float:
            assert np.float32(before.value) == np.float32(after.value)
        elif before.is_leaf:
            assert before.value == after.value
    assert not split(structure)[1]


def test_experiments_that_differ_in_numbers_have_one_structure() -> None:
    one, other = make(), make(dataset=nm.data.Mnist(augment=(nm.data.Shift(0.5),)), training=nm.Training(seed=3))
    assert text(split(one)[0]) == text(split(other)[0])
    assert text(split(one)[0]) != text(split(make(dataset=nm.data.Mnist()))[0])
    assert text(split(one)[0]) != text(split(make(training=nm.Training(batch_size=3)))[0])


def test_merge_works_on_traced_numbers_and_compiles_once() -> None:
    structure, numbers = split(make())
    traces = []

    @jax.jit
    def rate(numbers: dict[str, jax.Array], step: jax.Array) -> jax.Array:
        traces.append(1)
        merged = merge(structure, numbers)
        assert merged.optimizer.momentum is numbers["optimizer.momentum"]
        return merged.optimizer.learning_rate.value(step, 100) * merged.model.dropout

    values = [float(rate({**numbers, "model.dropout": np.float32(d)}, jnp.int32(0))) for d in (0.25, 0.5, 1.0)]
    assert values == [0.25, 0.5, 1.0]
    assert len(traces) == 1


def test_resolve_fills_what_was_left_to_the_data() -> None:
    experiment = make()
    resolved = experiment.resolve()
    assert experiment.model.num_classes is None
    assert resolved.model.num_classes == 10
    assert text(replace_at(resolved, "model.num_classes", None)) == text(experiment)
    assert text(resolved.resolve()) == text(resolved)
    assert make(model=nm.models.CNN(num_classes=7)).resolve().model.num_classes == 7
    tower = make(model=Tower()).resolve().model
    assert (tower.num_classes, tower.blocks[0].num_classes, tower.blocks[1].num_classes) == (10, 4, 10)


def test_walk_goes_from_shallow_to_deep_and_finds_each_place_once() -> None:
    experiment = make(model=Tower())
    paths = [node.path for node in walk(experiment)]
    assert len(set(paths)) == len(paths)
    assert [path for path in paths if "." not in path] == ["dataset", "model", "task", "optimizer", "training", "name"]
    seen: set[str] = set()
    for node in walk(experiment):
        assert node.path.rpartition(".")[0] in seen | {""}
        seen.add(node.path)
        value: object = experiment
        for part in node.path.split("."):
            value = value[int(part)] if isinstance(value, tuple) else getattr(value, part)
        assert value is node.value
    assert "model.blocks.1.dropout" in seen
    assert not {"names", "model.parent", "model.name"} & seen


def test_replace_at_changes_one_place() -> None:
    experiment = make(model=Tower())
    before = {node.path: node.value for node in walk(experiment) if node.is_leaf}
    for path in before:
        marker = "replaced"
        after = {node.path: node.value for node in walk(replace_at(experiment, path, marker)) if node.is_leaf}
        assert after == {**before, path: marker}
    swapped = replace_at(experiment, "optimizer.learning_rate", 0.5)
    assert swapped.optimizer.learning_rate == 0.5
    assert experiment.optimizer.learning_rate == nm.optim.Linear(peak=1)


def test_boundaries_are_a_function_of_the_step_alone() -> None:
    draw = random.Random(0)
    for _ in range(300):
        training = nm.Training(
            batch_size=draw.randint(1, 20),
            epochs=draw.randint(1, 4),
            steps=draw.choice([None, draw.randint(1, 200)]),
            steps_per_chunk=draw.randint(1, 30),
            evaluate_every=draw.choice([Epochs(1), Epochs(0.4), draw.randint(1, 40)]),
            checkpoint_every=draw.choice([None, draw.randint(1, 40)]),
        )
        size = draw.randint(training.batch_size, 200)
        num_steps = training.num_steps(size)
        assert num_steps == (training.steps or training.epochs * -(-size // training.batch_size))
        whole, step = [], 0
        while step < num_steps:
            end = training.boundary_after(step, size)
            assert step < end <= step + training.steps_per_chunk
            whole.append(end)
            step = end
        assert step == num_steps
        for interval in (training.evaluation_interval(size), training.checkpoint_interval(size)):
            assert set(range(interval, num_steps + 1, interval)) <= set(whole)
        # A run that was stopped at any step comes back to the same boundaries.
        for cut in range(num_steps):
            assert training.boundary_after(cut, size) == next(end for end in whole if end > cut)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.epochs", 0, "training.epochs: 0 is out of range: allowed is 1 or more"),
        ("training.seed", 1.5, "training.seed: expected int"),
        ("optimizer.momentum", 1.5, "optimizer.momentum: 1.5 is out of range: allowed is 0 to 1"),
        ("model", nm.optim.SGD(), "model: expected Module, not SGD"),
        ("optimizer.learning_rate", nm.models.MLP(), "optimizer.learning_rate: expected float .* or Schedule, not MLP"),
        ("model.features", (2, 0), "model.features: 0 is out of range"),
        ("model.activation", 3, "model.activation: expected a function"),
        ("model.dtype", "float32", "model.dtype: expected an array type"),
        ("model.kernel_init", nn.relu, "model.kernel_init: .*relu cannot be used as initializer"),
        ("training.batch_size", 60_001, "training.batch_size: 60001 is more than the 55,000 training examples"),
    ],
)
def test_check_names_the_place_and_what_is_allowed(path: str, value: object, message: str) -> None:
    with pytest.raises(nm.RequestError, match=message):
        check(replace_at(make(), path, value))


def test_check_lets_an_experiment_made_in_memory_pass() -> None:
    @dataclasses.dataclass(frozen=True)
    class Local(nm.data.Mnist):
        pass

    make(dataset=Local(), model=Tower()).check()


def test_the_data_decides_how_many_tokens_there_are() -> None:
    experiment = nm.load_experiment("skipgram_shakespeare")
    resolved = experiment.resolve()
    assert resolved.model.vocab_size == len(experiment.dataset.words) > 5_000
    dataclasses.replace(resolved, model=resolved.model.clone(vocab_size=10_000)).check_fit()
    too_few = dataclasses.replace(resolved, model=resolved.model.clone(vocab_size=100))
    with pytest.raises(nm.RequestError, match=r"model\.vocab_size: 100 are fewer than the 5,4\d\d tokens"):
        too_few.check_fit()


def test_shipped_experiments_are_found_and_sound() -> None:
    described = shipped()
    assert {"cnn_mnist", "mlp_mnist", "softmax_mnist"} <= described.keys()
    for name, description in described.items():
        assert description.endswith(".")
        experiment = nm.load_experiment(name)
        assert experiment.name == name
        assert experiment.source is not None
        assert f"--experiment={name}" in experiment.source
        experiment.check()
