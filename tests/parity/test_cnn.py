"""CNN and LeNet-5 beside PyTorch, and the network of Soares 2017 beside Keras, whose weights go through a file."""

import os
import tempfile
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop.cnn import from_keras, save_keras, to_keras
from neuralmon.interop.weights import shapes_of
from neuralmon.models import CNN, LeNet5, pokemon_cnn
from neuralmon.models.lenet import TABLE, codes

BATCH = 3


def set_up(model, shape, dtype):
    """Returns the model of that type, its random variables, and inputs."""
    model = model.clone(dtype=jnp.dtype(dtype))
    inputs = np.random.default_rng(2).normal(size=(BATCH, *shape)).astype(dtype)
    return model, random_variables(shapes_of(model.init, inputs), dtype), inputs


def compare(network, model, shape, dtype, train=False):
    """Returns both sides' results; `network` is (torch, model, their parameters, images) -> logits."""
    import torch

    model, variables, inputs = set_up(model, shape, dtype)
    weights = cotangent((BATCH, model.num_classes), dtype)
    options = {"train": train, "mutable": ["batch_stats"]} if train else {}

    def apply(variables, inputs):
        outputs = model.apply(variables, inputs, **options)
        return outputs[0] if train else outputs

    leaves = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), variables["params"])
    state = jax.tree.map(torch.tensor, variables.get("batch_stats", {}))
    images = torch.tensor(inputs).permute(0, 3, 1, 2)
    logits = network(torch, model, leaves, state, images)
    (logits * torch.tensor(weights)).sum().backward()
    theirs = Result(logits.detach().numpy(), jax.tree.map(lambda leaf: leaf.grad.numpy(), leaves))
    return ours(apply, variables, inputs, weights), theirs


def linear(torch, x, params):
    return torch.nn.functional.linear(x, params["kernel"].T, params["bias"])


def cnn_in_torch(torch, model, params, state, x, train=False):
    functional = torch.nn.functional
    activation = functional.relu if model.activation is nn.relu else torch.tanh
    for stage in range(len(model.features)):
        for index in range(stage * model.convolutions, (stage + 1) * model.convolutions):
            conv, norm = params[f"conv_{index}"], params.get(f"norm_{index}")
            kernel = conv["kernel"].permute(3, 2, 0, 1)
            x = functional.conv2d(x, kernel, conv.get("bias"), padding=model.padding.lower())
            if model.norm == "batch":
                running = state.get(f"norm_{index}", {})
                scale, bias = norm["scale"], norm["bias"]
                x = functional.batch_norm(x, running["mean"], running["var"], scale, bias, training=train, eps=1e-5)
            if model.norm == "layer":
                last = functional.layer_norm(x.permute(0, 2, 3, 1), (x.shape[1],), norm["scale"], norm["bias"], 1e-5)
                x = last.permute(0, 3, 1, 2)
            x = activation(x)
        pool = {"max": functional.max_pool2d, "mean": functional.avg_pool2d}[model.pool]
        x = pool(x, model.pool_size)
    x = activation(linear(torch, x.permute(0, 2, 3, 1).flatten(1), params["hidden"]))
    return linear(torch, x, params["output"])


