"""Dropout: rates, scaling, and rates that are numbers of the program."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.layers import Dropout

ONES = jnp.ones((200, 300))


def apply(rate, inputs=ONES, seed=0, train=True):
    return Dropout(rate).apply({}, inputs, train, rngs={"dropout": jax.random.key(seed)})


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_so_many_are_dropped_and_the_rest_is_scaled_up(rate):
    outputs = np.asarray(apply(rate))
    kept = outputs != 0
    # A binomial frequency of 60,000, within 5 standard deviations.
    assert abs(kept.mean() - (1 - rate)) < 5 * np.sqrt(rate * (1 - rate) / ONES.size)
    np.testing.assert_allclose(outputs[kept], 1 / (1 - rate), rtol=1e-6)
    # Elements are dropped one by one, not in rows or columns.
    assert kept.mean(axis=0).std() < 2 * np.sqrt(rate * (1 - rate) / 200)
    assert kept.mean(axis=1).std() < 2 * np.sqrt(rate * (1 - rate) / 300)


def test_the_limits():
    np.testing.assert_array_equal(apply(0.0), ONES)
    np.testing.assert_array_equal(apply(1.0), 0)
    np.testing.assert_array_equal(apply(None), ONES)


@pytest.mark.parametrize("rate", [None, 0.0, 0.5, 1.0])
def test_an_evaluation_is_untouched_and_needs_no_key(rate):
    outputs = Dropout(rate).apply({}, ONES)
    np.testing.assert_array_equal(outputs, ONES)


def test_no_rate_needs_no_key_and_a_rate_does():
    Dropout(None).apply({}, ONES, True)
    with pytest.raises(Exception, match="dropout"):
        Dropout(0.5).apply({}, ONES, True)


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_a_traced_rate_gives_the_same_as_a_constant(rate):
    traces = []

    @jax.jit
    def traced(rate):
        traces.append(rate)
        return apply(rate)

    for number in (rate, 0.5):
        np.testing.assert_array_equal(traced(number) != 0, apply(number) != 0)
        np.testing.assert_allclose(traced(number), apply(number), rtol=1e-6)
    assert len(traces) == 1


def test_the_key_decides_the_mask():
    np.testing.assert_array_equal(apply(0.5), apply(0.5))
    agreement = np.asarray((apply(0.5) != 0) == (apply(0.5, seed=1) != 0)).mean()
    assert agreement == pytest.approx(0.5, abs=0.02)


def test_several_layers_drop_independently():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return Dropout(0.5)(inputs, True), Dropout(0.5)(inputs, True)

    one, other = Two().apply({}, ONES, rngs={"dropout": jax.random.key(0)})
    assert np.asarray((one != 0) == (other != 0)).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_gradients_flow_through_what_is_kept(rate):
    gradient = jax.grad(lambda inputs: apply(rate, inputs).sum())(ONES)
    np.testing.assert_array_equal(gradient, apply(rate))


def test_the_type_is_kept_and_what_is_dropped_leaves_no_trace():
    assert apply(0.5, ONES.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    dropped = np.asarray(apply(0.5)) == 0
    outputs = apply(0.5, jnp.where(dropped, jnp.nan, ONES))
    np.testing.assert_array_equal(outputs, apply(0.5))
