"""Batch normalisation on CPU: the plain definition's and Flax's numbers, statistics and derivatives, for any sizes."""

import functools
import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon import ops
from neuralmon.layers import batch_norm
from neuralmon.ops import native
from neuralmon.ops.native import batch_norm as sums

EPSILON = 1e-5
needs_native = pytest.mark.skipif(not native.available(), reason=ops.native_status())
# One channel, odd numbers of them, many; fewer rows than make up a vector, several blocks of a cache.
SIZES = [(1, 1), (5, 1), (40000, 1), (2, 3, 5, 7), (9, 40, 3), (700, 17, 10), (40, 16), (3000, 64), (64, 1001)]


def draw(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def arrays(*shape, dtype=np.float32):
    """Inputs around 3, and scale and bias."""
    channels = shape[-1:]
    return 2 * draw(*shape, dtype=dtype) + 3, 1 + draw(*channels, seed=1, dtype=dtype) / 2, draw(*channels, dtype=dtype)


def run(x, scale, bias):
    mean, variance = ops.moments(x)
    return ops.normalise(x, mean, variance, scale, bias, EPSILON), mean, variance


def plainly(function):
    """A function inside `reference()`."""

    @functools.wraps(function)
    def plain(*args):
        with ops.reference():
            return function(*args)

    return plain


def loss(x, scale, bias):
    y, mean, variance = run(x, scale, bias)
    return (jnp.sin(y) * draw(*y.shape, seed=2)).sum() + (jnp.cos(mean) + jnp.log1p(variance)).sum()


gradients = jax.grad(loss, (0, 1, 2))


def close(ours, theirs, tolerance):
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=0, atol=tolerance * max(1.0, np.abs(other).max()))


@needs_native
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_sums_are_numpys(shape):
    a, x = draw(2, *shape), draw(2, *shape, seed=1) * 2 + 3
    a, x = (array.reshape(2, -1, shape[-1]) for array in (a, x))
    mean, variance = sums.moments(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(1), rtol=2e-7)
    np.testing.assert_allclose(variance, exact.var(1), rtol=1e-6, atol=1e-12)
    sums_of_a, products = sums.products(a, x, mean)
    centred = exact - np.asarray(mean, np.float64)[:, None]
    size = np.abs(a).sum(1).max()
    np.testing.assert_allclose(sums_of_a, a.sum(1, dtype=np.float64), rtol=0, atol=1e-6 * size)
    np.testing.assert_allclose(products, (a * centred).sum(1), rtol=0, atol=2e-6 * size)


@needs_native
def test_a_large_mean_and_one_that_drifts_cost_the_variance_nothing():
    x = draw(1, 50000, 4) + np.array([0, 1e3, -1e5, 0], np.float32)
    x[..., 3] += np.linspace(0, 1000, 50000)
    mean, variance = sums.moments(x)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(1), rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(variance, exact.var(1), rtol=1e-6)


@pytest.mark.parametrize("shape", SIZES[3:], ids=str)
def test_values_and_gradients_are_the_plain_ones(shape):
    def both(*args):
        return run(*args), gradients(*args)

    close(*jax.jit(lambda *args: (both(*args), plainly(both)(*args)))(*arrays(*shape)), 1e-5)


