"""Convolution whose gradients stay fast on CPU inside `lax.scan`.

XLA's CPU compiler brings a convolution into the one layout its kernels know (NHWC, HWIO, NHWC) only outside of loops:
within `scan`, `while` and `fori_loop` any other layout becomes naive nested loops, some 20 times slower. JAX writes the
gradients of a convolution in other layouts. Here they are written in the canonical one: strides s, input dilations d
and kernel dilations r only change places (Dumoulin & Visin, 2016, arXiv:1603.07285, chapter 4, generalised).

    output           (s, d, r)   inputs * kernel
    input gradient   (d, s, r)   output gradient * kernel, flipped, in and out channels swapped
    kernel gradient  (r, d, s)   inputs * output gradient, both with batch and channels swapped
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from neuralmon.ops.reference import is_reference


class _Window(NamedTuple):
    """How a kernel moves over its inputs; one entry for each spatial dimension."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    precision: Any = None


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    *,
    precision: Any = None,
    **others: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` with gradients that are fast on CPU.

    Channels-last convolutions of floats in any number of spatial dimensions, strided, padded and dilated, have the fast
    gradients; grouped ones, other layouts and mixed types are handed to `jax.lax`, as is everything on GPU and TPU and
    everything inside `ops.reference()`.

    Args:
        lhs: inputs `[batch, *spatial, in_channels]`.
        rhs: kernel `[*window, in_channels, out_channels]`.
        window_strides: one stride for each spatial dimension.
        padding: "SAME", "VALID" or a (low, high) pair for each spatial dimension.
        lhs_dilation: dilation of the inputs; strides of a transposed convolution.
        rhs_dilation: dilation of the kernel.
        dimension_numbers: the layouts, as in `jax.lax`.
        feature_group_count: as in `jax.lax`.
        precision: as in `jax.lax`; holds for the gradients too.
        others: as in `jax.lax`, which gets the convolution if any is given.

    Returns:
        `[batch, *spatial, out_channels]`, of the type of `lhs`. Sums of 16-bit floats are accumulated in float32.
    """
    geometry = window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count

    def plain(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(lhs, rhs, *geometry, precision=precision, **others)

    canonical = (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == _layout(lhs.ndim)
        and feature_group_count == 1
        and all(value is None for value in others.values())
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
    )
    if is_reference() or not canonical:
        return plain(lhs, rhs)
    outputs = jax.eval_shape(plain, lhs, rhs)  # so that whatever is wrong, jax.lax says it
    if 0 in (*lhs.shape, *rhs.shape, *outputs.shape):
        return plain(lhs, rhs)

    ones = (1,) * (lhs.ndim - 2)
    dilation = tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        sizes = [(size - 1) * r + 1 for size, r in zip(rhs.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], sizes, window_strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    window = _Window(tuple(window_strides), pads, tuple(lhs_dilation or ones), dilation, precision)
    return _convolution(lhs, rhs, window)


def _plain(lhs: jax.Array, rhs: jax.Array, window: _Window) -> jax.Array:
    strides, padding, d, r, precision = window
    return lax.conv_general_dilated(lhs, rhs, strides, padding, d, r, _layout(lhs.ndim), precision=precision)


def _fast(lhs: jax.Array, rhs: jax.Array, window: _Window) -> jax.Array:
    if not _by_patches(rhs.shape, window):
        return _plain(lhs, rhs, window)
    patches = _patches(lhs, rhs.shape[:-2], window)
    return _matmul(patches, rhs.reshape(-1, rhs.shape[-1]), 1, window)


def _fast_lhs_gradient(lhs: jax.Array, rhs: jax.Array, g: jax.Array, window: _Window) -> jax.Array:
    n, k, o, low = _extents(lhs, rhs, g, window)
    pads = tuple(zip((k - 1 - low).tolist(), (n - o + low).tolist(), strict=True))
    window = window._replace(strides=window.lhs_dilation, lhs_dilation=window.strides, padding=pads)
    return _fast(g, jnp.flip(rhs, range(rhs.ndim - 2)).swapaxes(-1, -2), window)


def _fast_rhs_gradient(lhs: jax.Array, rhs: jax.Array, g: jax.Array, window: _Window) -> jax.Array:
    if _by_patches(rhs.shape, window):
        patches = _patches(lhs, rhs.shape[:-2], window)
        return _matmul(jnp.moveaxis(patches, -1, 0), g, g.ndim - 1, window).reshape(rhs.shape)
    n, k, o, low = _extents(lhs, rhs, g, window)
    pads = tuple(zip(low.tolist(), (k - 1 + o - n - low).tolist(), strict=True))
    window = window._replace(strides=window.rhs_dilation, rhs_dilation=window.strides, padding=pads)
    return jnp.moveaxis(_plain(lhs.swapaxes(0, -1), jnp.moveaxis(g, 0, -2), window), 0, -2)


def _extents(lhs: jax.Array, rhs: jax.Array, g: jax.Array, window: _Window) -> tuple[np.ndarray, ...]:
    """The spatial sizes of inputs, kernel and outputs, as dilated, and the low padding."""
    shapes = lhs.shape[1:-1], rhs.shape[:-2], g.shape[1:-1]
    steps = window.lhs_dilation, window.rhs_dilation, window.strides
    n, k, o = (np.array(shapes) - 1) * steps + 1
    return n, k, o, np.array(window.padding)[:, 0]


def _by_patches(rhs: Sequence[int], window: _Window) -> bool:
    """Whether a matrix product over copied patches pays: few values in each, or a 1x1 kernel: nothing is copied."""
    *spatial, channels, _ = rhs
    size = math.prod(spatial)
    # 3x3 on 32 channels is twice as slow as XLA's kernels; patches of dilated inputs would be mostly zeros.
    return max(window.lhs_dilation) == 1 and (size == 1 or (channels <= 4 and size * channels <= 75))


def _patches(lhs: jax.Array, spatial: Sequence[int], window: _Window) -> jax.Array:
    """What lies under the kernel: `[batch, *out_spatial, prod(spatial) * in_channels]`."""
    edges = [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
    padded = lax.pad(lhs, jnp.zeros((), lhs.dtype), edges)
    strides, dilation = np.array(window.strides), np.array(window.rhs_dilation)
    # From the first to the last value that one entry of the kernel meets.
    spans = (np.array(padded.shape[1:-1]) - (np.array(spatial) - 1) * dilation - 1) // strides * strides + 1
    starts = [np.array(offset) * dilation for offset in np.ndindex(*spatial)]
    return jnp.concatenate([padded[:, *map(slice, start, start + spans, strides)] for start in starts], axis=-1)


def _matmul(a: jax.Array, b: jax.Array, axes: int, window: _Window) -> jax.Array:
    accumulator = jnp.promote_types(a.dtype, jnp.float32)
    product = jnp.tensordot(a, b, axes, precision=window.precision, preferred_element_type=accumulator)
    return product.astype(a.dtype)


def _layout(ndim: int) -> lax.ConvDimensionNumbers:
    """NHWC, HWIO, NHWC for any number of spatial dimensions."""
    spatial = tuple(range(1, ndim - 1))
    channels_last = (0, ndim - 1, *spatial)
    return lax.ConvDimensionNumbers(channels_last, (ndim - 1, ndim - 2, *range(ndim - 2)), channels_last)


def _choose(fast: Callable[..., Any], plain: Callable[..., Any], window: _Window, *operands: jax.Array) -> jax.Array:
    """The form for the platform that the program is lowered to, not the one it is traced on."""
    return lax.platform_dependent(*operands, cpu=partial(fast, window=window), default=partial(plain, window=window))


def _forward(lhs: jax.Array, rhs: jax.Array, window: _Window) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Not through `_convolution`, whose own rule would then stand in the way of a second derivative.
    return _choose(_fast, _plain, window, lhs, rhs), (lhs, rhs)


def _backward(window: _Window, operands: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    def plain(index: int) -> Callable[..., jax.Array]:
        return lambda lhs, rhs, g, window: jax.vjp(partial(_plain, window=window), lhs, rhs)[1](g)[index]

    # Two choices, not one of a pair, so that a gradient nobody asked for is no work.
    return (
        _choose(_fast_lhs_gradient, plain(0), window, *operands, g),
        _choose(_fast_rhs_gradient, plain(1), window, *operands, g),
    )


_convolution = jax.custom_vjp(lambda lhs, rhs, window: _forward(lhs, rhs, window)[0], nondiff_argnums=(2,))
_convolution.defvjp(_forward, _backward)
