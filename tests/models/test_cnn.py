"""CNN, LeNet-5 and their weights for Keras: parameters as published, shapes, what is refused."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.cnn import from_keras, to_keras
from neuralmon.models import CNN, LeNet5, lenet5, pokemon_cnn
from neuralmon.models.lenet import TABLE, TableConvolution, codes, scaled_tanh


def shapes(model, *shape):
    return jax.eval_shape(functools.partial(model.init, jax.random.key(0)), jnp.zeros((2, *shape)))


def drawn(model, *shape):
    """Returns random variables of which none is zero; nothing is compiled for them."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (rng.normal(size=leaf.shape) / np.sqrt(leaf.size**0.5)).astype(np.float32), shapes(model, *shape)
    )


def counts(variables):
    return {
        name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(layer))
        for name, layer in variables["params"].items()
    }


def test_lenet5_has_the_papers_parameters_in_each_layer():
    published = {"c1": 156, "s2": 12, "c3": 1_516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert counts(shapes(lenet5.clone(num_classes=10), 28, 28, 1)) == published
    assert sum(published.values()) == 60_000
    dense = shapes(LeNet5(num_classes=10), 32, 32, 1)
    assert counts(dense) == {**published, "output": 850}
    full = shapes(LeNet5(num_classes=10, connections="full", output="rbf"), 32, 32, 1)
    assert counts(full) == {**published, "c3": 2_416}


def test_the_table_is_the_papers():
    """Table I by its columns: the first six maps see three neighbours, and so on."""
    rings = [{(start + step) % 6 for step in range(width)} for width in (3, 4) for start in range(6)]
    pairs = [{0, 1, 3, 4}, {1, 2, 4, 5}, {2, 3, 5, 0}, set(range(6))]
    assert [set(seen) for seen in TABLE] == rings + pairs
    assert sum(map(len, TABLE)) == 60
    assert all(sum(source in seen for seen in TABLE) == 10 for source in range(6))


def test_a_map_of_c3_depends_on_the_maps_that_the_table_says():
    """Each input map is 1 in one image: what it changes."""
    layer, images = TableConvolution(TABLE), np.eye(6, dtype=np.float32)[:, None, None] * np.ones((5, 5, 1), np.float32)
    outputs = jax.jit(layer.apply)(drawn(layer, 5, 5, 6), images) - jax.jit(layer.apply)(
        drawn(layer, 5, 5, 6), 0 * images
    )
    np.testing.assert_array_equal(
        (outputs[:, 0, 0] != 0).T, [[source in seen for source in range(6)] for seen in TABLE]
    )


def test_lenet5_gives_distances_to_codes_and_28_pixels_a_border_of_background():
    small = np.random.default_rng(1).uniform(size=(2, 28, 28, 1)).astype(np.float32)
    small[:, 0, 0] = -0.42
    large = np.full((2, 32, 32, 1), -0.42, np.float32)
    large[:, 2:30, 2:30] = small
    model = lenet5.clone(num_classes=10)
    variables = drawn(model, 28, 28, 1)
    apply = jax.jit(functools.partial(model.apply, capture_intermediates=True))
    logits, state = apply(variables, small)
    f6 = np.asarray(scaled_tanh(state["intermediates"]["f6"]["__call__"][0]))
    distances = ((f6[:, None] - codes(10)) ** 2).sum(axis=-1)
    np.testing.assert_allclose(logits, -distances, rtol=1e-5)
    np.testing.assert_allclose(logits, apply(variables, large)[0], rtol=1e-5)
    assert set(np.unique(codes(10))) == {-1, 1}
    assert len({tuple(code) for code in codes(10)}) == 10


def test_scaled_tanh_is_1_at_1_where_it_bends_most():
    assert scaled_tanh(np.array([1.0, -1.0])).tolist() == pytest.approx([1, -1], abs=1e-4)
    x = np.linspace(0, 3, 301)
    second = np.gradient(np.gradient(1.7159 * np.tanh(2 * x / 3), x), x)
    assert x[np.argmin(second)] == pytest.approx(1, abs=0.02)


def test_pokemon_cnn_is_the_published_network():
    variables = shapes(pokemon_cnn.clone(num_classes=18), 64, 64, 3)
    kernels = {name: layer["kernel"].shape for name, layer in variables["params"].items()}
    flat = 13 * 13 * 64
    assert kernels == {"conv_0": (5, 5, 3, 32), "conv_1": (5, 5, 32, 64), "hidden": (flat, 64), "output": (64, 18)}
    assert sum(counts(variables).values()) == 747_154


@pytest.mark.parametrize(
    ("fields", "shape", "hidden_rows", "layers"),
    [
        ({}, (28, 28, 1), 7 * 7 * 6, ["conv_0", "conv_1"]),
        ({"padding": "VALID"}, (28, 28, 1), 5 * 5 * 6, ["conv_0", "conv_1"]),
        ({"pool_size": 3, "pool": "mean"}, (20, 28, 1), 2 * 3 * 6, ["conv_0", "conv_1"]),
        ({"pool_size": 1}, (5, 4, 1), 5 * 4 * 6, ["conv_0", "conv_1"]),
        ({"convolutions": 2}, (8, 8, 2), 2 * 2 * 6, ["conv_0", "conv_1", "conv_2", "conv_3"]),
        ({"norm": "batch"}, (8, 8, 2), 2 * 2 * 6, ["conv_0", "conv_1", "norm_0", "norm_1"]),
    ],
    ids=str,
)
def test_stages_have_these_layers_and_shapes(fields, shape, hidden_rows, layers):
    params = shapes(CNN((4, 6), 5, 3, **fields), *shape)["params"]
    assert sorted(params) == sorted([*layers, "hidden", "output"])
    assert params["hidden"]["kernel"].shape == (hidden_rows, 5)
    assert ("bias" in params["conv_0"]) == ("norm" not in fields)


def test_batch_statistics_move_in_training_only():
    model, images = CNN((4,), 5, 3, norm="batch"), np.random.default_rng(1).normal(size=(64, 6, 6, 2))
    variables = drawn(model, 6, 6, 2)
    before = variables["batch_stats"]["norm_0"]["mean"]

    @functools.partial(jax.jit, static_argnums=0)
    def mean_after(train):
        _, state = model.apply(variables, images, train=train, mutable=["batch_stats"])
        return state["batch_stats"]["norm_0"]["mean"]

    np.testing.assert_array_equal(mean_after(False), before)
    assert (mean_after(True) != before).all()


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (CNN((4, 4), num_classes=2, padding="VALID"), (2, 9, 28, 1), "9 x 28 pixels are too small .* after stage 2"),
        (CNN((4,), num_classes=2, pool_size=9), (2, 8, 8, 1), "nothing is left of them after stage 1"),
        (LeNet5(num_classes=2), (2, 30, 30, 1), r"32, 32, channels\) or 28 x 28, not \(2, 30, 30, 1\)"),
        (LeNet5(), (2, 28, 28, 1), "num_classes"),
    ],
    ids=["valid", "pool", "size", "classes"],
)
def test_what_does_not_fit_is_said(model, shape, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), jnp.ones(shape))


