"""The native attention: NumPy's numbers for any sizes and masks, however the work is cut."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon import ops
from neuralmon.ops import native
from neuralmon.ops.native import attention

pytestmark = pytest.mark.skipif(
    not native.available(), reason=f"{ops.native_status()}; the other form is tested beside"
)

forward, backward = jax.jit(attention.forward), jax.jit(attention.backward)


def drawn(*shapes, seed=0, size=1.0):
    r = np.random.default_rng(seed)
    return [(size * r.standard_normal(shape)).astype(np.float32) for shape in shapes]


def in_numpy(query, key, value, mask, g):
    """Outputs, logarithms and the three gradients in float64, by way of all weights."""
    query, key, value, g = (np.asarray(array, np.float64) for array in (query, key, value, g))
    scale = query.shape[-1] ** -0.5
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) * scale
    scores = scores if mask is None else np.where(mask, scores, -np.inf)
    most = np.maximum(scores.max(-1, keepdims=True), -1e300)
    powers = np.exp(scores - most)
    total = powers.sum(-1, keepdims=True)
    weights = powers / np.where(total > 0, total, 1)
    with np.errstate(divide="ignore"):
        lse = np.where(total > 0, most + np.log(total), -np.inf)[..., 0]
    weight_gradients = np.einsum("bqhd,bkhd->bhqk", g, value)
    rows = (weights * weight_gradients).sum(-1, keepdims=True)
    score_gradients = weights * (weight_gradients - rows) * scale
    return (
        np.einsum("bhqk,bkhd->bqhd", weights, value),
        lse,
        np.einsum("bhqk,bkhd->bqhd", score_gradients, key),
        np.einsum("bhqk,bqhd->bkhd", score_gradients, query),
        np.einsum("bhqk,bqhd->bkhd", weights, g),
    )


def masks(r, batch, heads, queries, keys):
    lengths = r.integers(0, keys + 1, batch)
    return [
        None,
        np.tril(np.ones((queries, keys), bool), keys - queries)[None, None],
        (np.arange(keys) < lengths[:, None])[:, None, None],
        (np.arange(keys) >= lengths[:, None])[:, None, None],
        r.random((batch, 1, queries, keys)) < 0.3,
        r.random((1, heads, queries, 1)) < 0.5,
        r.random((batch, heads, queries, keys)) < 0.05,
        np.zeros((1, 1, 1, 1), bool),
    ]


def check(query, key, value, mask, g, tolerance=3e-6):
    expected = in_numpy(query, key, value, mask, g)
    outputs, lse = forward(query, key, value, mask)
    found = outputs, lse, *backward(query, key, value, mask, outputs, lse, g)
    for ours, theirs in zip(found, expected, strict=True):
        size = max(1.0, np.abs(theirs, where=np.isfinite(theirs), out=np.zeros_like(theirs)).max())
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * size)


@pytest.mark.parametrize("seed", range(16))
def test_values_and_gradients_are_numpys(seed):
    r = np.random.default_rng(seed)
    batch, heads = r.integers(1, 4, 2)
    queries, keys = r.integers(1, 300 if seed < 3 else 70, 2)
    dim, value_dim = r.choice([1, 3, 8, 16, 20, 32, 33, 48, 64], 2)
    shapes = (queries, heads, dim), (keys, heads, dim), (keys, heads, value_dim), (queries, heads, value_dim)
    query, key, value, g = drawn(*((batch, *shape) for shape in shapes), seed=seed)
    check(query, key, value, masks(r, batch, heads, queries, keys)[seed % 8], g)


def test_a_query_that_sees_nothing_gets_zeros_and_gives_no_gradient():
    query, key, value, g = drawn(*[(2, 40, 2, 8)] * 4)
    mask = np.ones((2, 1, 40, 40), bool)
    mask[0, 0, 33] = False
    outputs, lse = forward(query, key, value, mask)
    assert not outputs[0, 33].any() and np.isneginf(lse[0, :, 33]).all() and np.isfinite(lse[1]).all()
    only = np.zeros_like(g)
    only[0, 33] = 1
    assert not any(array.any() for array in backward(query, key, value, mask, outputs, lse, only))


def test_scores_whose_exponentials_are_infinite_are_none_the_worse():
    query, key = drawn(*[(1, 200, 1, 16)] * 2, size=5.0)
    value, g = drawn(*[(1, 200, 1, 16)] * 2, seed=1)
    check(query, key, value, None, g, tolerance=3e-4)  # float32 knows a score of 300 to 3e-5


def test_what_is_not_a_number_stays_in_its_query():
    query, key, value = drawn(*[(1, 40, 1, 8)] * 3)
    query[0, 5] = np.nan
    outputs, lse = forward(query, key, value)
    assert np.isnan(outputs[0, 5]).all() and np.isnan(lse[0, 0, 5])
    assert np.isfinite(np.delete(outputs, 5, axis=1)).all()


def test_an_example_alone_gets_the_same_bits_as_among_others():
    arrays = drawn(*[(24, 64, 4, 32)] * 4)
    mask = np.tril(np.ones((64, 64), bool))[None, None]

    def run(query, key, value, g):
        outputs, lse = forward(query, key, value, mask)
        return outputs, lse, *backward(query, key, value, mask, outputs, lse, g)

    together, alone = run(*arrays), run(*(array[7:8, :, :] for array in arrays))
    for ours, theirs in zip(together, alone, strict=True):
        np.testing.assert_array_equal(ours[7:8], theirs)


@pytest.mark.parametrize("axes", [(0, 0, 0, 0), (None, 0, 0, None), (0, None, None, None), (None, None, None, 0)])
def test_mapped_arrays_give_the_same_bits_as_each_alone(axes):
    shapes = [(3, 2, 5, 2, 4), (3, 2, 7, 2, 4), (3, 2, 7, 2, 6), (3, 2, 1, 5, 7)]
    arrays = [*drawn(*shapes[:3]), np.random.default_rng(0).random(shapes[3]) < 0.5]
    arrays = [array if axis == 0 else array[0] for array, axis in zip(arrays, axes, strict=True)]

    def run(query, key, value, mask):
        outputs, pullback = jax.vjp(lambda *operands: ops.attention(*operands, mask), query, key, value)
        return outputs, *pullback(outputs)

    mapped, alone = jax.jit(jax.vmap(run, axes)), jax.jit(run)
    assert mapped.lower(*arrays).as_text().count("@neuralmon_attention") == 2
    for i in range(3):
        each = alone(*(array[i] if axis == 0 else array for array, axis in zip(arrays, axes, strict=True)))
        for ours, theirs in zip(mapped(*arrays), each, strict=True):
            np.testing.assert_array_equal(ours[i], theirs)


@pytest.mark.parametrize("shape", [(0, 4, 2, 8), (2, 0, 2, 8)])
def test_no_examples_and_no_places_are_no_error(shape):
    (array,) = drawn(shape)
    outputs, lse = forward(array, array, array)
    assert outputs.shape == shape and lse.shape == (shape[0], shape[2], shape[1])
    assert [g.shape for g in backward(array, array, array, None, outputs, lse, array)] == [shape] * 3


def test_without_keys_outputs_are_zeros():
    query, key = drawn((2, 3, 2, 8), (2, 0, 2, 8))
    outputs, lse = forward(query, key, key)
    assert outputs.shape == query.shape and not outputs.any()
    assert not backward(query, key, key, None, outputs, lse, outputs)[0].any()


def test_other_types_are_refused():
    (array,) = drawn((1, 2, 1, 4))
    with pytest.raises(TypeError, match="float32 arrays and a Boolean mask, not bfloat16, float32, float32, bool"):
        attention.forward(jnp.asarray(array, jnp.bfloat16), array, array)
    with pytest.raises(TypeError, match="not float32, float32, float32, float32"):
        attention.forward(array, array, array, jnp.ones((1, 1, 2, 2)))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["avx2", "portable"])
def test_lesser_instruction_sets_give_the_same(level):
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", __file__, "-k", "numpy or nothing or infinite"]
    done = subprocess.run(command, env={**os.environ, "NEURALMON_NATIVE": level}, capture_output=True, text=True)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout + done.stderr
