import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from neuralmon import ops

RNG = np.random.default_rng(0)
DENSE = (((2,), (0,)), ((), ()))
CASES = {
    "places": ((2, 5, 3), (3, 4), DENSE),
    "no places": ((0, 5, 3), (3, 4), DENSE),
    "rows": ((5, 3), (3, 4), (((1,), (0,)), ((), ()))),
    "other axes": ((2, 3, 5), (4, 3), (((1,), (1,)), ((), ()))),
    "batches": ((2, 5, 3), (2, 3, 4), (((2,), (1,)), ((0,), (0,)))),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_laxs_product_with_its_gradients(name):
    lhs, rhs, axes = CASES[name]
    operands = [jnp.asarray(RNG.normal(size=shape), jnp.float32) for shape in (lhs, rhs)]

    def both(dot):
        value, pullback = jax.vjp(lambda *operands: dot(*operands, axes), *operands)
        return value, *pullback(jnp.cos(value))

    for ours, theirs in zip(both(ops.dot_general), both(lax.dot_general), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_places_become_rows_unless_the_plain_definition_is_asked_for():
    def shapes(lhs, rhs):
        jaxpr = jax.make_jaxpr(lambda lhs, rhs: ops.dot_general(lhs, rhs, DENSE))(lhs, rhs)
        (product,) = [one for one in jaxpr.jaxpr.eqns if one.primitive.name == "dot_general"]
        return product.outvars[0].aval.shape

    operands = jnp.ones((2, 5, 3)), jnp.ones((3, 4))
    assert shapes(*operands) == (10, 4)
    with ops.reference():
        assert shapes(*operands) == (2, 5, 4)
