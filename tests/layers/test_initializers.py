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
    "scaled residual": (layers.ScaledResidual(0.02, 8), initializers.normal(0.02 / 4)),
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
        layers.ScaledResidual(),
        layers.ScaledResidual(num_layers=24),
    ]
    assert len(set(distinct)) == len({repr(initializer) for initializer in distinct}) == len(distinct)


@pytest.mark.parametrize(
    "make", [layers.VarianceScaling, layers.Normal, layers.ScaledResidual, layers.Orthogonal, layers.Constant]
)
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


def moments(initializer, activation, width, seeds, depth=50, backwards=False):
    """Returns mean squares (seeds, depth + 1): of the inputs of a deep net, and of what comes out of each layer.

    `backwards`: of gradients, on their way from the last layer to the first.
    """

    @jax.jit
    def run(key):
        def layer(x, key):
            kernel_key, mask_key = jax.random.split(key)
            kernel = initializer(kernel_key, (width, width))
            if backwards:  # half of the units pass nothing on
                x = (x * jax.random.bernoulli(mask_key, 0.5, x.shape) if activation is nn.relu else x) @ kernel.T
            else:
                x = activation(x @ kernel)
            return x, (x**2).mean()

        x = jax.random.normal(key, (8, width))
        _, squares = jax.lax.scan(layer, x, jax.random.split(key, depth))
        return jnp.concatenate([(x**2).mean()[None], squares])

    keys = jax.vmap(lambda seed: jax.random.key(seed, impl="rbg"))(jnp.arange(seeds))
    return np.asarray(jax.lax.map(run, keys), np.float64)


LINEAR = lambda x: x  # noqa: E731
# What a layer makes of the mean square of what comes in, in the limit of wide layers exactly, on average at any width:
# He et al. 2015, eq. 9 and 10; Glorot & Bengio 2010, eq. 5; LeCun et al. 1998, sec. 4.6; Saxe et al. 2014, sec. 3.
THEORY = {
    "he_normal, relu": (layers.he_normal, nn.relu, 1),
    "he_uniform, relu": (layers.he_uniform, nn.relu, 1),
    "he_normal, linear": (layers.he_normal, LINEAR, 2),
    "lecun_normal, linear": (layers.lecun_normal, LINEAR, 1),
    "lecun_uniform, linear": (layers.lecun_uniform, LINEAR, 1),
    "lecun_normal, relu": (layers.lecun_normal, nn.relu, 1 / 2),
    "glorot_normal, linear": (layers.glorot_normal, LINEAR, 1),
    "glorot_uniform, linear": (layers.glorot_uniform, LINEAR, 1),
    "glorot_uniform, relu": (layers.glorot_uniform, nn.relu, 1 / 2),
    "orthogonal, linear": (layers.orthogonal, LINEAR, 1),
    "orthogonal x sqrt(2), relu": (layers.Orthogonal(2**0.5), nn.relu, 1),
}
QUICK = ("he_normal, relu", "glorot_uniform, relu")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in THEORY]
)
def test_fifty_wide_layers_keep_or_lose_what_theory_says(name):
    initializer, activation, gain = THEORY[name]
    squares = moments(initializer, activation, width=128, seeds=4)
    gains = squares[:, 1:] / squares[:, :-1]
    # A layer's gain varies by about sqrt(5 / width) of itself from draw to draw (Hanin & Rolnick 2018), so the mean of
    # 50 x 4 of them by 1.4 %.
    assert gains.mean() == pytest.approx(gain, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in THEORY if "orthogonal" not in name])  # whose drawing takes minutes
def test_all_fifty_layers_together(name):
    """Wider, and averaged over more seeds: what is left of the mean square after all of them."""
    initializer, activation, gain = THEORY[name]
    squares = moments(initializer, activation, width=256, seeds=24)
    left = squares[:, -1] / squares[:, 0]
    # Its logarithm varies by about sqrt(5 x 50 / width) = 1 from seed to seed, so that of the mean by 0.3.
    assert np.log(left.mean()) == pytest.approx(50 * np.log(gain), abs=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("initializer", "activation", "gain"),
    [
        (layers.VarianceScaling(2.0, "fan_out"), nn.relu, 1),  # He et al. 2015, eq. 14
        (layers.VarianceScaling(1.0, "fan_out", "uniform"), LINEAR, 1),
        (layers.glorot_normal, LINEAR, 1),
        (layers.glorot_normal, nn.relu, 1 / 2),
    ],
)
def test_gradients_on_their_way_back(initializer, activation, gain):
    squares = moments(initializer, activation, 128, 8, backwards=True)
    assert (squares[:, 1:] / squares[:, :-1]).mean() == pytest.approx(gain, rel=0.05)


def test_fans_are_those_of_the_shape():
    """Variances of kernels that are not square, convolutions included: (height, width, in, out)."""
    shapes = {(300, 500): (300, 500), (3, 5, 40, 60): (600, 900)}

    @jax.jit
    def variances():
        return {
            shape: [layers.VarianceScaling(1.0, mode, kind)(KEY, shape).var()
                    for mode in ("fan_in", "fan_out", "fan_avg") for kind in ("truncated_normal", "uniform")]
            for shape in shapes
        }  # fmt: skip

    for shape, found in variances().items():
        fan_in, fan_out = shapes[shape]
        fans = np.repeat([fan_in, fan_out, (fan_in + fan_out) / 2], 2)
        np.testing.assert_allclose(found, 1 / fans, rtol=0.02)


def test_orthogonal_layers_keep_lengths_and_angles():
    """Through all 50, of every input, not only on average; a wider layer keeps them, a narrower one cannot."""
    x = np.random.default_rng(0).normal(size=(7, 48)).astype(np.float32)

    @jax.jit
    def run(keys):
        def layer(y, key):
            return y @ layers.orthogonal(key, (48, 48)), None

        y, _ = jax.lax.scan(layer, x, keys)
        return y, x @ layers.orthogonal(keys[0], (48, 64))

    for y in run(jax.random.split(KEY, 50)):
        np.testing.assert_allclose(y @ y.T, x @ x.T, rtol=1e-4, atol=1e-3)


def test_residual_branches_add_up_to_the_same_variance_at_any_depth():
    @jax.jit
    def variances():
        """Of what the last layers of 2 L branches add to a stream, for the same input to each."""
        x = jnp.ones(64) / 8
        stddevs = {}
        for num_layers in (1, 8, 48):
            kernels = layers.ScaledResidual(0.02, num_layers)(KEY, (2 * num_layers, 64, 1000))
            stddevs[num_layers] = jnp.einsum("i,bio->o", x, kernels).var()
        return stddevs

    np.testing.assert_allclose(list(variances().values()), 0.02**2, rtol=0.1)
