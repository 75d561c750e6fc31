"""What all native operations have in common: derivatives of any order, and one copy on each device."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from neuralmon import ops
from neuralmon.ops import native

pytestmark = pytest.mark.skipif(not native.available(), reason=f"{ops.native_status()}; plain forms are tested beside")

RNG = np.random.default_rng(0)


def drawn(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def attention(shared, cut):
    return ops.attention(cut, shared, shared)


def lstm(shared, cut):
    state = {name: jnp.tanh(cut[0, :, :16]) for name in ("hidden", "cell")}
    return ops.lstm(cut, shared, state)[1]


def convolution(shared, cut):
    return ops.conv_general_dilated(cut, shared, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


# A function, what is the same on all devices, what they share by its axis, and that axis.
CASES = {
    "attention": (attention, drawn(1, 5, 2, 8), drawn(1, 6, 2, 8), 1),
    "lstm": (lstm, drawn(16, 64) / 4, drawn(2, 4, 64), 1),
    "convolution": (convolution, drawn(3, 3, 6, 4), drawn(4, 8, 8, 6), 0),
}
every_case = pytest.mark.parametrize("name", CASES)


@pytest.mark.parametrize("name", ["attention", pytest.param("lstm", marks=pytest.mark.slow), "convolution"])
def test_third_derivatives_are_those_of_the_plain_form(name):
    function, *operands, _ = CASES[name]
    directions = [drawn(*operand.shape) for operand in operands]

    def along(f):
        """The derivative in one direction, in reverse mode."""
        return lambda *o: sum(jnp.vdot(g, d) for g, d in zip(jax.grad(f, (0, 1))(*o), directions, strict=True))

    def third(*operands):
        return along(along(along(lambda *o: jnp.sin(function(*o)).mean())))(*operands)

    with ops.reference():
        plain = jax.jit(third)(*operands)
    np.testing.assert_allclose(jax.jit(third)(*operands), plain, rtol=1e-4)


@pytest.mark.slow
@every_case
def test_within_shard_map_gradients_of_what_is_shared_are_summed(name):
    if jax.device_count() < 2:  # the number of devices is a process's
        node = f"{__file__}::test_within_shard_map_gradients_of_what_is_shared_are_summed[{name}]"
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "slow", node]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert "1 passed" in done.stdout, done.stdout + done.stderr
        return
    function, *operands, axis = CASES[name]
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    whole, own = PartitionSpec(), PartitionSpec(*[None] * axis, "data")
    gradient = jax.grad(lambda shared, cut: (function(shared, cut) ** 2).sum(), (0, 1))
    compiled = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=(whole, own), out_specs=(whole, own)))
    compiled = compiled.lower(*operands).compile()
    assert compiled.as_text().count('custom_call_target="neuralmon_') >= 2
    for ours, alone in zip(compiled(*operands), gradient(*operands), strict=True):
        np.testing.assert_allclose(ours, alone, rtol=1e-4, atol=1e-4)
