"""Where a token stands, told to a network that would not know."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.fields import Dtype


def sinusoidal_positions(length: int, width: int, dtype: Dtype = jnp.float32) -> Float[Array, "length width"]:
    """Returns PE[pos, 2i] = sin(pos / 10000^(2i / width)) and PE[pos, 2i + 1] = cos of the same.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5.
    """
    angles = np.arange(length)[:, None] / 10000 ** (2 * (np.arange(width) // 2) / width)
    return jnp.asarray(np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles)), dtype)
