"""Normalisation: the exact variance, the settings of all models, statistics that keep their type."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.layers import batch_norm, layer_norm

INPUTS = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)
KEY = jax.random.key(0, impl="rbg")


@pytest.mark.parametrize("axis", [0, 1], ids=["batch", "layer"])
def test_small_variances_around_large_means_are_exact(axis):
    """The mean of squares minus the squared mean would lose them all: 3000^2 has no digit left for 1."""
    inputs = INPUTS + 3000
    layer = batch_norm(True, jnp.float32) if axis == 0 else layer_norm(1e-5, jnp.float32)
    outputs, _ = layer.init_with_output(KEY, inputs)
    exact = inputs.astype(np.float64)
    expected = (exact - exact.mean(axis, keepdims=True)) / np.sqrt(exact.var(axis, keepdims=True) + 1e-5)
    np.testing.assert_allclose(outputs, expected, atol=1e-3)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.float64], ids=lambda dtype: dtype.__name__)
def test_running_statistics_keep_their_type_and_a_tenth_of_them_is_new(dtype):
    with jax.enable_x64(dtype == jnp.float64):
        inputs = INPUTS.astype(dtype)
        variables = batch_norm(True, dtype).init(KEY, inputs)
        outputs, after = batch_norm(True, dtype).apply(variables, inputs, mutable=["batch_stats"])
        assert outputs.dtype == dtype
        assert jax.tree.map(lambda leaf: leaf.dtype, after["batch_stats"]) == {"mean": np.float32, "var": np.float32}
        exact = np.asarray(inputs, np.float64)
        np.testing.assert_allclose(after["batch_stats"]["mean"], 0.1 * exact.mean(0), atol=1e-6)
        np.testing.assert_allclose(after["batch_stats"]["var"], 0.9 + 0.1 * exact.var(0), rtol=1e-6)
        _, seen = batch_norm(True, dtype).apply(variables, inputs, capture_intermediates=True, mutable=True)
        assert [one.shape for one in seen["intermediates"]["__call__"]] == [inputs.shape]
        _, kept = batch_norm(False, dtype).apply(variables, inputs, mutable=["batch_stats"])
        jax.tree.map(np.testing.assert_array_equal, kept, {"batch_stats": variables["batch_stats"]})
