"""`nm.inspect`: what is seen is what is computed, and seeing changes nothing."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.inspection import inspect
from neuralmon.layers import TransformerBlock
from neuralmon.models import CNN, MLP

KEY = jax.random.key(0)
POINTS, IMAGES, WORDS = (
    np.random.default_rng(1).normal(size=shape).astype(np.float32) for shape in ((3, 5), (2, 8, 8, 1), (2, 4, 6))
)


def drawn(model, inputs):
    """Returns variables for a model; initialising them would take a compilation."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, KEY, inputs)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 1.0, leaf.shape).astype(leaf.dtype), shapes)


class Block(nn.Module):
    """A block of a scan, which sows twice."""

    @nn.compact
    def __call__(self, x, _):
        y = nn.Dense(x.shape[-1], name="dense")(x)
        self.sow("intermediates", "gates", nn.sigmoid(y))
        self.sow("intermediates", "gates", nn.tanh(y))
        return x + y, None


class Stack(nn.Module):
    """Scanned blocks, a module that is called twice, one with two outputs, and inputs in a dict."""

    @nn.compact
    def __call__(self, inputs):
        layers = nn.scan(Block, {"params": 0, "intermediates": 0}, split_rngs={"params": True}, length=3)
        x, _ = layers(name="blocks")(inputs["left"], None)
        shared = nn.Dense(2, name="shared")
        return {"left": shared(x), "right": shared(inputs["right"])}


class Normalised(nn.Module):
    """A model with statistics and dropout."""

    @nn.compact
    def __call__(self, inputs, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, name="norm")(inputs)
        return nn.Dropout(0.5, deterministic=not train, name="dropout")(x)


