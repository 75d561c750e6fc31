"""Initialisers: JAX's own values, and a name and a value of their own."""

import copy
import pickle

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers

from neuralmon import layers

PAIRS = {
    "he_normal": (layers.he_normal, initializers.he_normal()),
    "he_uniform": (layers.he_uniform, initializers.he_uniform()),
    "glorot_normal": (layers.glorot_normal, initializers.glorot_normal()),
    "glorot_uniform": (layers.glorot_uniform, initializers.glorot_uniform()),
    "lecun_normal": (layers.lecun_normal, initializers.lecun_normal()),
    "lecun_uniform": (layers.lecun_uniform, initializers.lecun_uniform()),
    "orthogonal": (layers.orthogonal, initializers.orthogonal()),
    "orthogonal, scaled": (layers.Orthogonal(1.4), initializers.orthogonal(1.4)),
    "zeros": (layers.zeros, initializers.zeros),
    "ones": (layers.ones, initializers.ones),
    "constant": (layers.Constant(0.3), initializers.constant(0.3)),
    "normal": (layers.Normal(0.02), initializers.normal(0.02)),
    "fan_out": (
        layers.VarianceScaling(3.0, "fan_out", "normal"),
        initializers.variance_scaling(3.0, "fan_out", "normal"),
    ),
}


# A generator that compiles faster than the default one.
KEY = jax.random.key(3, impl="rbg")


@pytest.mark.parametrize("name", PAIRS)
def test_values_are_those_of_jax_in_any_type(name):
    ours, theirs = PAIRS[name]
    shape = (3, 3, 4, 6)

    @jax.jit
    def draw(key):
        return ours(key, shape), theirs(key, shape, jnp.float32), ours(key, shape, jnp.bfloat16)

    full, expected, half = draw(KEY)
    np.testing.assert_allclose(full, expected, rtol=1e-6, atol=1e-7)
    assert half.dtype == jnp.bfloat16
    half = np.asarray(half, np.float32)
    assert np.isfinite(half).all()
    # Fewer bits are drawn for it, so only the size is the same.
    assert np.sqrt((half**2).mean()) == pytest.approx(np.sqrt((np.asarray(expected) ** 2).mean()), rel=0.2)


@pytest.mark.parametrize("name", PAIRS)
def test_equal_when_they_do_the_same(name):
    initializer = PAIRS[name][0]
    for again in (copy.deepcopy(initializer), pickle.loads(pickle.dumps(initializer)), eval_repr(initializer)):
        assert again == initializer
        assert hash(again) == hash(initializer)
        assert repr(again) == repr(initializer)
    assert isinstance(initializer, layers.Initializer)


def eval_repr(initializer):
    return eval(repr(initializer), vars(layers))


def test_different_when_they_do_not():
    distinct = [
        layers.he_normal,
        layers.he_uniform,
        layers.glorot_normal,
        layers.glorot_uniform,
        layers.lecun_normal,
        layers.lecun_uniform,
        layers.orthogonal,
        layers.Orthogonal(1.4),
        layers.zeros,
        layers.ones,
        layers.Normal(),
        layers.Normal(0.02),
    ]
    assert len(set(distinct)) == len({repr(initializer) for initializer in distinct}) == len(distinct)


@pytest.mark.parametrize("make", [layers.VarianceScaling, layers.Normal, layers.Orthogonal, layers.Constant])
def test_their_numbers_may_be_traced(make):
    traces = []

    @jax.jit
    def draw(number):
        traces.append(number)
        return make(number)(KEY, (4, 3))

    for number in (0.5, 2.0):
        np.testing.assert_allclose(draw(number), make(number)(KEY, (4, 3)), rtol=1e-6)
    assert len(traces) == 1


def test_flax_takes_them():
    dense = nn.Dense(3, kernel_init=layers.he_normal, bias_init=layers.ones)
    assert dense == nn.Dense(3, kernel_init=layers.VarianceScaling(2.0), bias_init=layers.Constant(1.0))
    params = dense.init(jax.random.key(0), jnp.ones((1, 4)))["params"]
    theirs = nn.Dense(3, kernel_init=initializers.he_normal(), bias_init=initializers.ones)
    expected = theirs.init(jax.random.key(0), jnp.ones((1, 4)))["params"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), params, expected)
