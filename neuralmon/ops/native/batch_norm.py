"""The sums of batch normalisation in C++: float32, on CPU, in one sweep each over what is normalised."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Rows = Float[Array, "maps rows channels"]
Channels = Float[Array, "maps channels"]


def moments(x: Rows) -> tuple[Channels, Channels]:
    """Returns the mean and the variance of each channel.

    Raises:
      TypeError: the array is not float32.
      ValueError: it has no rows.
    """
    _check(x)
    results = (jax.ShapeDtypeStruct((x.shape[0], x.shape[2]), jnp.float32),) * 2
    mean, variance = jax.ffi.ffi_call("neuralmon_moments", results)(x)
    return mean, variance


def products(a: Rows, x: Rows, mean: Channels) -> tuple[Channels, Channels]:
    """Returns the sums over rows of `a` and of `a` * (`x` - `mean`).

    Raises:
      TypeError: the arrays are not float32.
      ValueError: they have no rows, or their shapes do not fit.
    """
    _check(a, x, mean)
    results = (jax.ShapeDtypeStruct(mean.shape, jnp.float32),) * 2
    sums, of_products = jax.ffi.ffi_call("neuralmon_products", results)(a, x, mean)
    return sums, of_products


def _check(x: Array, *others: Array) -> None:
    types = {str(array.dtype) for array in (x, *others)}
    if types != {"float32"}:
        raise TypeError(f"the native sums are of float32 arrays, not {', '.join(sorted(types))}")
    shapes = [array.shape for array in (x, *others)]
    if x.ndim != 3 or not x.size or shapes[1:] not in ([], [x.shape, (x.shape[0], x.shape[2])]):
        raise ValueError(f"the native sums are not of shapes {', '.join(map(str, shapes))}")