def lenet_in_torch(torch, model, params, state, x):
    """Layer by layer as the paper says it; C3 map by map."""
    functional = torch.nn.functional

    def squash(a):
        return 1.7159 * torch.tanh(2 * a / 3)

    def convolved(x, layer):
        return functional.conv2d(x, layer["kernel"].permute(3, 2, 0, 1), layer["bias"])

    def subsampled(x, layer):
        windows = functional.unfold(x.reshape(-1, 1, *x.shape[2:]), 2, stride=2).sum(dim=1)
        sums = windows.reshape(*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)
        return layer["coefficient"][:, None, None] * sums + layer["bias"][:, None, None]

    if x.shape[2] == 28:
        corner = x[:, :, :1, :1].clone()
        bordered = corner.expand(-1, -1, 32, 32).clone()
        bordered[:, :, 2:30, 2:30] = x
        x = bordered
    x = squash(subsampled(squash(convolved(x, params["c1"])), params["s2"]))
    table = TABLE if model.connections == "table" else [range(6)] * 16
    maps, used = [], 0
    for index, seen in enumerate(table):
        kernel = params["c3"]["kernel"][:, :, used : used + len(seen)].permute(2, 0, 1)[None]
        maps.append(functional.conv2d(x[:, list(seen)], kernel, params["c3"]["bias"][index : index + 1]))
        used += len(seen)
    x = squash(subsampled(squash(torch.cat(maps, dim=1)), params["s4"]))
    x = squash(convolved(x, params["c5"])).flatten(1)
    x = squash(linear(torch, x, params["f6"]))
    if model.output == "dense":
        return linear(torch, x, params["output"])
    return -(torch.cdist(x, torch.tensor(codes(model.num_classes), dtype=x.dtype), compute_mode=EXACT) ** 2)


EXACT = "donot_use_mm_for_euclid_dist"


