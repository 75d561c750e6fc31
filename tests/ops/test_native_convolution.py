"""The native operations: the same numbers as NumPy's, wherever JAX can put it."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from ops.convolutions import draw, layout, numpy_convolve

from neuralmon import ops
from neuralmon.ops import native

pytestmark = pytest.mark.skipif(
    not ops.native_status().startswith("native"), reason=f"{ops.native_status()}; the other form is tested beside"
)


def convolve(x, k, strides=(1, 1), padding="SAME", lhs_dilation=None, rhs_dilation=None):
    return ops.conv_general_dilated(x, k, strides, padding, lhs_dilation, rhs_dilation, layout(x.ndim))


def program(x, k, *window):
    """Outputs and both gradients of the sum of outputs * g, compiled anew."""

    def run(x, k, g):
        outputs, pullback = jax.vjp(lambda x, k: convolve(x, k, *window), x, k)
        return outputs, *pullback(g)

    outputs = jax.eval_shape(lambda x, k: convolve(x, k, *window), x, k)
    return jax.jit(run), draw(*outputs.shape, seed=1)


def calls(compiled):
    return compiled.as_text().count('custom_call_target="neuralmon_')


def some_case(seed):
    """A convolution of random sizes with at least one output, seldom a usual one."""
    r = np.random.default_rng(seed)
    while True:
        batch, height, width = r.integers(1, 4), *r.integers(1, 20, 2)
        kernel, strides = tuple(r.integers(1, 6, 2)), tuple(r.integers(1, 4, 2))
        channels = r.choice([1, 2, 3, 5, 8, 15, 16, 17, 24, 33, 48, 65], 2)
        d, k_dilation = ((1, 1) if r.random() < 0.6 else tuple(r.integers(1, 4, 2)) for _ in range(2))
        padding = tuple(tuple(int(p) for p in r.integers(-2, 8, 2)) for _ in range(2))
        sizes = zip((height, width), d, padding, kernel, k_dilation, strict=True)
        rooms = [(n - 1) * a + 1 + sum(p) - (w - 1) * b for n, a, p, w, b in sizes]
        cut = zip((height, width), d, padding, strict=True)
        if min(rooms) > 0 and all((n - 1) * a + 1 + min(p[0], 0) + min(p[1], 0) > 0 for n, a, p in cut):
            x, k = (int(batch), int(height), int(width), int(channels[0])), (*map(int, kernel), *map(int, channels))
            integers = (tuple(map(int, v)) for v in (strides, d, k_dilation))
            strides, d, k_dilation = integers
            return x, k, strides, padding, d, k_dilation


@pytest.mark.parametrize("seed", [*range(24), *(pytest.param(s, marks=pytest.mark.slow) for s in range(24, 400))])
def test_values_and_gradients_are_those_of_numpy(seed):
    x_shape, k_shape, *window = some_case(seed)
    x, k = draw(*x_shape), draw(*k_shape)
    run, g = program(x, k, *window)
    expected = numpy_convolve(*(np.asarray(v, np.float64) for v in (x, k, g)), *window)
    for ours, numpys in zip(run(x, k, g), expected, strict=True):
        np.testing.assert_allclose(ours, numpys, rtol=1e-4, atol=1e-4 * (1 + np.abs(numpys).max()))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["avx2", "portable"])
def test_lesser_instruction_sets_have_the_same_numbers(level):
    node = f"{__file__}::test_values_and_gradients_are_those_of_numpy"
    code = f"""if True:
        import sys, pytest
        from neuralmon import ops
        print(ops.native_status())
        sys.exit(pytest.main(["-q", "-n", "0", {node!r}]))"""
    environment = {**os.environ, "NEURALMON_NATIVE": level}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert f"native operations: {level}" in done.stdout and "24 passed" in done.stdout, done.stdout + done.stderr


def test_it_is_called_for_what_it_covers_and_for_nothing_else(monkeypatch):
    x, k = draw(2, 8, 8, 6), draw(3, 3, 6, 4)

    def count(x, k, *window):
        run, g = program(x, k, *window)
        return calls(run.lower(x, k, g.astype(x.dtype)).compile())

    assert count(x, k) == 3
    assert count(x, k, (2, 2), ((1, 2), (0, -1)), (1, 1), (2, 1)) == 3
    assert count(x, k, (1, 1), ((1, 1), (2, 1)), (2, 2)) == 2  # a kernel's gradient between dilated inputs is XLA's
    assert count(x, draw(1, 1, 6, 4)) == 0  # a matrix product
    assert count(draw(2, 8, 6), draw(3, 6, 4), (1,)) == 0
    assert count(x.astype(jnp.bfloat16), k.astype(jnp.bfloat16)) == 0
    with jax.enable_x64(True):
        assert count(draw(2, 8, 8, 6, dtype=jnp.float64), draw(3, 3, 6, 4, dtype=jnp.float64)) == 0
    with ops.reference():
        assert count(x, k) == 0
    monkeypatch.setenv("NEURALMON_NATIVE", "0")
    assert count(x, k) == 0
    assert ops.native_status() == "no native operations: switched off by NEURALMON_NATIVE=0"


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_vmap_calls_it_once_for_all(axes):
    xs, ks = draw(3, 2, 2, 7, 6, 5), draw(3, 2, 3, 3, 5, 4)
    x, k = (v if axis == 0 else v[0, 0] for v, axis in zip((xs, ks), axes, strict=True))
    gradients = jax.grad(lambda x, k: (convolve(x, k, (2, 1)) ** 2).sum(), argnums=(0, 1))
    mapped = jax.jit(jax.vmap(jax.vmap(gradients, axes), axes))
    assert calls(mapped.lower(x, k).compile()) == 3
    each = jax.jit(gradients)
    for i, j in np.ndindex(3, 2):
        alone = each(*(v[i, j] if axis == 0 else v for v, axis in zip((x, k), axes, strict=True)))
        for all_of_them, one in zip(mapped(x, k), alone, strict=True):
            np.testing.assert_allclose(all_of_them[i, j], one, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_what_all_maps_share_is_their_sum():
    x, k = draw(3, 2, 6, 6, 5), draw(3, 3, 5, 4)
    shared = jax.grad(lambda k: (jax.vmap(convolve, (0, None))(x, k) ** 2).sum())(k)
    each = [jax.grad(lambda k, i=i: (convolve(x[i], k) ** 2).sum())(k) for i in range(3)]
    np.testing.assert_allclose(shared, sum(each), rtol=1e-4, atol=1e-4)


def test_an_export_does_not_need_it():
    run, g = program(draw(2, 8, 8, 6), draw(3, 3, 6, 4))
    arguments = draw(2, 8, 8, 6), draw(3, 3, 6, 4), g
    exported = jax.export.export(run)(*arguments)
    assert "custom_call" not in exported.mlir_module()
    for ours, theirs in zip(exported.call(*arguments), run(*arguments), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_without_the_library_it_says_so_and_xla_convolves(monkeypatch, tmp_path):
    x, k = draw(2, 8, 8, 6), draw(3, 3, 6, 4)
    expected = jax.jit(convolve)(x, k)
    try:
        monkeypatch.setattr(native, "_FOLDER", tmp_path)
        native._loaded.cache_clear()
        assert "it was not compiled; `python hatch_build.py`" in ops.native_status()
        run = jax.jit(lambda x, k: convolve(x, k))
        assert calls(run.lower(x, k).compile()) == 0
        np.testing.assert_allclose(run(x, k), expected, rtol=1e-4, atol=1e-5)
        (tmp_path / native.files.LIBRARY).write_bytes(b"no library")
        native._loaded.cache_clear()
        assert "does not load: " in ops.native_status()
    finally:
        native._loaded.cache_clear()


def digest():
    x, k = draw(8, 16, 16, 16), draw(3, 3, 16, 16)
    run, g = program(x, k)
    return hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in run(x, k, g))).hexdigest()


@pytest.mark.slow
def test_the_bits_do_not_depend_on_the_number_of_threads():
    code = """if True:
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        from ops import test_native_convolution
        print(test_native_convolution.digest())"""
    tests = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == digest() == digest(), done.stderr
