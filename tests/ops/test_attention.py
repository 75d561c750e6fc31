"""Attention: its fast form is the plain one, in every derivative."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon import ops

RNG = np.random.default_rng(0)


def drawn(*shapes):
    return [RNG.normal(size=shape) for shape in shapes]


def half_hidden(time):
    mask = np.tril(np.ones((time, time), bool))[None, None]
    mask[..., 2, :] = False  # a query that may look nowhere
    return jnp.asarray(mask)


CASES = {
    "attention": (ops.attention, drawn((2, 5, 3, 4), (2, 7, 3, 4), (2, 7, 3, 6))),
    "masked attention": (
        lambda *operands: ops.attention(*operands, half_hidden(5)),
        drawn((2, 5, 3, 4), (2, 5, 3, 4), (2, 5, 3, 4)),
    ),
}
TOLERANCES = {jnp.float32: 2e-5, jnp.float64: 1e-12}
both_types = pytest.mark.parametrize("dtype", TOLERANCES, ids=lambda dtype: dtype.__name__)
every_case = pytest.mark.parametrize("name", CASES)


def values(function, operands):
    """Returns outputs, gradients, gradients under vmap and within a scan, and the gradient of a gradient's norm."""

    def loss(*operands):
        return jnp.sin(function(*operands)).sum()

    def everything(*operands):
        places = tuple(range(len(operands)))
        gradient = jax.grad(loss, places)
        twice = [jnp.stack([operand, 0.5 * operand]) for operand in operands]
        return {
            "value": function(*operands),
            "gradient": gradient(*operands),
            "vmap": jax.vmap(gradient)(*twice),
            "scan": jax.lax.scan(lambda carry, now: (carry, gradient(*now)), 0, twice)[1],
            "second": jax.grad(lambda *o: sum(jnp.square(g).sum() for g in gradient(*o)), places)(*operands),
        }

    return jax.jit(everything)(*operands)


@both_types
@every_case
def test_the_fast_form_is_the_plain_one(name, dtype):
    function, operands = CASES[name]
    with jax.enable_x64(dtype == jnp.float64):
        operands = [jnp.asarray(operand, dtype) for operand in operands]
        fast = values(function, operands)
        with ops.reference():
            plain = values(function, operands)
        for what in plain:
            for ours, theirs in zip(jax.tree.leaves(fast[what]), jax.tree.leaves(plain[what]), strict=True):
                assert ours.dtype == theirs.dtype == dtype
                scale = max(1.0, float(jnp.abs(theirs).max()))
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCES[dtype] * scale, err_msg=what)


@every_case
def test_the_plain_form_has_forward_derivatives(name):
    function, operands = CASES[name]
    operands = [jnp.asarray(operand, jnp.float32) for operand in operands]
    with ops.reference():
        value, tangent = jax.jvp(function, operands, [jnp.ones_like(operand) for operand in operands])
    assert value.shape == tangent.shape
    assert np.isfinite(tangent).all()


def test_half_precision_keeps_its_type():
    function, operands = CASES["attention"]
    half = [jnp.asarray(operand, jnp.bfloat16) for operand in operands]
    assert function(*half).dtype == jnp.bfloat16


def test_values_are_those_of_the_keys():
    query, key, value = CASES["attention"][1]
    with pytest.raises(ValueError, match=r"values .* \(2, 6, 3, 6\) do not fit keys \(2, 7, 3, 4\)"):
        ops.attention(query, key, value[:, :6])