def soares_in_keras(model, shape, dtype):
    """Keras' own initial weights go through a file; its gradients go across by the same table."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    keras.config.set_dtype_policy(dtype)
    layers = keras.layers

    class Dense(layers.Dense):
        """Keras' matrix product rounds to float32; PyTorch's, which it is made of, does not."""

        def call(self, inputs, training=None):
            return self.activation(torch.matmul(inputs, self.kernel.value) + self.bias.value)

    dense = layers.Dense if dtype == "float32" else Dense
    network = keras.Sequential(
        [
            keras.Input(shape, dtype=dtype),
            layers.Conv2D(32, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(64, 5, activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            dense(64, activation="relu"),
            dense(18),
        ]
    )
    rng = np.random.default_rng(3)
    # Keras begins with biases of zero, which would hide one that is not read.
    network.set_weights([w + 0.1 * rng.normal(size=w.shape).astype(dtype) for w in network.get_weights()])
    model = model.clone(dtype=jnp.dtype(dtype))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "soares.weights.h5"
        network.save_weights(path)
        variables = from_keras(model, path, shape)
    inputs = rng.normal(size=(BATCH, *shape)).astype(dtype)
    weights = cotangent((BATCH, 18), dtype)
    logits = network(torch.tensor(inputs))
    (logits * torch.tensor(weights)).sum().backward()
    names = to_keras(model, variables)
    gradients = [weight.value.grad.numpy() for weight in network.trainable_weights]
    theirs = from_keras(model, dict(zip(names, gradients, strict=True)), shape)["params"]
    return ours(model.apply, variables, inputs, weights), Result(logits.detach().numpy(), theirs)


def cnn_case(name, shape, train=False, **fields):
    model = CNN(**{"features": (4, 6), "hidden": 16, "num_classes": 7, **fields})
    run = partial(compare, partial(cnn_in_torch, train=True) if train else cnn_in_torch, model, shape, train=train)
    return Case("CNN", name, "torch.nn.functional", "torch", run)


def lenet_case(name, size, **fields):
    run = partial(compare, lenet_in_torch, LeNet5(num_classes=10, **fields), (size, size, 1))
    return Case("LeNet-5", name, "torch.nn.functional", "torch", run)


CASES = [
    cnn_case("defaults, 28 x 28", (28, 28, 1)),
    cnn_case("odd sizes", (13, 11, 3)),
    cnn_case("valid padding, kernel 5 x 3", (20, 17, 2), padding="VALID", kernel_size=(5, 3)),
    cnn_case("mean of 3 x 3, tanh", (19, 21, 2), pool="mean", pool_size=3, activation=nn.tanh),
    cnn_case("two convolutions a stage, no pooling", (6, 7, 2), convolutions=2, pool_size=1),
    cnn_case("batch normalisation", (12, 12, 2), norm="batch", convolutions=2),
    cnn_case("batch normalisation, training", (12, 12, 2), norm="batch", train=True),
    cnn_case("layer normalisation", (12, 12, 2), norm="layer"),
    lenet_case("table, codes, 28 x 28", 28, output="rbf"),
    lenet_case("table, dense, 32 x 32", 32),
    lenet_case("full connections", 32, connections="full"),
    Case(
        "PokemonCNN",
        "64 x 64",
        "keras.Sequential",
        "keras",
        partial(soares_in_keras, pokemon_cnn.clone(num_classes=18), (64, 64, 3)),
    ),
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_outputs_and_gradients_are_those_of_the_reference(case, dtype):
    case.check(dtype)


def test_keras_loads_what_is_saved_for_it(tmp_path):
    pytest.importorskip("keras")
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    keras.config.set_dtype_policy("float32")
    model, variables, inputs = set_up(CNN((4, 6), 5, 3, norm="batch"), (12, 12, 2), "float32")
    layers, ours_in_keras = keras.layers, []
    for channels in model.features:
        ours_in_keras.append(layers.Conv2D(channels, 3, padding="same", use_bias=False))
        ours_in_keras.append(layers.BatchNormalization(epsilon=1e-5))
        ours_in_keras += [layers.ReLU(), layers.MaxPooling2D(2)]
    dense = [layers.Flatten(), layers.Dense(5, activation="relu"), layers.Dense(3)]
    network = keras.Sequential([keras.Input((12, 12, 2)), *ours_in_keras, *dense])
    save_keras(model, variables, tmp_path / "ours.weights.h5")
    network.load_weights(tmp_path / "ours.weights.h5")
    expected = network.predict(inputs, verbose=0)
    np.testing.assert_allclose(model.apply(variables, inputs), expected, rtol=1e-5, atol=1e-5)

    again = from_keras(model, tmp_path / "ours.weights.h5", (12, 12, 2))
    jax.tree.map(np.testing.assert_array_equal, again, variables)


KERAS_2 = (("conv2d_9", "conv2d_10", "dense_1", "dense_2"), ("kernel:0", "bias:0"))
NAMED = (("second", "first", "wide", "last"), ("kernel:0", "bias:0"))
# Names of the four layers and of what they hold, and where in the file these lie.
LAYOUTS = {
    "Keras 3": (("conv2d", "conv2d_1", "dense", "dense_1"), ("0", "1"), "layers/{layer}/vars/{part}"),
    "Keras 2": (*KERAS_2, "{layer}/{layer}/{part}"),
    "Keras 2, with optimizer": (*KERAS_2, "model_weights/{layer}/{layer}/{part}"),
    "Keras 2, saved in another model": (*KERAS_2, "model_weights/{layer}/soares/{layer}/{part}"),
    "Keras 2, with names of one's own": (*NAMED, "{layer}/{layer}/{part}"),
    "Keras 1": (("convolution2d_1", "convolution2d_2", "dense_1", "dense_2"), "Wb", "{layer}/{layer}_{part}"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_of_keras_files_is_read(layout, tmp_path):
    h5py = pytest.importorskip("h5py")
    model, variables, _ = set_up(CNN((4, 6), 5, 3), (12, 12, 2), "float32")
    layers, parts, place = LAYOUTS[layout]
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        for ours_, layer in zip(("conv_0", "conv_1", "hidden", "output"), layers, strict=True):
            for kind, part in zip(("kernel", "bias"), parts, strict=True):
                file[place.format(layer=layer, part=part)] = variables["params"][ours_][kind]
        file["optimizer_weights/iterations"] = 7
        if layout != "Keras 3":
            root = file.get("model_weights", file)
            root.attrs["layer_names"] = [name.encode() for name in ("input_1", *layers[:2], "flatten_1", *layers[2:])]
    jax.tree.map(np.testing.assert_array_equal, from_keras(model, path, (12, 12, 2)), variables)
