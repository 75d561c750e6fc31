"""Convolution: NumPy's word for values and gradients, JAX's for everything that transforms them."""

import functools
import os
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from ops.convolutions import draw, layout, numpy_convolve

from neuralmon import ops

LAYOUT = ("NHWC", "HWIO", "NHWC")

# input, kernel, strides, padding, input dilation, kernel dilation
CASES = [
    ((2, 8, 8, 1), (3, 3, 1, 5), (1, 1), "SAME", (1, 1), (1, 1)),
    ((2, 9, 7, 3), (5, 3, 3, 4), (2, 1), "SAME", (1, 1), (1, 1)),
    ((2, 9, 8, 3), (3, 2, 3, 4), (2, 3), "VALID", (1, 1), (1, 1)),
    ((2, 9, 9, 2), (3, 3, 2, 4), (2, 2), ((0, 2), (3, 1)), (1, 1), (2, 1)),
    ((2, 6, 6, 6), (3, 3, 6, 4), (1, 1), "SAME", (1, 1), (1, 1)),
    ((3, 7, 6, 5), (3, 2, 5, 4), (1, 1), "VALID", (1, 1), (1, 1)),
    ((2, 8, 7, 6), (3, 3, 6, 4), (2, 2), "SAME", (1, 1), (1, 1)),
    ((2, 8, 9, 6), (3, 4, 6, 2), (3, 2), ((2, 0), (5, 1)), (1, 1), (1, 1)),
    ((2, 9, 9, 6), (2, 2, 6, 3), (3, 3), "VALID", (1, 1), (1, 1)),
    ((2, 8, 8, 6), (3, 3, 6, 4), (1, 1), "SAME", (1, 1), (2, 3)),
    ((2, 9, 9, 6), (3, 3, 6, 4), (2, 2), ((4, 4), (2, 3)), (1, 1), (2, 2)),
    ((2, 4, 5, 6), (4, 3, 6, 3), (1, 1), ((2, 2), (1, 2)), (2, 2), (1, 1)),
    ((2, 4, 4, 2), (4, 4, 2, 3), (1, 2), ((2, 1), (3, 2)), (2, 3), (1, 2)),
    ((2, 8, 8, 6), (3, 3, 6, 4), (1, 1), ((-1, 0), (1, -2)), (1, 1), (1, 1)),
    ((2, 5, 5, 6), (1, 1, 6, 8), (1, 1), "SAME", (1, 1), (1, 1)),
    ((2, 6, 5, 6), (1, 1, 6, 8), (2, 2), "VALID", (1, 1), (1, 1)),
    ((2, 6, 6, 6), (3, 3, 6, 1), (1, 1), "SAME", (1, 1), (1, 1)),
    ((2, 11, 6), (3, 6, 4), (2,), "SAME", (1,), (1,)),
    ((2, 4, 5, 6, 6), (2, 3, 2, 6, 4), (1, 2, 1), "SAME", (1, 1, 1), (1, 1, 1)),
]


def convolve(x, k, strides=(1, 1), padding="SAME", lhs_dilation=None, rhs_dilation=None):
    return ops.conv_general_dilated(x, k, strides, padding, lhs_dilation, rhs_dilation, layout(x.ndim))


def lax_convolve(x, k, strides=(1, 1), padding="SAME", lhs_dilation=None, rhs_dilation=None):
    return lax.conv_general_dilated(x, k, strides, padding, lhs_dilation, rhs_dilation, layout(x.ndim))


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("native", ["0", "1"])
def test_values_and_gradients_are_those_of_numpy(case, native, monkeypatch):
    monkeypatch.setenv("NEURALMON_NATIVE", native)  # read when a program is lowered: each case is one of its own
    x, k, window = draw(*case[0]), draw(*case[1]), case[2:]
    g = draw(*jax.eval_shape(lambda x, k: convolve(x, k, *window), x, k).shape, seed=1)
    expected = numpy_convolve(*(np.asarray(array, np.float64) for array in (x, k, g)), *window)

    @jax.jit
    def run(x, k, g):
        outputs, pullback = jax.vjp(lambda x, k: convolve(x, k, *window), x, k)
        return outputs, *pullback(g)

    for ours, numpys in zip(run(x, k, g), expected, strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=1e-4, atol=1e-4)


