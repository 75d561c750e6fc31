"""Pooling without `reduce_window`, whose gradient is 10 times slower on CPU.

Windows that tile their input, by far the most used, are only a reshape: the mean is a reduction
over the new axes, and the maximum one between strided slices, each a corner of all windows.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from neuralmon.ops.reference import is_reference

Padding = str | Sequence[tuple[int, int]]

# Every corner is an operation of its own to compile: 256 of them take seconds.
_MAX_CORNERS = 16


def max_pool(
    inputs: jax.Array, window_shape: Sequence[int], strides: Sequence[int] | None = None, padding: Padding = "VALID"
) -> jax.Array:
    """The maximum over each window; `flax.linen.max_pool`, argument for argument.

    The gradient goes to the first maximum of a window in row-major order, as in `jax.lax`.

    Args:
        inputs: `[*batch, *spatial, channels]`.
        window_shape: the window's size in each spatial dimension.
        strides: step of the window in each spatial dimension (default: all ones).
        padding: "SAME", "VALID" or a (low, high) pair for each spatial dimension.

    Returns:
        `[*batch, *out_spatial, channels]`.
    """
    window = tuple(window_shape)
    if _is_tiled(inputs, window, strides, padding) and math.prod(window) <= _MAX_CORNERS:
        return _tiled_max(_crop(inputs, window), window)
    return _reduce_window(inputs, -jnp.inf, lax.max, window, strides, padding)


def avg_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean over each window; `flax.linen.avg_pool`, argument for argument.

    Args:
        inputs: `[*batch, *spatial, channels]`.
        window_shape: the window's size in each spatial dimension.
        strides: step of the window in each spatial dimension (default: all ones).
        padding: "SAME", "VALID" or a (low, high) pair for each spatial dimension.
        count_include_pad: whether the padding's zeros count as elements of the mean.

    Returns:
        `[*batch, *out_spatial, channels]`.
    """
    window = tuple(window_shape)
    if _is_tiled(inputs, window, strides, padding):
        return _tiled_mean(_crop(inputs, window), window)
    sums = _reduce_window(inputs, 0.0, lax.add, window, strides, padding)
    if count_include_pad:
        return sums / math.prod(window)
    ones = jnp.ones((*inputs.shape[-len(window) - 1 : -1], 1), inputs.dtype)
    return sums / _reduce_window(ones, 0.0, lax.add, window, strides, padding)


def _is_tiled(inputs: jax.Array, window: tuple[int, ...], strides: Sequence[int] | None, padding: Padding) -> bool:
    """Whether windows neither overlap nor leave gaps nor reach beyond the input."""
    if is_reference() or window != tuple(strides or ()) or not jnp.issubdtype(inputs.dtype, jnp.floating):
        return False
    sizes = inputs.shape[-len(window) - 1 : -1]
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(sizes, window, window, padding)
    fits = all(n >= w for n, w in zip(sizes, window, strict=True))
    return fits and all(low == high == 0 for low, high in padding)


def _crop(inputs: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Drop what no whole window covers."""
    sizes = inputs.shape[-len(window) - 1 : -1]
    ends = (slice(n - n % w) for n, w in zip(sizes, window, strict=True))
    return inputs[..., *ends, :]


def _tiled_mean(inputs: jax.Array, window: tuple[int, ...]) -> jax.Array:
    batch = inputs.ndim - len(window) - 1
    sizes = zip(inputs.shape[batch:-1], window, strict=True)
    split = [part for n, w in sizes for part in (n // w, w)]
    tiles = inputs.reshape(*inputs.shape[:batch], *split, inputs.shape[-1])
    return tiles.mean(tuple(range(batch + 1, batch + 2 * len(window), 2)))


def _max_of_tiles(inputs: jax.Array, window: tuple[int, ...]) -> jax.Array:
    return functools.reduce(jnp.maximum, _corners(inputs, window))


def _forward(inputs: jax.Array, window: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The maxima, and in which corner each was found: a byte, and all that the gradient needs."""
    maxima, *others = _corners(inputs, window)
    index = jnp.zeros(maxima.shape, jnp.uint8)
    for corner, values in enumerate(others, start=1):
        index = jnp.where(values > maxima, jnp.uint8(corner), index)
        maxima = jnp.maximum(maxima, values)  # not the `where` of above: NaN has to come through
    return maxima, index


def _backward(window: tuple[int, ...], index: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    batch = g.ndim - len(window) - 1
    corners = jnp.arange(math.prod(window), dtype=jnp.uint8).reshape(window)
    corners = jnp.expand_dims(corners, tuple(range(0, 2 * len(window) + 1, 2)))
    within = tuple(range(batch + 1, batch + 2 * len(window), 2))
    tiles = jnp.where(jnp.expand_dims(index, within) == corners, jnp.expand_dims(g, within), 0)
    sizes = (n * w for n, w in zip(g.shape[batch:-1], window, strict=True))
    return (tiles.reshape(*g.shape[:batch], *sizes, g.shape[-1]),)


_tiled_max = jax.custom_vjp(_max_of_tiles, nondiff_argnums=(1,))
_tiled_max.defvjp(_forward, _backward)


def _corners(inputs: jax.Array, window: tuple[int, ...]) -> list[jax.Array]:
    """The values at each position within a window, `[*batch, *out_spatial, channels]` each."""
    return [
        inputs[..., *(slice(i, None, w) for i, w in zip(offset, window, strict=True)), :]
        for offset in np.ndindex(*window)
    ]


def _reduce_window(
    inputs: jax.Array,
    start: float,
    reduce: Callable[[Any, Any], Any],
    window: tuple[int, ...],
    strides: Sequence[int] | None,
    padding: Padding,
) -> jax.Array:
    single = (1,) * (inputs.ndim - len(window) - 1)
    steps = tuple(strides or (1,) * len(window))
    if not isinstance(padding, str):
        padding = [*((0, 0) for _ in single), *((low, high) for low, high in padding), (0, 0)]
    pooled: jax.Array = lax.reduce_window(inputs, start, reduce, (*single, *window, 1), (*single, *steps, 1), padding)
    return pooled
