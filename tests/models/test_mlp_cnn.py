"""MLP and CNN: outputs and gradients are those of NumPy by hand, on the same weights; what norms and dropout do.

NumPy computes in float64, backward pass included. Ours compute in float32: a sum of n products is off by about
sqrt(n) * 6e-8 of the size of its terms, which for the sums of up to some thousand here is below 1e-5 of the largest
element. So everything has to agree to 1e-4 of its array's largest element. PyTorch is in tests/parity.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.models import CNN, MLP

BATCH, CLASSES = 5, 7

# Odd sizes lose a row or column to each pooling; even kernels pad more behind than before.
MODELS = {
    "softmax regression": (MLP(hidden=(), num_classes=CLASSES), (11,)),
    "mlp": (MLP(hidden=(16, 12), num_classes=CLASSES), (11,)),
    "mlp of images": (MLP(hidden=(16, 9), num_classes=CLASSES), (6, 5, 3)),
    "mlp with tanh": (MLP(hidden=(16, 12), num_classes=CLASSES, activation=nn.tanh), (11,)),
    "cnn": (CNN(features=(4, 6), hidden=16, num_classes=CLASSES), (28, 28, 1)),
    "cnn, odd": (CNN(features=(4, 6), hidden=16, num_classes=CLASSES), (13, 11, 3)),
    "cnn, many channels": (CNN(features=(8,), hidden=9, num_classes=CLASSES), (9, 8, 12)),
    "cnn, 5x5": (CNN(features=(4, 6), hidden=16, num_classes=CLASSES, kernel_size=(5, 5)), (12, 15, 2)),
    "cnn, even kernel": (CNN(features=(4, 6), hidden=16, num_classes=CLASSES, kernel_size=(2, 4)), (10, 9, 3)),
    "cnn, no convolution": (CNN(features=(), hidden=8, num_classes=CLASSES), (4, 5, 2)),
    "cnn with tanh": (CNN(features=(3, 4, 5), hidden=8, num_classes=CLASSES, activation=nn.tanh), (9, 11, 2)),
}
# One of each kind in each run of the tests; the others with `pytest -m slow`.
QUICK = ("softmax regression", "mlp of images", "mlp with tanh", "cnn, odd")


def set_up(name):
    """Returns the model, parameters of which none is zero, inputs and targets."""
    model, shape = MODELS[name]
    generator = np.random.default_rng(len(name))
    inputs = generator.normal(size=(BATCH, *shape)).astype(np.float32)

    def draw(leaf):
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if len(leaf.shape) > 1 else 0.3
        return (scale * generator.normal(size=leaf.shape)).astype(np.float32)

    params = jax.tree.map(draw, jax.eval_shape(model.init, jax.random.key(0), inputs)["params"])
    return model, params, inputs, generator.integers(0, CLASSES, BATCH)


def cross_entropy(logits, targets):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, None], axis=-1).mean()


@functools.cache
def ours(name, dtype=jnp.float32):
    """Returns logits and the gradients of the mean cross-entropy by parameters and by inputs."""

    model, params, inputs, targets = set_up(name)
    model = model.clone(dtype=dtype)

    @jax.jit
    def run(params, inputs):
        def loss(params, inputs):
            logits = model.apply({"params": params}, inputs)
            return cross_entropy(logits, targets), logits

        (by_params, by_inputs), logits = jax.grad(loss, argnums=(0, 1), has_aux=True)(params, inputs)
        return logits, by_params, by_inputs

    return run(params, inputs)


def assert_agree(one, other):
    def check(path, a, b):
        assert a.shape == b.shape, path
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4 * np.abs(b).max(), err_msg=str(path))

    jax.tree_util.tree_map_with_path(check, one, other)


# The same in NumPy: each function returns its outputs and the function that takes gradients back.


def dense(x, params):
    def backward(g):
        return g @ params["kernel"].T, {"kernel": x.T @ g, "bias": g.sum(axis=0)}

    return x @ params["kernel"] + params["bias"], backward


def convolution(x, params):
    """'SAME': im2col, then a matrix product."""
    kernel = params["kernel"]
    rows, columns = kernel.shape[:2]
    height, width = x.shape[1:3]
    above, left = (rows - 1) // 2, (columns - 1) // 2
    padding = ((0, 0), (above, rows - 1 - above), (left, columns - 1 - left), (0, 0))
    padded = np.pad(x, padding)
    windows = [(i, j) for i in range(rows) for j in range(columns)]
    patches = np.stack([padded[:, i : i + height, j : j + width] for i, j in windows], axis=3)
    flat = kernel.reshape(rows * columns, *kernel.shape[2:])

    def backward(g):
        by_padded = np.zeros_like(padded)
        for index, (i, j) in enumerate(windows):
            by_padded[:, i : i + height, j : j + width] += g @ flat[index].T
        by_kernel = np.einsum("bhwkc,bhwo->kco", patches, g).reshape(kernel.shape)
        by_x = by_padded[:, above : above + height, left : left + width]
        return by_x, {"kernel": by_kernel, "bias": g.sum(axis=(0, 1, 2))}

    return np.einsum("bhwkc,kco->bhwo", patches, flat) + params["bias"], backward


def max_pool(x):
    """2x2, what no whole window covers is dropped; gradients go to the first maximum."""
    batch, height, width, channels = x.shape
    rows, columns = height // 2, width // 2
    tiles = x[:, : 2 * rows, : 2 * columns].reshape(batch, rows, 2, columns, 2, channels)
    tiles = tiles.transpose(0, 1, 3, 5, 2, 4).reshape(batch, rows, columns, channels, 4)
    winner = tiles.argmax(axis=-1)

    def backward(g):
        routed = (np.eye(4)[winner] * g[..., None]).reshape(batch, rows, columns, channels, 2, 2)
        result = np.zeros_like(x)
        result[:, : 2 * rows, : 2 * columns] = routed.transpose(0, 1, 4, 2, 5, 3).reshape(
            batch, 2 * rows, 2 * columns, channels
        )
        return result

    return tiles.max(axis=-1), backward


def activate(x, activation):
    if activation is nn.tanh:
        y = np.tanh(x)
        return y, lambda g: g * (1 - y**2)
    assert activation is nn.relu
    return np.maximum(x, 0), lambda g: g * (x > 0)


def in_numpy(model, params, inputs, targets):
    params = jax.tree.map(lambda leaf: leaf.astype(np.float64), params)
    x = inputs.astype(np.float64)
    way_back, by_params = [], {}

    def through(pair):
        way_back.append(pair[1])
        return pair[0]

    def layer(name, function, x):
        y, backward = function(x, params[name])

        def record(g):
            g, by_params[name] = backward(g)
            return g

        way_back.append(record)
        return y

    for name in sorted(name for name in params if name.startswith("conv_")):
        x = layer(name, convolution, x)
        x = through(activate(x, model.activation))
        x = through(max_pool(x))
    shape = x.shape
    x = through((x.reshape(len(x), -1), lambda g: g.reshape(shape)))
    for name in sorted(name for name in params if name.startswith("hidden")):
        x = through(activate(layer(name, dense, x), model.activation))
    logits = layer("output", dense, x)
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    g = (probabilities - np.eye(CLASSES)[targets]) / BATCH
    for backward in reversed(way_back):
        g = backward(g)
    return logits, by_params, g


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_outputs_and_gradients_are_those_of_numpy(name):
    assert_agree(ours(name), in_numpy(*set_up(name)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "cnn, many channels"])
def test_compiled_equals_not_compiled(name):
    compiled = ours(name)
    with jax.disable_jit():
        plain = ours.__wrapped__(name)
    assert_agree(compiled, jax.tree.map(np.asarray, plain))


@pytest.mark.parametrize("name", ["mlp of images", "cnn, odd"])
def test_an_output_depends_on_its_own_example_alone(name):
    model, params, inputs, _ = set_up(name)
    sensitivity = jax.jit(
        jax.vmap(jax.grad(lambda inputs, index: (model.apply({"params": params}, inputs)[index] ** 2).sum()), (None, 0))
    )(inputs, jnp.arange(BATCH))
    depends = np.abs(np.asarray(sensitivity)).reshape(BATCH, BATCH, -1).max(axis=-1) > 0
    np.testing.assert_array_equal(depends, np.eye(BATCH, dtype=bool))


@pytest.mark.parametrize("name", ["mlp of images", pytest.param("cnn, odd", marks=pytest.mark.slow)])
def test_bfloat16_is_close_with_parameters_in_float32(name):
    model, _, inputs, _ = set_up(name)
    initial = jax.eval_shape(model.clone(dtype=jnp.bfloat16).init, jax.random.key(0), inputs)["params"]
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype(jnp.float32)}
    (logits, by_params, _), (expected, expected_by_params, _) = jax.device_get((ours(name, jnp.bfloat16), ours(name)))
    assert {leaf.dtype for leaf in jax.tree.leaves((logits, by_params))} == {np.dtype(np.float32)}
    # bfloat16 has 8 bits: each of the few roundings from input to output is up to 0.4 %.
    assert (logits != expected).any()
    np.testing.assert_allclose(logits, expected, atol=0.03 * np.abs(expected).max())
    for one, other in zip(jax.tree.leaves(by_params), jax.tree.leaves(expected_by_params), strict=True):
        cosine = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
        assert cosine > 0.99


@pytest.mark.parametrize("name", ["mlp of images", "cnn, odd"])
def test_dropout_acts_in_training_only(name):
    model, params, inputs, _ = set_up(name)

    @jax.jit
    def apply(rate, seed):
        def outputs(model, train):
            return model.apply(
                {"params": params}, inputs, train=train, rngs={"dropout": jax.random.key(seed, impl="rbg")}
            )

        dropping = model.clone(dropout=rate)
        return outputs(dropping, True), outputs(dropping, False), outputs(model, True), outputs(model, False)

    dropped, *others = apply(0.5, 0)
    for one in others:
        np.testing.assert_array_equal(one, others[0])
    np.testing.assert_allclose(apply(0.0, 0)[0], others[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(apply(0.5, 0)[0], dropped)
    assert (apply(0.5, 1)[0] != dropped).any()


@pytest.mark.parametrize("norm", ["layer", "batch"])
def test_an_mlps_norms_are_their_formulas(norm):
    """Hidden units of mean 0 and variance 1, over the units or over the batch; running means in evaluations."""
    model = MLP(hidden=(6,), num_classes=2, norm=norm)
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(16, 5)).astype(np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    variables = jax.tree.map(lambda leaf: generator.uniform(0.5, 1.5, leaf.shape).astype(np.float32), shapes)
    assert ("bias" in variables["params"]["hidden_0"]) == (norm == "layer")
    assert variables.keys() == ({"params", "batch_stats"} if norm == "batch" else {"params"})

    @jax.jit
    def apply(variables):
        trained, state = model.apply(variables, inputs, train=True, mutable=["batch_stats"])
        return trained, state, model.apply(variables, inputs)

    trained, state, evaluated = apply(variables)
    layer, scaling = variables["params"]["hidden_0"], variables["params"]["norm_0"]
    sums = inputs @ layer["kernel"] + layer.get("bias", 0)
    axis = 1 if norm == "layer" else 0
    mean, variance = sums.mean(axis, keepdims=True), sums.var(axis, keepdims=True)

    def logits(mean, variance):
        hidden = (sums - mean) / np.sqrt(variance + 1e-5) * scaling["scale"] + scaling["bias"]
        output = variables["params"]["output"]
        return np.maximum(hidden, 0) @ output["kernel"] + output["bias"]

    np.testing.assert_allclose(trained, logits(mean, variance), rtol=1e-4)
    if norm == "layer":
        np.testing.assert_array_equal(trained, evaluated)
        return
    running, moved = variables["batch_stats"]["norm_0"], state["batch_stats"]["norm_0"]
    np.testing.assert_allclose(evaluated, logits(running["mean"], running["var"]), rtol=1e-4)
    np.testing.assert_allclose(moved["mean"], 0.9 * running["mean"] + 0.1 * mean[0], rtol=1e-5)
    np.testing.assert_allclose(moved["var"], 0.9 * running["var"] + 0.1 * variance[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["mlp of images", "cnn, odd"])
def test_an_empty_batch_has_no_logits(name):
    model, params, inputs, _ = set_up(name)
    assert jax.eval_shape(model.apply, {"params": params}, inputs[:0]).shape == (0, CLASSES)


def test_an_mlp_has_the_parameters_it_always_had():
    shapes = jax.eval_shape(MLP(num_classes=10).init, jax.random.key(0), np.zeros((2, 28, 28, 1), np.float32))
    assert {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)} == {
        "params/hidden_0/kernel": (784, 256), "params/hidden_0/bias": (256,),
        "params/output/kernel": (256, 10), "params/output/bias": (10,),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (MLP(), (2, 4), "num_classes"),
        (CNN(), (2, 8, 8, 1), "num_classes"),
        (CNN(num_classes=2), (2, 8, 8), r"\(2, 8, 8\)"),
        (CNN(num_classes=2), (2, 8, 3, 1), "8 x 3 pixels are too small"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_fit_is_said(model, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.ones(shape))