def test_every_layer_of_an_mlp():
    model = MLP((7,), num_classes=3)
    params = drawn(model, POINTS)["params"]
    seen = inspect(model, {"params": params}, POINTS)
    hidden = POINTS @ params["hidden_0"]["kernel"] + params["hidden_0"]["bias"]
    logits = jnp.maximum(hidden, 0) @ params["output"]["kernel"] + params["output"]["bias"]
    np.testing.assert_allclose(seen["hidden_0"], hidden, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(seen["output"], logits, rtol=1e-5, atol=1e-6)
    assert list(seen) == ["hidden_0", "Dropout_0", "output", "MLP"]
    np.testing.assert_array_equal(seen["MLP"], seen.outputs)
    np.testing.assert_array_equal(seen.outputs, model.apply({"params": params}, POINTS))


def test_feature_maps_of_a_cnn_under_jit():
    model = CNN((4, 6), 8, num_classes=3)
    variables = drawn(model, IMAGES)
    seen = jax.jit(lambda variables, images: inspect(model, variables, images, "conv_*"))(variables, IMAGES)
    assert seen.paths == ("conv_0", "conv_1") and seen.kinds == ("output", "output")
    params = variables["params"]["conv_0"]
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    conv = np.einsum("bxycij,ijco->bxyo", windows, params["kernel"]) + params["bias"]
    np.testing.assert_allclose(seen["conv_0"], conv, rtol=1e-4, atol=1e-5)
    assert seen["conv_1"].shape == (2, 4, 4, 6)
    np.testing.assert_allclose(seen.outputs, model.apply(variables, IMAGES), rtol=1e-5, atol=1e-6)


def test_attention_weights_with_a_mask():
    model = TransformerBlock(2, 8)
    variables = drawn(model, WORDS)
    mask = jnp.tril(jnp.ones((4, 4), bool))[None, None]
    seen = inspect(model, variables, WORDS, "attention", mask=mask)
    params = variables["params"]["attention"]
    query, key = (
        (WORDS @ params[name]["kernel"] + params[name]["bias"]).reshape(2, 4, 2, 3) for name in ("query", "key")
    )
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(3)
    expected = np.exp(scores) * np.asarray(mask)
    weights = seen["attention/attention_weights"]
    np.testing.assert_allclose(weights, expected / expected.sum(-1, keepdims=True), rtol=1e-5, atol=1e-6)
    assert dict(zip(seen.paths, seen.kinds, strict=True))["attention/attention_weights"] == "sown"
    assert seen["attention"].shape == WORDS.shape  # without the cache, which is None
    assert not [path for path in seen if path.startswith("feedforward")]


def test_scanned_layers_and_modules_called_twice():
    model, inputs = Stack(), {"left": POINTS, "right": 2 * POINTS}
    variables = drawn(model, inputs)
    seen = inspect(model, variables, inputs)
    params = variables["params"]
    x, gates = POINTS, []
    for layer in range(3):
        y = x @ params["blocks"]["dense"]["kernel"][layer] + params["blocks"]["dense"]["bias"][layer]
        x, gates = x + y, [*gates, (jax.nn.sigmoid(y), jnp.tanh(y))]
    for number in range(2):
        expected = np.stack([gate[number] for gate in gates])
        np.testing.assert_allclose(seen[f"blocks/gates/{number}"], expected, rtol=1e-5, atol=1e-6)
    assert seen["blocks/dense"].shape == (3, *POINTS.shape)
    dense = params["shared"]["kernel"], params["shared"]["bias"]
    np.testing.assert_allclose(seen["shared/0"], x @ dense[0] + dense[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(seen["shared/1"], 2 * POINTS @ dense[0] + dense[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(seen["Stack/right"], seen["shared/1"])


def test_training_changes_neither_outputs_nor_statistics():
    model = Normalised()
    variables = drawn(model, POINTS)
    before = jax.tree.map(np.array, variables)
    rngs = {"dropout": KEY}
    seen = inspect(model, variables, POINTS, train=True, rngs=rngs)
    expected, _ = model.apply(variables, POINTS, train=True, rngs=rngs, mutable=["batch_stats"])
    np.testing.assert_array_equal(seen.outputs, expected)
    jax.tree.map(np.testing.assert_array_equal, variables, before)
    params, stats = variables["params"]["norm"], variables["batch_stats"]["norm"]
    for norm, mean, var in (
        (seen["norm"], POINTS.mean(axis=0), POINTS.var(axis=0)),
        (inspect(model, variables, POINTS)["Normalised"], stats["mean"], stats["var"]),
    ):
        expected = (POINTS - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]
        np.testing.assert_allclose(norm, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("hidden_1", ["hidden_1"]),
        ("hidden_*", ["hidden_0", "hidden_1"]),
        (("output", "hidden_0"), ["hidden_0", "output"]),
        ("*", ["hidden_0", "Dropout_0", "hidden_1", "Dropout_1", "output", "MLP"]),
    ],
)
def test_patterns(patterns, expected):
    model = MLP((4, 4), num_classes=2, dropout=0.5)
    assert list(inspect(model, drawn(model, POINTS), POINTS, patterns)) == expected


def test_what_was_sown_before_is_not_seen_again():
    model = TransformerBlock(2, 8)
    variables = drawn(model, WORDS)
    _, sown = model.apply(variables, WORDS, mutable=["intermediates"])
    assert inspect(model, {**variables, **sown}, WORDS).paths == inspect(model, variables, WORDS).paths


def test_the_table():
    model = MLP((4,), num_classes=2)
    variables = jax.tree.map(jnp.zeros_like, drawn(model, POINTS))
    variables["params"]["output"]["bias"] = jnp.array([1.0, 3.0])
    head, *rows = str(inspect(model, variables, POINTS)).splitlines()
    assert head.split() == ["path", "kind", "shape", "type", "mean", "std"]
    assert rows[0].split() == ["hidden_0", "output", "(3,4)", "float32", "0", "0"]
    assert rows[-1].split() == ["MLP", "output", "(3,2)", "float32", "2", "1"]
    jax.jit(lambda inputs: str(inspect(model, variables, inputs)) and None)(POINTS)  # while tracing, too


MODEL = MLP((4,), num_classes=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda variables: variables["params"], r"MLP have no 'params', only hidden_0, output: give what model\.init"),
        (lambda variables: {}, "have no 'params', only nothing"),
        (
            lambda _: drawn(MLP((4, 3), num_classes=2), POINTS),
            r"not those of this MLP: params/hidden_1/bias is left over, .*kernel has the shape \(3, 2\), not \(4, 2\)",
        ),
        (lambda _: drawn(MLP((), num_classes=2), POINTS), "params/hidden_0/bias is missing"),
    ],
)
def test_variables_of_another_model(change, message):
    with pytest.raises(RequestError, match=message):
        inspect(MODEL, change(drawn(MODEL, POINTS)), POINTS)


def test_other_mistakes():
    variables = drawn(MODEL, POINTS)
    with pytest.raises(RequestError, match="'conv_0' matches nothing in this model: hidden_0"):
        inspect(MODEL, variables, POINTS, ("output", "conv_0"))
    with pytest.raises(KeyError, match="'hidden' is not among what was seen: hidden_0"):
        inspect(MODEL, variables, POINTS)["hidden"]
    with pytest.raises(RequestError, match="looks into Linen modules; function is none"):
        inspect(lambda x: x, variables, POINTS)
    model = Normalised()
    variables = drawn(model, POINTS)
    with pytest.raises(RequestError, match=r"Normalised draws random numbers: give nm\.inspect\(\.\.\., rngs="):
        inspect(model, variables, POINTS, train=True)
    with pytest.raises(RequestError, match="have no batch_stats, which the model reads"):
        inspect(model, {"params": variables["params"]}, POINTS)
