"""Pooling: NumPy's word for values, first-maximum gradients, `reduce_window`'s for the rest."""

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from neuralmon import ops

# input, window, strides, padding
CASES = [
    ((2, 8, 6, 3), (2, 2), (2, 2), "VALID"),
    ((2, 9, 7, 3), (2, 3), (2, 3), "VALID"),
    ((2, 8, 6, 3), (2, 2), (2, 2), "SAME"),
    ((2, 8, 6, 3), (2, 2), (2, 2), ((0, 0), (0, 0))),
    ((2, 9, 7, 3), (2, 2), (2, 2), "SAME"),
    ((2, 9, 7, 3), (3, 3), (2, 2), "VALID"),
    ((2, 9, 7, 3), (3, 3), (2, 2), ((1, 1), (0, 2))),
    ((2, 5, 5, 3), (2, 2), None, "VALID"),
    ((6, 6, 3), (2, 2), (2, 2), "VALID"),
    ((6, 6, 3), (3, 3), (2, 2), "SAME"),
    ((2, 2, 6, 6, 3), (3, 2), (3, 2), "VALID"),
    ((2, 9, 3), (4,), (4,), "VALID"),
    ((2, 4, 4, 4, 3), (2, 2, 2), (2, 2, 2), "VALID"),
    ((1, 34, 18, 1), (17, 17), (17, 17), "VALID"),
    ((2, 3, 3, 2), (4, 4), (4, 4), "VALID"),
]


def draw(*shape, dtype=jnp.float32):
    """Small integers: windows full of ties."""
    return jnp.asarray(np.random.default_rng(shape).integers(-2, 3, shape), dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", ["max_pool", "avg_pool"])
def test_values_and_gradients_are_those_of_flax(name, case):
    shape, *window = case
    x = draw(*shape)
    shape = jax.eval_shape(lambda x: getattr(nn, name)(x, *window), x).shape
    g = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)

    def run(pool, x, g):
        outputs, pullback = jax.vjp(lambda x: pool(x, *window), x)
        return outputs, pullback(g)[0]

    ours, theirs = jax.jit(lambda x, g: [run(getattr(kind, name), x, g) for kind in (ops, nn)])(x, g)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-6)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5, atol=1e-6)


def test_values_and_gradients_are_those_of_numpy():
    x = draw(3, 6, 8, 2)
    tiles = np.asarray(x).reshape(3, 3, 2, 4, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(3, 3, 4, 2, 4)
    np.testing.assert_array_equal(ops.max_pool(x, (2, 2), (2, 2)), tiles.max(-1))
    np.testing.assert_array_equal(ops.avg_pool(x, (2, 2), (2, 2)), tiles.mean(-1))
    hit = np.eye(4)[tiles.argmax(-1)]  # argmax: the first in row-major order
    hit = hit.reshape(3, 3, 4, 2, 2, 2).transpose(0, 1, 4, 2, 5, 3).reshape(x.shape)
    gradient = jax.grad(lambda x: ops.max_pool(x, (2, 2), (2, 2)).sum())(x)
    np.testing.assert_array_equal(gradient, hit)


@pytest.mark.parametrize("padding", ["SAME", ((1, 1), (0, 2))])
def test_padding_may_be_left_out_of_the_mean(padding):
    x = draw(2, 7, 7, 3)
    ours = ops.avg_pool(x, (3, 3), (2, 2), padding, count_include_pad=False)
    theirs = nn.avg_pool(x, (3, 3), (2, 2), padding, count_include_pad=False)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("position", range(4))
def test_not_a_number_comes_through(position):
    x = jnp.zeros((1, 2, 2, 1)).at[0, position // 2, position % 2, 0].set(jnp.nan)
    value, pullback = jax.vjp(lambda x: ops.max_pool(x, (2, 2), (2, 2)), x)
    assert jnp.isnan(value).all() and jnp.isnan(ops.max_pool(x, (2, 2), (2, 2))).all()
    assert jnp.isnan(pullback(value)[0]).any()


def test_bfloat16_stays_bfloat16():
    x = draw(2, 32, 32, 3, dtype=jnp.bfloat16)
    for pool in (ops.max_pool, ops.avg_pool):
        y, pullback = jax.vjp(lambda x, pool=pool: pool(x, (16, 16), (16, 16)), x)
        assert y.dtype == pullback(y)[0].dtype == jnp.bfloat16
    mean = np.asarray(x, np.float32).reshape(2, 2, 16, 2, 16, 3).mean((2, 4))
    np.testing.assert_allclose(np.asarray(y, np.float32), mean, rtol=2**-8)


def test_transformations_agree_with_reduce_window():
    x = jax.random.normal(jax.random.key(0), (3, 2, 4, 4, 2))

    @jax.jit
    def results():
        def loss(x):
            return jnp.sin(ops.max_pool(x, (2, 2), (2, 2))).sum()

        curvature = jax.grad(lambda x: (jax.grad(loss)(x) ** 2).sum())
        scanned = lax.scan(lambda x, _: (x - jax.grad(loss)(x), None), x, length=3)[0]
        return jax.vmap(curvature)(x), scanned, jax.grad(jax.checkpoint(loss))(x)

    ours = results()
    with ops.reference():
        theirs = results()
        assert "reduce_window" in str(jax.make_jaxpr(lambda x: ops.max_pool(x, (2, 2), (2, 2)))(x))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_one_program_for_three_platforms():
    gradient = jax.jit(jax.grad(lambda x: ops.max_pool(x, (2, 2), (2, 2)).sum()))
    x = draw(2, 6, 6, 3)
    exported = jax.export.export(gradient, platforms=("cpu", "cuda", "tpu"))(x)
    np.testing.assert_array_equal(exported.call(x), gradient(x))


def test_the_gradient_keeps_a_byte_for_each_window():
    _, pullback = jax.vjp(lambda x: ops.max_pool(x, (2, 2), (2, 2)), draw(2, 8, 8, 3))
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(pullback)) == 2 * 4 * 4 * 3
