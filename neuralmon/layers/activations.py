"""Activations that have no name elsewhere."""

import jax
from jaxtyping import Array, Float


def gelu_exact(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns x Phi(x) with the normal distribution function itself, where `nn.gelu` approximates it by a tanh.

    Source: Hendrycks & Gimpel, "Gaussian Error Linear Units (GELUs)", 2016, section 2.
    """
    return jax.nn.gelu(x, approximate=False)
