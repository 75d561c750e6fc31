"""The running average of the parameters against its formula, PyTorch's and optax's."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuralmon.optim.averaging import averaged

STEPS = 40
PARAMS = np.random.default_rng(0).normal(size=(STEPS + 1, 3)).astype(np.float32)


def run(decay, average):
    path = []
    for step in range(STEPS):
        average = averaged(decay, step, average, {"w": jnp.asarray(PARAMS[step + 1])})
        path.append(np.asarray(average["w"]))
    return np.stack(path)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.75, 0.999, 1.0])
def test_the_formula_with_its_warm_up(decay):
    average, path = PARAMS[0].astype(np.float64), []
    for step in range(STEPS):
        d = min(decay, (1 + step) / (10 + step))
        average = d * average + (1 - d) * PARAMS[step + 1]
        path.append(average)
    np.testing.assert_allclose(run(decay, {"w": jnp.asarray(PARAMS[0])}), np.stack(path), rtol=1e-5, atol=1e-6)


def test_after_the_warm_up_it_is_the_average_of_optax():
    start, decay = 8, 0.5  # (1 + 8) / (10 + 8) = 0.5
    average, state = {"w": jnp.zeros(3)}, None
    theirs = optax.ema(decay, debias=False)
    state = theirs.init(average)
    for step in range(start, STEPS):
        params = {"w": jnp.asarray(PARAMS[step])}
        average = averaged(decay, step, average, params)
        expected, state = theirs.update(params, state)
        np.testing.assert_allclose(average["w"], expected["w"], rtol=1e-6, atol=1e-7)


def test_after_the_warm_up_it_is_the_average_of_pytorch():
    torch = pytest.importorskip("torch")
    update = torch.optim.swa_utils.get_ema_multi_avg_fn(0.5)
    theirs, average = [torch.zeros(3)], {"w": jnp.zeros(3)}
    for step in range(8, STEPS):
        average = averaged(0.5, step, average, {"w": jnp.asarray(PARAMS[step])})
        update(theirs, [torch.tensor(PARAMS[step])], None)
        np.testing.assert_allclose(average["w"], theirs[0].numpy(), rtol=1e-6, atol=1e-7)


def test_of_parameters_that_stand_still_it_is_those_by_the_bit():
    params = {"w": jnp.asarray(PARAMS[0]), "none": None}
    for step in range(5):
        assert (np.asarray(averaged(0.99, step, params, params)["w"]) == PARAMS[0]).all()


def test_traced_numbers_give_the_same_and_trace_once():
    traces = []

    @jax.jit
    def traced(decay, step, average, params):
        traces.append(decay)
        return averaged(decay, step, average, params)

    old, new = (
        {"w": jnp.asarray(PARAMS[0]), "half": jnp.ones(2, jnp.bfloat16)},
        {"w": jnp.asarray(PARAMS[1]), "half": jnp.zeros(2, jnp.bfloat16)},
    )
    for decay, step in ((0.999, 0), (0.5, 100), (0.999, 10**6)):
        ours = traced(np.float32(decay), np.int32(step), old, new)
        np.testing.assert_allclose(ours["w"], averaged(decay, step, old, new)["w"], rtol=1e-6)
        assert ours["half"].dtype == jnp.bfloat16
    assert len(traces) == 1
