"""Pooling without `reduce_window`, whose gradient is 10 times slower on CPU.

Windows that tile their input, by far the most used, are only a reshape: the mean is a reduction
over the new axes, and the maximum one between strided slices, each a corner of all windows.
"""

import math
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

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
    return nn.max_pool(inputs, window, strides and tuple(strides), padding)


def avg_pool(
    inputs: jax.Array,
    window_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    padding: Padding = "VALID",
    count_include_pad: bool = True,
) -> jax.Array:
    """The mean over each window; `flax.linen.avg_pool`, argument for argument (see `max_pool`).

    `count_include_pad`: whether the padding's zeros count as elements of the mean.
    """
    window = tuple(window_shape)
    if not _is_tiled(inputs, window, strides, padding):
        return nn.avg_pool(inputs, window, strides and tuple(strides), padding, count_include_pad)
    inputs = _crop(inputs, window)
    batch = inputs.ndim - len(window) - 1
    split = [part for n, w in zip(inputs.shape[batch:-1], window, strict=True) for part in (n // w, w)]
    tiles = inputs.reshape(*inputs.shape[:batch], *split, inputs.shape[-1])
    return tiles.mean(_within(batch, window))


def _is_tiled(inputs: jax.Array, window: tuple[int, ...], strides: Sequence[int] | None, padding: Padding) -> bool:
    """Whether windows neither overlap nor leave gaps nor reach beyond the input."""
    exact = all(n % w == 0 for n, w in zip(inputs.shape[-len(window) - 1 : -1], window, strict=True))
    fits = padding == "VALID" or (padding == "SAME" and exact)
    return fits and window == tuple(strides or ()) and jnp.issubdtype(inputs.dtype, jnp.floating) and not is_reference()


def _crop(inputs: jax.Array, window: tuple[int, ...]) -> jax.Array:
    """Drops what no whole window covers."""
    sizes = inputs.shape[-len(window) - 1 : -1]
    return inputs[..., *(slice(n - n % w) for n, w in zip(sizes, window, strict=True)), :]


def _within(batch: int, window: tuple[int, ...]) -> tuple[int, ...]:
    """The axes within the windows once each spatial axis after the `batch` ones is split into (windows, within)."""
    return tuple(range(batch + 1, batch + 2 * len(window), 2))


def _forward(inputs: jax.Array, window: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The maxima, and in which corner each was found: a byte, and all that the gradient needs."""
    maxima, *others = [
        inputs[..., *(slice(i, None, w) for i, w in zip(offset, window, strict=True)), :]
        for offset in np.ndindex(*window)
    ]
    index = jnp.zeros(maxima.shape, jnp.uint8)
    for corner, values in enumerate(others, start=1):
        index = jnp.where(values > maxima, jnp.uint8(corner), index)
        maxima = jnp.maximum(maxima, values)  # not the `where` of above: NaN has to come through
    return maxima, index


def _backward(window: tuple[int, ...], index: jax.Array, g: jax.Array) -> tuple[jax.Array]:
    batch = g.ndim - len(window) - 1
    corners = jnp.arange(math.prod(window), dtype=jnp.uint8).reshape(window)
    corners = jnp.expand_dims(corners, tuple(range(0, 2 * len(window) + 1, 2)))
    within = _within(batch, window)
    tiles = jnp.where(jnp.expand_dims(index, within) == corners, jnp.expand_dims(g, within), 0)
    sizes = (n * w for n, w in zip(g.shape[batch:-1], window, strict=True))
    return (tiles.reshape(*g.shape[:batch], *sizes, g.shape[-1]),)


_tiled_max = jax.custom_vjp(lambda inputs, window: _forward(inputs, window)[0], nondiff_argnums=(1,))
_tiled_max.defvjp(_forward, _backward)
