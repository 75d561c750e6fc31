"""Spectral normalisation: NumPy's singular values, and the gradient by hand. PyTorch's is in tests/parity."""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.layers import SpectralNorm

KEY = jax.random.key(0, impl="rbg")
LAYERS = {"dense": (nn.Dense(4), (3, 6)), "convolution": (nn.Conv(4, (3, 3)), (3, 5, 5, 2))}


def set_up(name):
    layer, shape = LAYERS[name]
    inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    normalised = SpectralNorm(layer)
    return layer, normalised, inputs, jax.jit(normalised.init)(KEY, inputs)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_divided_by_their_largest_singular_value(name):
    layer, normalised, inputs, variables = set_up(name)
    kernel, bias = (np.asarray(variables["params"]["layer"][key]) for key in ("kernel", "bias"))
    # What is stored is not normalised: the layer's own initialiser made it.
    largest = np.linalg.svd(kernel.reshape(-1, 4), compute_uv=False)[0]
    assert abs(largest - 1) > 0.01

    @jax.jit
    def train(variables):
        def step(state, _):
            return normalised.apply({**variables, **state}, inputs, train=True, mutable=["spectral_norm"])[::-1]

        state, outputs = jax.lax.scan(step, {"spectral_norm": variables["spectral_norm"]}, length=200)
        evaluated, changed = normalised.apply({**variables, **state}, inputs, mutable=["intermediates"])
        expected = layer.apply({"params": {"kernel": kernel / largest, "bias": bias}}, inputs)
        return outputs[-1], evaluated, changed["intermediates"]["sigma"][0], expected

    trained, evaluated, sigma, expected = train(variables)
    assert float(sigma) == pytest.approx(largest, rel=1e-5)
    np.testing.assert_allclose(trained, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(evaluated, expected, rtol=1e-4, atol=1e-5)


def test_the_first_estimate_is_good():
    _, normalised, inputs, variables = set_up("dense")
    _, changed = normalised.apply(variables, inputs, mutable=["intermediates"])
    largest = np.linalg.norm(variables["params"]["layer"]["kernel"], 2)
    assert float(changed["intermediates"]["sigma"][0]) == pytest.approx(largest, rel=0.05)


def test_gradients_take_the_singular_vectors_for_constants():
    """By W of sum(G * W / sigma): (G - sum(G * W) / sigma * u v^T) / sigma, eq. 11 of the paper."""
    _, normalised, inputs, variables = set_up("dense")
    side = np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32)

    @jax.jit
    def gradient(variables):
        def loss(params):
            given = {**variables, "params": params}
            outputs, changed = normalised.apply(given, inputs, train=True, mutable=["spectral_norm"])
            return (outputs * side).sum(), changed

        return jax.grad(loss, has_aux=True)(variables["params"])

    gradients, changed = gradient(variables)
    kernel = np.asarray(variables["params"]["layer"]["kernel"])
    u, v = (np.asarray(changed["spectral_norm"][name]) for name in "uv")
    sigma = v @ kernel @ u
    g = inputs.T @ side
    np.testing.assert_allclose(
        gradients["layer"]["kernel"], (g - (g * kernel).sum() / sigma * np.outer(v, u)) / sigma, rtol=1e-4, atol=1e-5
    )


def test_evaluation_changes_nothing_and_training_needs_its_state():
    _, normalised, inputs, variables = set_up("dense")
    _, changed = normalised.apply(variables, inputs, mutable=["spectral_norm"])
    np.testing.assert_array_equal(changed["spectral_norm"]["u"], variables["spectral_norm"]["u"])
    _, changed = normalised.apply(variables, inputs, train=True, mutable=["spectral_norm"])
    assert (changed["spectral_norm"]["u"] != variables["spectral_norm"]["u"]).any()
    with pytest.raises(Exception, match="spectral_norm"):
        normalised.apply(variables, inputs, train=True)


class Normalised(nn.Module):
    """A classifier all of whose layers are normalised."""

    num_classes: int = 6

    @nn.compact
    def __call__(self, inputs, train=False):
        x = inputs.reshape(inputs.shape[0], -1)
        x = nn.relu(SpectralNorm(nn.Dense(8, name="hidden"), name="hidden_spectral")(x, train))
        return SpectralNorm(nn.Dense(self.num_classes, name="output"), name="output_spectral")(x, train)


@pytest.mark.slow
def test_a_training_carries_the_state(tiny):
    training = dataclasses.replace(tiny.training, steps=60)
    result = nm.train(dataclasses.replace(tiny, model=Normalised(), training=training), workdir=None)
    state = result.state
    for name in ("hidden", "output"):
        own = state.model_state["spectral_norm"][f"{name}_spectral"]
        kernel = np.asarray(state.params[name]["kernel"])
        # The vectors followed the weights, which have changed.
        assert own["v"] @ kernel @ own["u"] == pytest.approx(np.linalg.norm(kernel, 2), rel=0.05)
    assert result.metrics["test"]["accuracy"] > 0.3