KERAS = CNN((4, 6), 5, 3, activation=nn.tanh)
SHAPE = (12, 12, 2)


@pytest.fixture(scope="module")
def keras_weights():
    """Weights under the names of Keras 3's files."""
    return to_keras(KERAS, drawn(KERAS, *SHAPE))


@pytest.mark.parametrize("norm", [None, "batch", "layer"])
def test_weights_come_back_from_keras(norm):
    model = KERAS.clone(norm=norm, convolutions=6)
    variables = drawn(model, *SHAPE)
    there = to_keras(model, variables)
    assert there["layers/conv2d_10/vars/0"].shape == (3, 3, 6, 6)
    jax.tree.map(np.testing.assert_array_equal, from_keras(model, there, SHAPE), variables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers/dense_1/vars/1": None}, "dense_1/bias is missing"),
        ({"layers/dense_1/vars/1": None, "layers/dense_1/vars/0": None}, "dense_1/kernel is missing; dense_1/bias is"),
        ({"layers/dense_2/vars/0": np.zeros((3, 3))}, "dense_2/kernel is left over"),
        ({"layers/conv2d_1/vars/0": np.zeros((5, 5, 4, 6))}, r"conv2d_1/kernel \(5, 5, 4, 6\) does not fit .*conv_1/k"),
        ({"layers/conv2d_1/vars/0": np.zeros((6, 4, 3, 3))}, r"conv2d_1/kernel .* in Theano's order .* dim_ordering"),
        ({"layers/batch_normalization/vars/0": np.zeros(4)}, "batch_normalization/gamma is left over"),
    ],
    ids=["bias", "layer", "left over", "shape", "theano", "norm"],
)
def test_weights_of_another_network_are_refused(keras_weights, change, message):
    weights = {name: array for name, array in {**keras_weights, **change}.items() if array is not None}
    with pytest.raises(RequestError, match=message):
        from_keras(KERAS, weights, SHAPE)


def test_a_file_that_is_not_there_is_said(tmp_path):
    pytest.importorskip("h5py")
    with pytest.raises(RequestError, match="there is no such file"):
        from_keras(KERAS, tmp_path / "weights.h5", SHAPE)
