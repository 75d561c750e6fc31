"""The step function, with which the first artificial neurons answered."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def step(inputs: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns 1 where an input is above 0, else 0; NaN stays NaN.

    Its slope is 0 everywhere, so nothing before it can be trained by gradients.

    Source: McCulloch & Pitts, "A logical calculus of the ideas immanent in nervous activity", Bulletin of Mathematical
    Biophysics 5, 1943.
    """
    return jnp.heaviside(inputs, jnp.zeros((), inputs.dtype))
