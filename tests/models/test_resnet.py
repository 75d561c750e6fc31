"""ResNet: sizes, statistics, and how far gradients reach."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.layers import ResidualBlock, ones, zeros
from neuralmon.models import ResNet, resnet18, resnet20, resnet50, resnet110, resnet110_v2
from neuralmon.models.presets import PRESETS

TINY = ResNet((1, 1), features=5, num_classes=3)
IMAGES = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))


def shapes_of(model, shape):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), jnp.float32))


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


QUICK = ("resnet20", "resnet18", "resnet50")
NAMES = [name for name in PRESETS if name.startswith("resnet")]


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_every_preset_has_the_published_size(name):
    preset = PRESETS[name]
    variables = shapes_of(preset.model, preset.inputs.shape)
    assert count(variables["params"]) == preset.num_parameters
    if preset.published:
        digits = len(preset.published.partition(".")[2]) - 1
        assert f"{preset.num_parameters / 1e6:.{digits}f}M" == preset.published
    # Depth is what the name says: convolutions but those of shortcuts, and the output layer.
    layers = [
        path
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
        if leaf.ndim > 1 and "shortcut" not in str(path)
    ]
    assert len(layers) == int(name.removeprefix("resnet").removesuffix("_v2"))


@pytest.mark.parametrize(
    ("model", "size", "expected"),
    [
        (resnet20.clone(stage_sizes=(1, 1, 1)), 32, [(32, 16), (16, 32), (8, 64)]),
        (resnet18.clone(stage_sizes=(1, 1, 1, 1)), 224, [(56, 64), (28, 128), (14, 256), (7, 512)]),
        (resnet50.clone(stage_sizes=(1, 1)), 225, [(57, 256), (29, 512)]),
        (resnet110_v2.clone(stage_sizes=(1, 1)), 1, [(1, 16), (1, 32)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stages_have_the_shapes_of_table_1(model, size, expected):
    def run(inputs):
        _, found = model.clone(num_classes=2).init_with_output(
            jax.random.key(0), inputs, mutable=True, capture_intermediates=True
        )
        return found["intermediates"]

    found = jax.eval_shape(run, jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))
    ends = [f"stage_{stage}_block_{size - 1}" for stage, size in enumerate(model.stage_sizes)]
    assert [found[name]["__call__"][0].shape for name in ends] == [(2, side, side, width) for side, width in expected]


@pytest.mark.parametrize(("stride_in", "strided"), [("first", "conv_0"), ("middle", "conv_1")])
def test_the_stride_of_a_bottleneck(stride_in, strided):
    block = ResidualBlock(features=4, block="bottleneck", stride=2, stride_in=stride_in)
    x = jax.ShapeDtypeStruct((1, 8, 8, 16), jnp.float32)
    _, found = jax.eval_shape(
        lambda x: block.init_with_output(jax.random.key(0), x, mutable=True, capture_intermediates=True), x
    )
    sides = {name: found["intermediates"][name]["__call__"][0].shape[1] for name in ("conv_0", "conv_1", "conv_2")}
    assert sides == {"conv_0": 4 if strided == "conv_0" else 8, "conv_1": 4, "conv_2": 4}


@functools.cache
def tiny():
    """Variables, and `apply` for training and for evaluation."""
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / math.sqrt(math.prod(leaf.shape[:-1]) or 1),
        shapes_of(TINY, (8, 8, 3)),
    )
    variables["batch_stats"] = jax.tree.map(np.exp, variables["batch_stats"])  # above 0
    train = jax.jit(functools.partial(TINY.apply, train=True, mutable=["batch_stats"]))
    evaluate = jax.jit(TINY.apply)
    return variables, train, evaluate


def test_running_statistics_move_towards_those_of_the_batch():
    variables, train, evaluate = tiny()
    logits, new = train(variables, IMAGES)
    old = variables["batch_stats"]
    # conv_stem's outputs by hand: the statistics of the first normalisation.
    kernel = variables["params"]["conv_stem"]["kernel"]
    padded = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)))
    outputs = sum(padded[:, i : i + 8, j : j + 8] @ np.asarray(kernel[i, j]) for i in range(3) for j in range(3))
    start, stem = old["norm_stem"], new["batch_stats"]["norm_stem"]
    np.testing.assert_allclose(stem["mean"], 0.9 * start["mean"] + 0.1 * outputs.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(stem["var"], 0.9 * start["var"] + 0.1 * outputs.var(axis=(0, 1, 2)), rtol=1e-5)

    # Where the running statistics are the batch's, evaluation is training.
    of_batch = jax.tree.map(lambda before, after: (after - 0.9 * before) / 0.1, old, new["batch_stats"])
    settled = evaluate({"params": variables["params"], "batch_stats": of_batch}, IMAGES)
    np.testing.assert_allclose(settled, logits, rtol=1e-4, atol=1e-4)
    assert np.abs(evaluate(variables, IMAGES) - logits).max() > 0.01


def test_an_evaluated_image_is_alone_and_a_trained_one_is_not():
    variables, train, evaluate = tiny()
    others = IMAGES.at[1:].multiply(3)
    np.testing.assert_array_equal(evaluate(variables, IMAGES), evaluate(variables, IMAGES))
    np.testing.assert_allclose(evaluate(variables, others)[0], evaluate(variables, IMAGES)[0], rtol=1e-6)
    assert np.abs(train(variables, others)[0][0] - train(variables, IMAGES)[0][0]).max() > 0.01


def test_zero_padding_takes_pixels_and_adds_channels():
    """Option A, alone: with zeros in the last scale a block begins as its shortcut."""
    block = ResidualBlock(features=5, stride=2, shortcut="zero_padding", kernel_init=ones, last_scale_init=zeros)
    y, _ = jax.jit(lambda x: block.init_with_output(jax.random.key(0), x, train=True))(IMAGES)
    np.testing.assert_array_equal(y[..., :3], np.maximum(IMAGES[:, ::2, ::2], 0))
    np.testing.assert_array_equal(y[..., 3:], 0)


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    half = TINY.clone(dtype=jnp.bfloat16)
    variables, train, _ = tiny()
    logits, new = jax.jit(functools.partial(half.apply, train=True, mutable=["batch_stats"]))(variables, IMAGES)
    exact, _ = train(variables, IMAGES)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((logits, new, shapes_of(half, (8, 8, 3))))}
    assert kinds == {jnp.dtype(jnp.float32)}
    assert (logits != exact).any()
    # 8 bits: each of the few roundings on the way is up to 0.4 %.
    np.testing.assert_allclose(logits, exact, atol=0.05 * np.abs(exact).max())


def growth(block, depth=54, batch=256):
    """Returns how much larger a gradient is before `depth` blocks than behind them, at initialisation.

    On images of one pixel a 3x3 convolution is a matrix, so that the theory of wide layers holds without borders.
    """
    rng = np.random.default_rng(0)
    x, gradient = rng.normal(size=(2, batch, 1, 1, block.features)).astype(np.float32)

    def drawn(path, leaf):
        """He's weights, scales and variances of 1, zeros; to compile initialisers would take longer than all else."""
        if path[-1].key == "kernel":
            weights = rng.normal(size=(depth, *leaf.shape)) * math.sqrt(2 / math.prod(leaf.shape[:-1]))
            return weights.astype(np.float32)
        return np.full((depth, *leaf.shape), float(path[-1].key in ("scale", "var")), np.float32)

    layers = jax.tree_util.tree_map_with_path(drawn, jax.eval_shape(block.init, jax.random.key(0), x))

    @jax.jit
    def run(x, gradient, layers):
        def through(x):
            def one(x, variables):
                return block.apply(variables, x, train=True, mutable=["batch_stats"])[0], None

            return jax.lax.scan(one, x, layers)[0]

        _, backward = jax.vjp(through, x)
        return jnp.linalg.norm(backward(gradient)[0]) / jnp.linalg.norm(gradient)

    return float(run(x, gradient, layers))


