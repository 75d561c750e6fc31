"""Models as NNX modules: the same outputs, gradients, statistics and dropout, and the weights come back."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from neuralmon.errors import RequestError
from neuralmon.interop.nnx import from_nnx, to_nnx
from neuralmon.models import MLP

POINTS = np.random.default_rng(0).normal(1.0, 2.0, size=(4, 3)).astype(np.float32)


class Net(nn.Module):
    """Statistics, dropout and scanned layers."""

    @nn.compact
    def __call__(self, inputs, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.5, name="norm")(inputs)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        layers = nn.scan(
            lambda dense, x, _: (jnp.tanh(dense(x)), None), {"params": 0}, split_rngs={"params": True}, length=2
        )
        return layers(nn.Dense(x.shape[-1], name="dense"), x, None)[0].sum(axis=-1)


def loss_of(outputs):
    return (outputs**2).mean()


def test_weights_go_in_and_come_back():
    model = MLP((5,), num_classes=2)
    variables = model.init(jax.random.key(0), POINTS)
    wrapped = to_nnx(model, POINTS, variables=variables)
    np.testing.assert_allclose(wrapped(POINTS), model.apply(variables, POINTS), rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, from_nnx(wrapped), variables)
    assert isinstance(wrapped.hidden_0["kernel"], nnx.Param)


def test_a_training_step_is_that_of_linen():
    model = Net()
    variables = jax.jit(model.init)(jax.random.key(0), POINTS)
    wrapped = to_nnx(model, POINTS, variables=variables)
    optimizer = nnx.Optimizer(wrapped, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(wrapped, optimizer):
        loss, gradients = nnx.value_and_grad(lambda wrapped: loss_of(wrapped(POINTS)))(wrapped)
        optimizer.update(wrapped, gradients)
        return loss

    def expected_loss(params):
        return loss_of(model.apply({**variables, "params": params}, POINTS))

    expected, gradients = jax.jit(jax.value_and_grad(expected_loss))(variables["params"])
    np.testing.assert_allclose(step(wrapped, optimizer), expected, rtol=1e-5)
    updated = jax.tree.map(lambda w, g: w - 0.1 * g, variables["params"], gradients)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), from_nnx(wrapped)["params"], updated
    )


def test_training_draws_dropout_and_moves_the_statistics():
    wrapped = to_nnx(Net(), POINTS, rngs=nnx.Rngs(params=0, dropout=1))
    before = from_nnx(wrapped)

    @nnx.jit
    def step(wrapped):
        loss, gradients = nnx.value_and_grad(lambda wrapped: loss_of(wrapped(POINTS, train=True)))(wrapped)
        return loss, gradients

    first, second = step(wrapped)[0], step(wrapped)[0]
    assert first != second  # other units are dropped
    after = from_nnx(wrapped)
    mean = np.zeros(3)
    for _ in range(2):
        mean = 0.5 * mean + 0.5 * POINTS.mean(axis=0)
    np.testing.assert_allclose(after["batch_stats"]["norm"]["mean"], mean, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after["params"], before["params"])
    # Nothing is drawn and nothing moves without `train`.
    np.testing.assert_array_equal(wrapped(POINTS), wrapped(POINTS))
    np.testing.assert_array_equal(
        from_nnx(wrapped)["batch_stats"]["norm"]["mean"], after["batch_stats"]["norm"]["mean"]
    )


def test_new_parameters_are_drawn_from_shapes():
    shape = jax.ShapeDtypeStruct(POINTS.shape, POINTS.dtype)
    models = [to_nnx(MLP((5,), num_classes=2), shape, rngs=seed) for seed in (0, 0, 1)]
    kernels = [np.asarray(from_nnx(model)["params"]["hidden_0"]["kernel"]) for model in models]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).all()


def test_variables_of_another_model():
    model = MLP((5,), num_classes=2)
    variables = MLP((4,), num_classes=2).init(jax.random.key(0), POINTS)
    with pytest.raises(RequestError, match=r"params/hidden_0/bias has the shape \(4,\), not \(5,\)"):
        to_nnx(model, POINTS, variables=variables)
