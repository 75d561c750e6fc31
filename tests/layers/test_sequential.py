"""Stacks of layers: each its own, told whether it trains, and written, read, trained and resumed as any model."""

import json
import re
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon import codec, layers
from neuralmon.cli import main
from neuralmon.models import CNN, MLP, Sequential
from neuralmon.names import Names

KEY = jax.random.key(0, impl="rbg")
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 2)).astype(np.float32)


def shapes(model, inputs):
    variables = jax.eval_shape(model.init, KEY, inputs)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}


def drawn(model, inputs):
    """Returns random variables; nothing is compiled for them."""
    random = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: random.normal(size=leaf.shape).astype(np.float32), jax.eval_shape(model.init, KEY, inputs)
    )


def test_an_mlp_and_a_cnn_as_stacks_compute_the_same():
    models = {
        "MLP": (MLP(hidden=(6,), num_classes=3), ["hidden_0", "output"]),
        "CNN": (CNN(features=(4,), hidden=6, num_classes=3), ["conv_0", "hidden", "output"]),
    }
    stacks = {
        "MLP": (layers.Flatten(), layers.Dense(6), nn.relu, layers.Output(3)),
        "CNN": (layers.Conv(4, (3, 3)), nn.relu, layers.MaxPool(), layers.Flatten(), layers.Dense(6), nn.relu,
                layers.Output(3)),
    }  # fmt: skip

    params = {name: drawn(model, IMAGES)["params"] for name, (model, _) in models.items()}

    @jax.jit
    def both(params):
        pairs = {}
        for name, (model, parts) in models.items():
            stack = Sequential(stacks[name])
            places = [index for index, layer in enumerate(stack.layers) if hasattr(layer, "kernel_init")]
            own = {f"layers_{place}": params[name][part] for place, part in zip(places, parts, strict=True)}
            pairs[name] = (stack.apply({"params": own}, IMAGES), model.apply({"params": params[name]}, IMAGES))
        return pairs

    for one, other in both(params).values():
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


def test_each_place_is_a_layer_of_its_own():
    block = layers.Residual((layers.Dense(5), nn.tanh))
    stack = Sequential((block,) * 3)
    expected = {f"params/layers_{index}/layers_0/kernel": (5, 5) for index in range(3)}
    assert {name: shape for name, shape in shapes(stack, np.ones((2, 5))).items() if "kernel" in name} == expected
    written_out = Sequential(tuple(layers.Residual((layers.Dense(5), nn.tanh)) for _ in range(3)))
    assert stack == written_out
    assert shapes(stack, np.ones((2, 5))) == shapes(written_out, np.ones((2, 5)))
    # A name that somebody gave is not part of a record, so it is nothing here either.
    assert "params/layers_0/kernel" in shapes(Sequential((layers.Dense(2, name="mine"),)), np.ones((2, 5)))