def test_gradients_explode_in_a_plain_network_of_110_layers():
    """A normalised ReLU layer multiplies the squared gradient by pi / (pi - 1) (Yang et al. 2019, arXiv:1902.08129).

    Going back, He's weights keep variances and ReLU halves them, 2 * 1/2 = 1; the normalisation divides by the variance
    of what the weights make of relu(N(0, 1)): 2 * (1/2 - 1 / (2 pi)) = 1 - 1 / pi. That for each of 108 layers.
    """
    per_block = growth(ResidualBlock(features=64, shortcut=None)) ** (1 / 54)
    assert per_block == pytest.approx(math.pi / (math.pi - 1), rel=0.03)  # in 54 blocks 9e8, +- a factor of 5


def test_gradients_reach_through_a_residual_network_of_110_layers():
    """x grows by the variance s of F in every block, so that F's part of the gradient falls as 1 / (1 + s l).

    A one-pixel image meets 1 of 9 weights: s = (1 - 1 / pi) / 9. Going back through F is 1/9 for the first weights,
    and for the second the 1/9 that its normalisation takes out: the square of the gradient grows by 1 + a / (1 + s l)
    with a = 1 / (9 (1 - 1 / pi)). The product over 54 blocks is 31, not 1e18.
    """
    s, a = (1 - 1 / math.pi) / 9, 1 / 9 / (1 - 1 / math.pi)
    expected = math.prod(1 + a / (1 + s * block) for block in range(54)) ** 0.5
    assert growth(ResidualBlock(features=64, pre_activation=True)) == pytest.approx(expected, rel=0.15)


@pytest.mark.slow
def test_gradients_reach_through_the_published_block():
    assert growth(ResidualBlock(features=64)) < 200


@pytest.mark.slow
@pytest.mark.parametrize("model", [resnet110, resnet110_v2, resnet110.clone(shortcut=None)], ids=["v1", "v2", "plain"])
def test_gradients_of_the_first_layers_of_resnet110(model):
    model, images = model.clone(features=6, num_classes=3), jax.random.normal(jax.random.key(1), (16, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)

    def loss(params):
        logits, _ = model.apply({**variables, "params": params}, images, train=True, mutable=["batch_stats"])
        return (logits * jax.random.normal(jax.random.key(2), logits.shape)).sum()

    gradients = jax.jit(jax.grad(loss))(variables["params"])
    first, last = (
        jnp.linalg.norm(gradients[f"stage_{stage}_block_{index}"]["conv_1"]["kernel"])
        for stage, index in ((0, 0), (2, 17))
    )
    assert (first / last > 1e3) == (model.shortcut is None), float(first / last)


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (ResNet(), (2, 8, 8, 3), "num_classes"),
        (TINY, (2, 8, 8), r"images \(batch, height, width, channels\), not inputs of \(2, 8, 8\)"),
        (TINY.clone(pre_activation=True, last_scale_init=zeros), (2, 8, 8, 3), "last_scale_init: with pre_activation"),
        (ResidualBlock(features=2, shortcut="zero_padding"), (2, 8, 8, 3), "3 to 2 needs projection"),
    ],
    ids=["no classes", "no images", "no last scale", "fewer channels"],
)
def test_what_does_not_fit_is_said(model, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32))