def test_values_and_gradients_are_those_of_torch():
    torch = pytest.importorskip("torch")
    x, k = draw(2, 9, 9, 6), draw(3, 3, 6, 4)
    tx = torch.tensor(np.asarray(x).transpose(0, 3, 1, 2), requires_grad=True)
    tk = torch.tensor(np.asarray(k).transpose(3, 2, 0, 1), requires_grad=True)
    theirs = torch.nn.functional.conv2d(tx, tk, stride=2, padding=1)
    outputs, pullback = jax.vjp(lambda x, k: convolve(x, k, (2, 2), ((1, 1), (1, 1))), x, k)
    theirs.backward(theirs.detach())
    dx, dk = pullback(outputs)
    np.testing.assert_allclose(outputs, theirs.detach().permute(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_allclose(dx, tx.grad.permute(0, 2, 3, 1), atol=1e-4)
    np.testing.assert_allclose(dk, tk.grad.permute(2, 3, 1, 0), atol=1e-4)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_bfloat16_loses_no_more_than_its_own_rounding(channels):
    # 4096 terms: a sum kept in bfloat16 would stop growing at 256.
    x = jnp.ones((1, 64, 64, channels), jnp.bfloat16)
    k = jnp.ones((3, 3, channels, 2), jnp.bfloat16)
    outputs, pullback = jax.vjp(convolve, x, k)
    dx, dk = pullback(jnp.ones_like(outputs))
    assert outputs.dtype == dx.dtype == dk.dtype == jnp.bfloat16
    assert float(outputs[0, 9, 9, 0]) == 9 * channels
    assert float(dk[1, 1, 0, 0]) == 4096


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 8])
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_vmap_is_a_loop(channels, axes):
    x, k = draw(3, 2, 6, 6, channels), draw(3, 3, 3, channels, 4)
    xs, ks = (v if a == 0 else v[0] for v, a in zip((x, k), axes, strict=True))
    gradient = jax.jit(jax.grad(lambda x, k: (convolve(x, k, (2, 2)) ** 2).sum(), argnums=(0, 1)))
    mapped = jax.jit(jax.vmap(gradient, in_axes=axes))(xs, ks)
    for i in range(3):
        alone = gradient(*(v[i] if a == 0 else v for v, a in zip((xs, ks), axes, strict=True)))
        for m, a in zip(mapped, alone, strict=True):
            np.testing.assert_allclose(m[i], a, atol=1e-4)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_second_derivatives_are_those_of_lax(channels):
    x, k = draw(2, 6, 5, channels), draw(3, 3, channels, 4)

    def penalty(convolve):
        slope = jax.grad(lambda x, k: jnp.sin(convolve(x, k, (2, 1))).sum())
        return jax.jit(jax.grad(lambda x, k: (slope(x, k) ** 2).sum(), argnums=(0, 1)))(x, k)

    for ours, theirs in zip(penalty(convolve), penalty(lax_convolve), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [pytest.param(1, marks=pytest.mark.slow), 8])
def test_remat_inside_scan_changes_nothing(channels):
    x, k = draw(2, 6, 6, channels), draw(3, 3, channels, channels)

    def loss(k, convolve):
        def body(x, _):
            return jnp.tanh(convolve(x, k)), None

        return (lax.scan(jax.checkpoint(body), x, length=3)[0] ** 2).sum()

    ours = jax.jit(jax.grad(functools.partial(loss, convolve=convolve)))(k)
    theirs = jax.jit(jax.grad(functools.partial(loss, convolve=lax_convolve)))(k)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_in_a_loop_every_convolution_of_xla_has_the_layout_that_is_fast_on_cpu(case, monkeypatch):
    monkeypatch.setenv("NEURALMON_NATIVE", "0")
    window = case[2:]

    @jax.jit
    def loop(x, k, steps):
        def body(_, xk):
            dx, dk = jax.grad(lambda x, k: (convolve(x, k, *window) ** 2).sum(), (0, 1))(*xk)
            return xk[0] - dx, xk[1] - dk

        return lax.fori_loop(0, steps, body, (x, k))

    hlo = loop.lower(draw(*case[0]), draw(*case[1]), 3).as_text("hlo")
    spatial = "012"[: len(case[0]) - 2]
    canonical = f"dim_labels=b{spatial}f_{spatial}io->b{spatial}f"
    convolutions = [line for line in hlo.splitlines() if " convolution(" in line]
    assert all(canonical in line for line in convolutions), convolutions


def test_few_channels_and_1x1_kernels_are_matrix_products_on_cpu(monkeypatch):
    monkeypatch.setenv("NEURALMON_NATIVE", "0")
    for channels, size in ((1, 3), (3, 3), (3, 5), (64, 1)):
        x, k = draw(2, 8, 8, channels), draw(size, size, channels, 16)
        gradient = jax.jit(jax.grad(lambda k, x=x: (convolve(x, k) ** 2).sum()))
        assert " convolution(" not in gradient.lower(k).as_text("hlo")


@pytest.mark.parametrize("native", ["0", "1"])
def test_a_gradient_nobody_asked_for_is_no_work(native, monkeypatch):
    monkeypatch.setenv("NEURALMON_NATIVE", native)
    x, k = draw(2, 8, 8, 8), draw(3, 3, 8, 8)
    hlo = jax.jit(jax.grad(lambda k: convolve(x, k).sum())).lower(k).compile().as_text()
    # The kernel's: not the inputs', nor the outputs.
    assert len(re.findall(r" convolution\(| custom-call\(", hlo)) <= 1


