"""Exact sums of numbers and of their squares, as integers that add up over batches.

The variance of numbers around 10,000 with a standard deviation of 1 is the difference of two sums that agree in their
first eight digits, and float32 has seven. A sum around the mean would be sound, but the mean is not known before all
numbers are seen. So each number is cut into digits of base 16, and the products of the digits are summed in int32.
"""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# Powers of 16 that the digits count, and the one above: enough for every number whose square float32 can hold.
_POWERS = range(-21, 17)
_UNITS = np.exp2(4 * np.arange(-21, 18)).astype(np.float32)


def moments(values: Float[Array, "batch columns"], examples: Int[Array, " batch"]) -> Int[Array, "columns d d"]:
    """Returns, for each column, the sum over the examples of the outer product of (1, *digits) with itself.

    A value is the sum of digits from -8 to 8 times powers of 16: exactly if its size is 0 or 2^-60 to 2^66.
    `examples` is 1 for what counts and 0 for padding. Sums of fewer than 2^25 examples cannot overflow. NaN is taken
    for 0.
    """
    values = values.astype(jnp.float32)[..., None]
    # Scaling by a power of two, rounding, and the difference of the two neighbours are all exact in float32.
    units = jnp.round(values / _UNITS)
    # A float32 of so many units, or of infinitely many, is a multiple of 16 of them.
    digits = jnp.where(jnp.abs(units[..., :-1]) < 2**28, units[..., :-1] - 16 * units[..., 1:], 0).astype(jnp.int32)
    row = jnp.concatenate([jnp.ones((*digits.shape[:-1], 1), jnp.int32), digits], axis=-1)
    return jnp.einsum("bki,bkj->kij", row * examples[:, None, None], row)


def squared_deviations(sums: np.ndarray) -> np.ndarray:
    """Returns, for each column of summed `moments`, the sum of squared differences from the mean."""
    return np.array([_squared_deviations(column) for column in np.asarray(sums, np.int64)])


def _squared_deviations(products: np.ndarray) -> float:
    size = len(_POWERS)
    count = int(products[0, 0])
    total = sum(int(digit) << 4 * place for place, digit in enumerate(products[0, 1:]))
    # Digits i and j make units of place i + j: those lie on one diagonal of the mirrored matrix.
    places = [np.trace(products[1:, 1:][::-1], offset) for offset in range(1 - size, size)]
    squares = sum(int(digit) << 4 * place for place, digit in enumerate(places))
    return float(Fraction(count * squares - total**2, max(count, 1)) * Fraction(16) ** (2 * _POWERS[0]))