def test_layers_are_told_whether_they_train():
    """By `train`, or by what Linen's own call it; numbers in them may be traced."""
    inputs = np.random.default_rng(1).normal(2.0, 3.0, (4000, 2)).astype(np.float32)

    @jax.jit
    def apply(rate):
        stack = Sequential((nn.BatchNorm(), layers.Residual((layers.Dropout(rate),)), nn.Dropout(0.25)))
        parts = {"params": ("scale", "bias"), "batch_stats": ("var", "mean")}
        variables = {kind: {"layers_0": {one: jnp.ones(2), zero: jnp.zeros(2)}} for kind, (one, zero) in parts.items()}
        evaluated = stack.apply(variables, inputs)
        trained, state = stack.apply(variables, inputs, train=True, rngs={"dropout": KEY}, mutable=["batch_stats"])
        return evaluated, trained, state["batch_stats"]["layers_0"]["mean"]

    evaluated, trained, mean = apply(0.5)
    np.testing.assert_allclose(evaluated, 2 * inputs / np.sqrt(1 + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(mean, 0.01 * inputs.mean(axis=0), rtol=1e-4)
    standard = (inputs - inputs.mean(axis=0)) / inputs.std(axis=0)
    # x + dropped x is x or 3 x, and a quarter of it is dropped afterwards.
    factors = np.round(np.asarray(trained / standard) * 0.75, 2)
    values, counts = np.unique(np.abs(factors), return_counts=True)
    np.testing.assert_array_equal(values, [0, 1, 3])
    np.testing.assert_allclose(counts / counts.sum(), [0.25, 0.375, 0.375], atol=0.03)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (layers.Flatten(), IMAGES.reshape(3, -1)),
        (layers.GlobalAveragePool(), IMAGES.mean(axis=(1, 2))),
        (layers.MaxPool(), IMAGES.reshape(3, 4, 2, 4, 2, 2).max(axis=(2, 4))),
        (layers.AvgPool((4, 2)), IMAGES.reshape(3, 2, 4, 4, 2, 2).mean(axis=(2, 4))),
        (layers.MaxPool((2, 2), (1, 3)), np.lib.stride_tricks.sliding_window_view(IMAGES, (2, 2), (1, 2))[:, :, ::3]
         .max(axis=(-2, -1))),
        (layers.AvgPool((2, 8), padding="SAME"), IMAGES.reshape(3, 4, 2, 8, 2).mean(axis=(2, 3))[:, :, None]),
    ],
    ids=lambda value: str(value).split("(")[0] if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_layers_without_parameters(layer, expected):
    np.testing.assert_allclose(layer.apply({}, IMAGES), expected, rtol=1e-5, atol=1e-6)


def test_a_shortcut_fits_what_changes_the_shape():
    branch, shortcut = layers.Conv(4, (3, 3), strides=(2, 2)), layers.Conv(4, (1, 1), strides=(2, 2), use_bias=False)
    block = layers.Residual((branch,), (shortcut,))

    params = drawn(block, IMAGES)["params"]

    @jax.jit
    def apply(params):
        parts = [(branch, "layers_0"), (shortcut, "shortcut_0")]
        apart = [layer.apply({"params": params[name]}, IMAGES) for layer, name in parts]
        return block.apply({"params": params}, IMAGES), sum(apart)

    together, apart = apply(params)
    assert together.shape == (3, 4, 4, 4)
    np.testing.assert_allclose(together, apart, rtol=1e-6, atol=1e-6)
    with pytest.raises(
        ValueError, match=r"outputs of shape \(3, 4, 4, 4\) to inputs of shape \(3, 8, 8, 2\).*shortcut"
    ):
        jax.eval_shape(layers.Residual((branch,)).init, KEY, IMAGES)


@pytest.mark.parametrize(
    ("own", "linens", "shape"),
    [
        (layers.Dense(5), nn.Dense(5), (2, 3, 4)),
        (layers.Dense(5, use_bias=False), nn.Dense(5, use_bias=False), (2, 4)),
        (layers.Output(5), nn.Dense(5), (2, 4)),
        (layers.Conv(5), nn.Conv(5, (3, 3)), (2, 6, 7, 4)),
        (layers.Conv(5, (3, 2), (2, 1), "VALID"), nn.Conv(5, (3, 2), (2, 1), "VALID"), (2, 6, 7, 4)),
        (layers.Conv(5, (4,), (3,), use_bias=False), nn.Conv(5, (4,), (3,), use_bias=False), (2, 11, 4)),
        (layers.Conv(3, (2, 3, 1)), nn.Conv(3, (2, 3, 1)), (1, 3, 4, 2, 4)),
    ],
)
def test_layers_with_parameters_compute_what_linens_do(own, linens, shape):
    inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert shapes(own, inputs) == shapes(linens, inputs)
    variables = drawn(own, inputs)

    @jax.jit
    def both(variables):
        return own.apply(variables, inputs), linens.apply(variables, inputs)

    one, other = both(variables)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    half = jax.eval_shape(own.clone(dtype=jnp.bfloat16).apply, variables, inputs)
    assert half.dtype == (jnp.float32 if isinstance(own, layers.Output) else jnp.bfloat16)


def test_a_layer_that_was_told_already_stays_in_its_mode():
    stack = Sequential((nn.BatchNorm(use_running_average=True), nn.Dropout(0.5, deterministic=True), layers.Flatten()))
    variables = jax.tree.map(np.abs, drawn(stack, IMAGES))
    trained = stack.apply(variables, IMAGES, train=True)
    assert np.isfinite(trained).all()
    np.testing.assert_array_equal(trained, stack.apply(variables, IMAGES))
    assert jax.eval_shape(stack.apply, variables, IMAGES[:0]).shape == (0, 128)


def test_what_does_not_fit_is_said():
    for stack, message in (
        (Sequential((layers.Flatten(), layers.Output())), r"Output\(num_classes=None\)"),
        (layers.Conv(4, (3,)), r"kernel_size=\(3,\), strides=None\) does not fit inputs of shape \(3, 8, 8, 2\)"),
        (layers.MaxPool((2,)), r"MaxPool\(window=\(2,\), strides=None\) does not fit inputs of shape \(3, 8, 8, 2\)"),
        (layers.AvgPool((9, 2), (1, 1)), r"strides=\(1, 1\)\) is larger than inputs of shape \(3, 8, 8, 2\)"),
        (layers.Conv(4, (2, 9), padding="VALID"), r"kernel_size=\(2, 9\), strides=None\) is larger than inputs"),
        (layers.ConvTranspose(4, (3, 3), (2,)), r"ConvTranspose\(kernel_size=\(3, 3\), strides=\(2,\)\) does not fit"),
        (layers.SpectralNorm(nn.LayerNorm()), "a layer with a kernel; LayerNorm has only bias, scale"),
        (Sequential((nn.relu, lambda x: (x, x))), "layer 1 of a stack, function, returns 2 arrays"),
        (Sequential((nn.relu, layers.Flatten)), r"layer 1 of a stack is Flatten: give a module"),
        (Sequential((3,)), "layer 0 of a stack is 3: give a module"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(stack.init, KEY, IMAGES)


STACK = Sequential(
    (layers.Conv(4, (3, 3), strides=(2, 1)), nn.LayerNorm(use_fast_variance=False), nn.gelu,
     layers.Residual((nn.Conv(4, (3, 3)), nn.BatchNorm(momentum=0.9), jnp.tanh), (layers.AvgPool((1, 1)),)),
     layers.Dropout(0.25), layers.GlobalAveragePool(), nn.Dense(5), layers.step, MLP(hidden=(3,), norm="layer"),
     layers.Dense(7, kernel_init=layers.ScaledResidual(num_layers=3)), layers.Output())
)  # fmt: skip


def test_what_is_written_is_read_again():
    names = Names()
    data = json.loads(json.dumps(codec.to_json(STACK, names)))
    for again in (
        codec.from_json(data, nn.Module, names),
        codec.parse(codec.format(STACK, names), nn.Module, names),
        codec.parse(codec.format(STACK, names, full=True), nn.Module, names),
    ):
        assert again == STACK
        assert shapes(again.clone(layers=again.layers[:-3]), IMAGES) == shapes(
            STACK.clone(layers=STACK.layers[:-3]), IMAGES
        )


def test_the_data_decides_what_is_left_open():
    experiment = nm.Experiment(
        dataset=nm.data.Mnist(), model=STACK, task=nm.tasks.Classification(), optimizer=nm.optim.SGD()
    )
    resolved = experiment.resolve().model
    assert (resolved.layers[-1].num_classes, resolved.layers[-3].num_classes) == (10, 10)
    assert shapes(resolved, np.ones((2, 8, 8, 1), np.float32))["params/layers_10/kernel"] == (7, 10)


@pytest.mark.parametrize(
    "layer",
    [nn.Dense(4), nn.DenseGeneral(4), nn.Conv(4, (3,)), nn.ConvTranspose(4, (3,)), nn.LayerNorm(), nn.RMSNorm(),
     nn.GroupNorm(1), nn.BatchNorm(), nn.InstanceNorm(), nn.Dropout(0.5), nn.Embed(10, 4), nn.RNN(nn.GRUCell(4)),
     nn.RNN(nn.OptimizedLSTMCell(4)), nn.MultiHeadDotProductAttention(2), nn.PReLU()],
    ids=lambda layer: type(layer).__name__,
)  # fmt: skip
def test_linens_layers_can_be_in_a_stack_and_in_a_record(layer):
    stack, names = Sequential((layer, nn.relu)), Names()
    again = codec.from_json(json.loads(json.dumps(codec.to_json(stack, names))), nn.Module, names)
    assert again == stack
    inputs = jax.ShapeDtypeStruct((2, 6) if isinstance(layer, nn.Embed) else (2, 6, 4), np.int32)
    if not isinstance(layer, nn.Embed):
        inputs = inputs.update(dtype=np.float32)
    outputs = jax.eval_shape(lambda inputs: again.init_with_output(KEY, inputs)[0], inputs)
    assert outputs.shape == (2, 6, 4)


FILE = '''
    """A network without a class."""
    import flax.linen as nn
    import neuralmon as nm

    def experiment() -> nm.Experiment:
        block = nm.layers.Residual((nn.Dense(8), nn.LayerNorm(), nn.relu))
        return nm.Experiment(
            dataset=nm.data.Moons(size=200),
            model=nm.models.Sequential((nm.layers.Dense(4), *(block,) * 2, nm.layers.Dropout(0.2), nm.layers.Output())),
            task=nm.tasks.Classification(),
            optimizer=nm.optim.SGD(learning_rate=0.1),
            training=nm.Training(batch_size=32, epochs=3),
        )
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stack")
    (folder / "stack.py").write_text(textwrap.dedent(FILE))
    return folder


def launch(capsys, *arguments):
    assert main(["launch.py", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def run(folder):
    """A run of few steps, with flags for fields of layers."""
    flags = ("--model.layers.0.features=8", "--model.layers.3.rate=0.1", "--training.epochs=2", "--quiet")
    assert main(["launch.py", f"--experiment={folder}/stack.py", f"--workdir={folder}/run", *flags]) == 0
    return folder / "run"


@pytest.mark.slow
def test_a_stack_is_evaluated_by_its_folder_alone(run, capsys):
    text = launch(capsys, "--mode=evaluate", f"--workdir={run}")
    accuracy = json.loads((run / "result.json").read_text())["metrics"]["test"]["accuracy"]
    assert float(re.search(r"accuracy ([\d.]+)", text)[1]) == pytest.approx(accuracy, abs=6e-5)


def test_a_stack_is_trained_and_read_from_its_folder_alone(run):
    assert str(run.parent) not in (run / "experiment.json").read_text()
    result = nm.load_run(run)
    first, *_, dropout, last = result.experiment.model.layers
    assert (first.features, dropout.rate, last.num_classes) == (8, 0.1, 2)
    assert sorted(result.state.params) == ["layers_0", "layers_1", "layers_2", "layers_4"]


def test_a_stack_is_summarised_explained_and_replaced(folder, capsys):
    file = f"--experiment={folder}/stack.py"
    text = launch(capsys, file, "--mode=summary", "--model.layers.0.features=8")
    assert re.search(r"^layers_1/layers_0 +Dense +\(32, 8\) +72 ", text, re.MULTILINE)
    assert re.search(r"^  layers_4/kernel .*lecun_normal", text, re.MULTILINE)
    text = launch(capsys, file, "--help")
    assert re.search(r"--model\.layers\.0\.features=4\n +int \(1 or more\); number of outputs", text)
    model = "Sequential((Dense(16), relu, Output()))"
    text = launch(capsys, file, "--mode=summary", f"--model={model}", "--model.layers.1=tanh")
    assert "Sequential(layers=(Dense(features=16), flax.linen.tanh, Output(num_classes=2)))" in " ".join(text.split())
    assert main(["launch.py", file, "--model.layers.2=tanhh"]) == 2
    assert "tanhh" in capsys.readouterr().err