@pytest.mark.parametrize("channels", [1, 8])
def test_export_takes_the_plain_form_to_gpu_and_tpu(channels):
    gradient = jax.jit(jax.grad(lambda x, k: (convolve(x, k, (2, 2)) ** 2).sum(), (0, 1)))
    x, k = draw(2, 6, 6, channels), draw(3, 3, channels, 4)
    exported = jax.export.export(gradient, platforms=("cpu", "cuda", "tpu"))(x, k)
    for ours, theirs in zip(exported.call(x, k), gradient(x, k), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)

    plain = jax.jit(jax.grad(lambda x, k: (lax_convolve(x, k, (2, 2)) ** 2).sum(), (0, 1)))

    def convolutions(f):
        module = jax.export.export(f, platforms=("tpu",))(x, k).mlir_module()
        return sorted(re.findall(r"stablehlo.convolution.*?(dim_numbers.*?})", module))

    assert convolutions(gradient) == convolutions(plain) != []


def test_reference_reaches_functions_that_were_jitted_before():
    x, k = draw(2, 6, 6, 8), draw(3, 3, 8, 4)
    f = jax.jit(lambda k: (convolve(x, k) ** 2).sum())
    assert "neuralmon_convolve" in str(jax.make_jaxpr(f)(k))
    with ops.reference():
        assert "neuralmon_convolve" not in str(jax.make_jaxpr(f)(k))
    assert "neuralmon_convolve" in str(jax.make_jaxpr(f)(k))


def test_forward_mode_is_that_of_lax():
    x, k = draw(2, 6, 6, 3), draw(3, 3, 3, 2)
    directions = draw(2, 6, 6, 3, seed=1), draw(3, 3, 3, 2, seed=1)

    def loss(x, k, convolve):
        return jnp.sin(convolve(x, k, (2, 1))).sum()

    for derivative in (
        lambda f: jax.jvp(f, (x, k), directions),
        lambda f: jax.hessian(f, argnums=1)(x, k),
        lambda f: jax.jvp(jax.grad(f, argnums=(0, 1)), (x, k), directions),
    ):
        ours, theirs = (
            jax.jit(lambda form, of=derivative: of(functools.partial(loss, convolve=form)), static_argnums=0)(form)
            for form in (convolve, lax_convolve)
        )
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), ours, theirs)


def test_what_is_not_covered_is_what_lax_makes_of_it():
    x, k = draw(2, 6, 6, 4), draw(3, 3, 2, 4)
    grouped = functools.partial(
        ops.conv_general_dilated, window_strides=(1, 1), padding="SAME", dimension_numbers=LAYOUT, feature_group_count=2
    )
    assert jax.jvp(grouped, (x, k), (x, k))[0].shape == (2, 6, 6, 4)  # forward mode: plain
    channels_first = ops.conv_general_dilated(x.transpose(0, 3, 1, 2), draw(5, 4, 3, 3), (1, 1), [(1, 1)] * 2)
    assert channels_first.shape == (2, 5, 6, 6)
    assert convolve(x[:0], draw(3, 3, 4, 4)).shape == (0, 6, 6, 4)
    with pytest.raises(ValueError, match="feature dimension"):
        convolve(x, k)  # channels do not agree: the message is that of jax.lax


def test_flax_takes_it_as_its_own():
    x = draw(2, 9, 9, 3)
    for settings in ({"strides": 2}, {"padding": "CIRCULAR"}, {"kernel_dilation": 2}):
        theirs = nn.Conv(4, (3, 3), **settings)
        ours = nn.Conv(4, (3, 3), conv_general_dilated=ops.conv_general_dilated, **settings)
        variables = theirs.init(jax.random.key(0), x)
        np.testing.assert_allclose(ours.apply(variables, x), theirs.apply(variables, x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 8])
def test_a_batch_over_two_devices_stays_where_it_is(channels):
    if jax.device_count() < 2:  # the number of devices is a process's
        node = f"{__file__}::test_a_batch_over_two_devices_stays_where_it_is[{channels}]"
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "slow", node]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert "1 passed" in done.stdout, done.stdout + done.stderr
        return
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    over = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    x, k = draw(4, 6, 6, channels), draw(3, 3, channels, 4)
    gradient = jax.jit(jax.grad(lambda k, x: (convolve(x, k, (2, 2)) ** 2).sum()))
    shared = jax.device_put(x, over)
    np.testing.assert_allclose(gradient(k, shared), gradient(k, x), rtol=1e-4, atol=1e-4)
    hlo = gradient.lower(k, shared).compile().as_text()
    assert "all-reduce" in hlo and "all-gather" not in hlo and "all-to-all" not in hlo
    assert 'custom_call_target="neuralmon_' not in hlo  # XLA could not cut a call
