"""The native LSTM: the plain loop's numbers for any sizes, however the work is cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon import ops
from neuralmon.layers import LSTMLayer
from neuralmon.ops import native
from neuralmon.ops.native import lstm

pytestmark = pytest.mark.skipif(not native.available(), reason=f"{ops.native_status()}; plain loops are tested beside")


def drawn(*shapes, seed=0, size=1.0):
    r = np.random.default_rng(seed)
    return [(size * r.standard_normal(shape)).astype(np.float32) for shape in shapes]


def arrays(time, batch, features, seed=0):
    projected, matrix, h, c = drawn(
        (time, batch, 4 * features), (features, 4 * features), (batch, features), (batch, features), seed=seed
    )
    return projected, matrix / np.float32(np.sqrt(features)), h, c


def in_numpy(projected, matrix, h, c, reverse=False):
    """Hidden states, cell states and gates in float64."""
    projected, matrix, h, c = (np.asarray(array, np.float64) for array in (projected, matrix, h, c))
    kept = []
    for now in projected[::-1] if reverse else projected:
        i, f, g, o = np.split(now + h @ matrix, 4, axis=-1)
        i, f, g, o = 1 / (1 + np.exp(-i)), 1 / (1 + np.exp(-f)), np.tanh(g), 1 / (1 + np.exp(-o))
        c = f * c + i * g
        h = o * np.tanh(c)
        kept.append((h, c, np.concatenate([i, f, g, o], axis=-1)))
    return [np.stack(every)[:: -1 if reverse else 1] for every in zip(*kept, strict=True)]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 16), (7, 3, 32), (5, 37, 48), (3, 70, 112), (20, 19, 128)])
def test_states_and_gates_are_numpys(sizes, reverse):
    operands = arrays(*sizes)
    for ours, theirs in zip(lstm.forward(*operands, reverse=reverse), in_numpy(*operands, reverse), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-6)


def test_gates_are_exact_to_a_few_units_and_end_at_their_limits():
    size, r = 16, np.random.default_rng(0)
    values = np.concatenate([r.uniform(-9, 9, 4000), 10.0 ** r.uniform(-30, 2.5, 4000), [0, 88, -88, 1e30, -1e30]])
    values = np.resize(values, (128, 4 * size, size)).astype(np.float32)
    projected = np.concatenate([values] * 4, axis=-1)
    zeros = np.zeros((4 * size, size), np.float32)
    _, _, gates = lstm.forward(projected, np.zeros((size, 4 * size), np.float32), zeros, zeros)
    i, f, g, o = np.split(np.asarray(gates), 4, axis=-1)
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-values.astype(np.float64)))
    for gate in (i, f, o):
        np.testing.assert_allclose(gate, expected, rtol=4e-7, atol=1e-37)
    np.testing.assert_allclose(g, np.tanh(values.astype(np.float64)), rtol=4e-7)


def test_what_is_not_a_number_stays_in_its_example():
    projected, matrix, h, c = arrays(3, 20, 16)
    projected[1, 5, 3] = np.nan
    hidden, *_ = map(np.asarray, lstm.forward(projected, matrix, h, c))
    assert np.isfinite(hidden[0]).all() and np.isnan(hidden[2, 5]).all()
    assert np.isfinite(np.delete(hidden, 5, axis=1)).all()


def run(reverse, operands):
    projected, matrix, h, c = operands
    final, hidden = ops.lstm(projected, matrix, {"hidden": h, "cell": c}, reverse)
    return hidden, final["hidden"], final["cell"]


def gradients(reverse, operands, weights):
    return jax.vjp(functools.partial(run, reverse), operands)[1](weights)[0]


def weights(time, batch, features):
    return tuple(drawn((time, batch, features), (batch, features), (batch, features), seed=1))


def with_and_without(function, *args):
    """The results of a function, and those of it inside `reference()`."""

    def plain(*args):
        with ops.reference():
            return function(*args)

    return jax.jit(lambda *args: (function(*args), plain(*args)))(*args)


def close(ours, theirs, tolerance):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", [(1, 2, 16), (6, 37, 48), (9, 19, 112)])
def test_gradients_are_those_of_the_plain_loop(sizes, reverse):
    def both(operands, weights):
        return run(reverse, operands), gradients(reverse, operands, weights)

    close(*with_and_without(both, arrays(*sizes), weights(*sizes)), 3e-6)


def test_it_is_the_native_form_that_runs():
    text = jax.jit(gradients, static_argnums=0).lower(False, arrays(2, 3, 16), weights(2, 3, 16)).as_text()
    assert "@neuralmon_lstm(" in text and "@neuralmon_lstm_gradients(" in text


def test_second_derivatives_and_vmap_are_those_of_the_plain_loop():
    sizes = 3, 2, 16
    stacked = jax.tree.map(lambda *every: np.stack(every), *(arrays(*sizes, seed=seed) for seed in range(2)))

    def penalty(operands):
        slopes = gradients(False, operands, weights(*sizes))
        return sum((jnp.sin(slope) * slope).sum() for slope in slopes)

    close(*with_and_without(jax.vmap(jax.grad(penalty)), stacked), 2e-5)


def test_the_layer_uses_it_with_the_same_outputs_and_gradients():
    layer = LSTMLayer(16, reverse=True)
    inputs = drawn((5, 4, 3))[0]
    shapes = jax.eval_shape(layer.init, jax.random.key(0), inputs)
    params = jax.tree.map(lambda leaf: drawn(leaf.shape, size=0.3)[0], shapes)

    def both(params, inputs):
        def loss(params, inputs):
            outputs, state = layer.apply(params, inputs)
            return (outputs**2).sum() + state["cell"].sum()

        return layer.apply(params, inputs), jax.grad(loss, argnums=(0, 1))(params, inputs)

    close(*with_and_without(both, params, inputs), 3e-6)


def test_an_example_alone_gets_the_same_bits_as_among_others():
    sizes = 4, 70, 32
    projected, matrix, h, c = arrays(*sizes)
    g = weights(*sizes)

    def whole(projected, h, c, g):
        kept = lstm.forward(projected, matrix, h, c)
        d_projected, _, *d_state = lstm.backward(kept[2], *kept[:2], h, c, matrix, *g)
        return (*kept, d_projected, *d_state)

    one = slice(41, 42)
    alone = whole(projected[:, one], h[one], c[one], (g[0][:, one], g[1][one], g[2][one]))
    for ours, theirs in zip(whole(projected, h, c, g), alone, strict=True):
        np.testing.assert_array_equal(np.asarray(ours)[..., one, :], theirs)