@pytest.mark.parametrize(
    ("train", "dtype"),
    [
        (True, jnp.float32),
        (True, jnp.bfloat16),
        (False, jnp.float32),
        pytest.param(True, jnp.float64, marks=pytest.mark.slow),
        pytest.param(False, jnp.float64, marks=pytest.mark.slow),
        pytest.param(False, jnp.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_the_layer_is_flaxs_in_value_statistics_and_gradient(train, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        x, scale, bias = arrays(6, 5, 4, 3)
        x = x.astype(dtype)
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": bias, "var": 1 + scale**2}}
        mask = draw(6, 5, 4, 1) > 0
        theirs = nn.BatchNorm(not train, momentum=0.9, dtype=dtype, use_fast_variance=False)

        def results(layer, mask, params, x):
            outputs, after = layer.apply(
                {**variables, "params": params}, x, mask=mask, mutable=["batch_stats", "intermediates"]
            )
            return (jnp.sin(outputs) * x).sum().astype(jnp.float32), (outputs, after)

        for where in (None, mask):
            ours, flax = (
                jax.jit(jax.value_and_grad(functools.partial(results, layer, where), (0, 1), has_aux=True))(
                    variables["params"], x
                )
                for layer in (batch_norm(train, dtype), theirs)
            )
            tolerance = {jnp.bfloat16: 1e-2, jnp.float32: 1e-5, jnp.float64: 1e-7}[dtype]
            for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(flax), strict=True):
                np.testing.assert_allclose(
                    np.asarray(one, np.float64), np.asarray(other, np.float64), rtol=tolerance, atol=30 * tolerance
                )


def test_the_layers_variables_are_flaxs():
    x, key = draw(4, 3), jax.random.key(0)
    init = nn.initializers.normal()
    ours = batch_norm(True, jnp.float32, scale_init=init).init(key, x)
    theirs = nn.BatchNorm(False, scale_init=init).init(key, x)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_forward_mode_second_derivatives_and_vmap_are_the_plain_ones():
    """And all of them of what only some operands are mapped over or differentiated by."""
    operands = arrays(7, 3, 5)
    stacked = jax.tree.map(lambda one: np.stack([one, one + 1]), operands)

    def penalty(*args):
        return sum((jnp.sin(slope) * slope).sum() for slope in gradients(*args))

    def frozen(x, scale, bias):
        return (jnp.sin(ops.normalise(x, bias, jnp.exp(bias), scale, bias, EPSILON)) ** 2).sum()

    def all_of_them(operands, stacked):
        scale = operands[1]
        return {
            "jvp": jax.jvp(run, operands, operands),
            "grad of grad": jax.grad(penalty, (0, 1, 2))(*operands),
            "hessian": jax.hessian(lambda scale: loss(operands[0], scale, operands[2]))(scale),
            "vmap": jax.vmap(gradients)(*stacked),
            "vmap of x": jax.vmap(gradients, (0, None, None))(stacked[0], *operands[1:]),
            "vmap of vmap": jax.vmap(jax.vmap(gradients, (None, 0, None)), (0, None, None))(
                stacked[0], stacked[1], operands[2]
            ),
            "scan": jax.lax.scan(lambda carry, x: (carry, gradients(x, *carry)), operands[1:], stacked[0])[1],
            "remat": jax.grad(jax.checkpoint(loss))(*operands),
            "input of frozen statistics": jax.grad(frozen)(*operands),
            "scale of frozen statistics": jax.grad(frozen, 1)(*operands),
            "all of frozen statistics": jax.grad(frozen, (0, 1, 2))(*operands),
        }

    ours, theirs = jax.jit(lambda *args: (all_of_them(*args), plainly(all_of_them)(*args)))(operands, stacked)
    for name, one in ours.items():
        close(one, theirs[name], 3e-5)
    close(run(*operands), jax.jit(plainly(run))(*operands), 1e-5)  # one operation at a time


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_makes_its_channel_so_and_no_other(bad):
    x, scale, bias = arrays(300, 20)
    x[123, 4] = bad
    (y, mean, _), slopes = jax.jit(lambda *args: (run(*args), gradients(*args)[0]))(x, scale, bias)
    assert not np.isfinite(mean[4])
    assert not np.isfinite(y[:, 4]).any()
    assert np.isfinite(np.delete(y, 4, axis=1)).all()
    assert not np.isfinite(slopes[:, 4]).any()
    assert np.isfinite(np.delete(slopes, 4, axis=1)).all()


def calls(function, *args):
    text = jax.jit(function).lower(*args).as_text()
    return text.count("@neuralmon_moments("), text.count("@neuralmon_products(")


@needs_native
def test_it_is_the_native_form_that_runs_where_it_can(monkeypatch):
    operands = arrays(6, 4, 3)
    assert calls(run, *operands) == (1, 0)
    assert calls(gradients, *operands) == (1, 1)
    assert calls(plainly(gradients), *operands) == (0, 0)
    exported = jax.export.export(jax.jit(gradients))(*operands)
    assert "custom_call" not in exported.mlir_module()
    expected = jax.jit(gradients)(*operands)
    close(exported.call(*operands), expected, 1e-5)
    monkeypatch.setenv("NEURALMON_NATIVE", "0")
    assert calls(lambda *args: gradients(*args), *operands) == (0, 0)
    close(jax.jit(lambda *args: gradients(*args))(*operands), expected, 1e-5)


@needs_native
def test_wrong_arrays_are_refused():
    x = draw(2, 5, 3)
    with pytest.raises(TypeError, match="of float32 arrays, not float16, float32"):
        sums.products(x.astype(np.float16), x, x[:, 0])
    for operands in ((x, x, x), (x[:, 1:], x, x[:, 0]), (x[:, :0], x[:, :0], x[:, 0])):
        with pytest.raises(ValueError, match="not of shapes"):
            sums.products(*operands)


@needs_native
@pytest.mark.slow
@pytest.mark.parametrize("level", ["avx2", "portable"])
def test_lesser_instruction_sets_do_the_same(level):
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", __file__]
    command += ["-k", "sums or mean or plain or finite"]
    done = subprocess.run(command, env={**os.environ, "NEURALMON_NATIVE": level}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_native
@pytest.mark.slow
def test_within_shard_map_it_is_called_on_each_device():
    if jax.device_count() < 2:  # the number of devices is a process's
        node = f"{__file__}::test_within_shard_map_it_is_called_on_each_device"
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "slow", node]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert "1 passed" in done.stdout, done.stdout + done.stderr
        return
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x, scale, bias = arrays(8, 5, 3)
    cut, same = jax.sharding.PartitionSpec("data"), jax.sharding.PartitionSpec()

    def summed(x, scale, bias):
        return jax.grad(lambda *args: (run(*args)[0] ** 3).sum(), (1, 2))(x, scale, bias)

    shared = jax.jit(jax.shard_map(summed, mesh=mesh, in_specs=(cut, same, same), out_specs=same))
    halves = [summed(half, scale, bias) for half in (x[:4], x[4:])]
    assert calls(shared, x, scale, bias)[1] > 0
    close(shared(x, scale, bias), jax.tree.map(jnp.add, *halves), 1e-5)
    # What XLA cuts is left to XLA, which could not cut a call: one batch's statistics over all devices.
    over = jax.sharding.NamedSharding(mesh, cut)
    assert calls(gradients, jax.device_put(x, over), scale, bias) == (0, 0)
    close(jax.jit(gradients)(jax.device_put(x, over), scale, bias), plainly(gradients)(x, scale, bias), 1e-5)
