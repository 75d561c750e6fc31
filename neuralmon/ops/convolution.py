"""Convolution whose gradients stay fast on CPU inside `lax.scan`.

XLA's CPU compiler brings a convolution into the one layout its kernels know (NHWC, HWIO, NHWC)
only outside of loops: within `scan`, `while` and `fori_loop` any other layout becomes naive nested
loops, some 20 times slower. JAX writes both gradients of a convolution in other layouts. Here they
are written in the canonical one: strides s, input dilations d and kernel dilations r only change
places (Dumoulin & Visin, 2016, arXiv:1603.07285, chapter 4, generalised).

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
from jax.typing import DTypeLike

from neuralmon.ops.reference import is_reference

Pads = tuple[tuple[int, int], ...]

# With this few values under the kernel, a matrix product over copied patches beats XLA's kernels;
# with more, the copies cost more than they save (3x3 on 32 channels: twice as slow).
_MAX_PATCH_CHANNELS = 4
_MAX_PATCH_SIZE = 75


class _Window(NamedTuple):
    """How a kernel moves over its inputs; one entry for each spatial dimension."""

    strides: tuple[int, ...]
    padding: Pads
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
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: DTypeLike | None = None,
    out_sharding: Any = None,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, argument for argument, with gradients that are fast on CPU.

    Channels-last convolutions of floats in any number of spatial dimensions, strided, padded and
    dilated, have the fast gradients; grouped ones, other layouts and mixed types are handed to
    `jax.lax`, as is everything on GPU and TPU and everything inside `ops.reference()`.

    Args:
        lhs: inputs `[batch, *spatial, in_channels]`.
        rhs: kernel `[*window, in_channels, out_channels]`.
        window_strides: one stride for each spatial dimension.
        padding: "SAME", "VALID" or a (low, high) pair for each spatial dimension.
        lhs_dilation: dilation of the inputs; strides of a transposed convolution.
        rhs_dilation: dilation of the kernel.
        dimension_numbers: the layouts, as in `jax.lax`.
        feature_group_count: as in `jax.lax`.
        batch_group_count: as in `jax.lax`.
        precision: as in `jax.lax`; holds for the gradients too.
        preferred_element_type: as in `jax.lax`.
        out_sharding: as in `jax.lax`.

    Returns:
        `[batch, *spatial, out_channels]`, of the type of `lhs`. Sums of bfloat16 and float16 are
        accumulated in float32.
    """
    plain = partial(
        lax.conv_general_dilated,
        window_strides=window_strides,
        padding=padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        dimension_numbers=dimension_numbers,
        feature_group_count=feature_group_count,
        batch_group_count=batch_group_count,
        precision=precision,
        preferred_element_type=preferred_element_type,
        out_sharding=out_sharding,
    )
    canonical = (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == _layout(lhs.ndim)
        and feature_group_count == batch_group_count == 1
        and preferred_element_type is None
        and out_sharding is None
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
    )
    if is_reference() or not canonical:
        return plain(lhs, rhs)
    outputs = jax.eval_shape(plain, lhs, rhs)  # so that whatever is wrong, jax.lax says it
    if 0 in (*lhs.shape, *rhs.shape, *outputs.shape):
        return plain(lhs, rhs)

    ones = (1,) * (lhs.ndim - 2)
    rhs_dilation = tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        window = [(size - 1) * r + 1 for size, r in zip(rhs.shape, rhs_dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], window, window_strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    return _convolution(
        lhs, rhs, _Window(tuple(window_strides), pads, tuple(lhs_dilation or ones), rhs_dilation, precision)
    )


def _by_platform(lhs: jax.Array, rhs: jax.Array, window: _Window) -> jax.Array:
    return _choose(partial(_fast, window=window), partial(_plain, window=window), lhs, rhs)


def _forward(lhs: jax.Array, rhs: jax.Array, window: _Window) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # Not `_convolution` itself, whose own rule would then stand in the way of a second derivative.
    return _by_platform(lhs, rhs, window), (lhs, rhs)


def _backward(window: _Window, operands: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    def plain(lhs: jax.Array, rhs: jax.Array) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
        return jax.vjp(partial(_plain, window=window), lhs, rhs)[1]

    # Two choices, not one of a pair, so that a gradient nobody asked for is no work.
    return (
        _choose(partial(_fast_lhs_gradient, window=window), lambda lhs, rhs, g: plain(lhs, rhs)(g)[0], *operands, g),
        _choose(partial(_fast_rhs_gradient, window=window), lambda lhs, rhs, g: plain(lhs, rhs)(g)[1], *operands, g),
    )


_convolution = jax.custom_vjp(_by_platform, nondiff_argnums=(2,))
_convolution.defvjp(_forward, _backward)


def _choose(on_cpu: Callable[..., jax.Array], elsewhere: Callable[..., jax.Array], *operands: jax.Array) -> jax.Array:
    """The form for the platform that the program is lowered to, not the one it is traced on."""
    chosen: jax.Array = lax.platform_dependent(*operands, cpu=on_cpu, default=elsewhere)
    return chosen


def _plain(lhs: jax.Array, rhs: jax.Array, window: _Window) -> jax.Array:
    return lax.conv_general_dilated(
        lhs,
        rhs,
        window.strides,
        window.padding,
        window.lhs_dilation,
        window.rhs_dilation,
        _layout(lhs.ndim),
        precision=window.precision,
    )


def _fast(lhs: jax.Array, rhs: jax.Array, window: _Window) -> jax.Array:
    if not _by_patches(rhs.shape, window):
        return _plain(lhs, rhs, window)
    patches = _patches(lhs, rhs.shape[:-2], window)
    return _matmul(patches, rhs.reshape(-1, rhs.shape[-1]), 1, window)


def _fast_lhs_gradient(lhs: jax.Array, rhs: jax.Array, g: jax.Array, window: _Window) -> jax.Array:
    spatial = range(rhs.ndim - 2)
    pads = tuple((k - 1 - low, n - o + low) for n, k, o, low in _extents(lhs.shape, rhs.shape, g.shape, window))
    window = window._replace(strides=window.lhs_dilation, lhs_dilation=window.strides, padding=pads)
    return _fast(g, jnp.flip(rhs, spatial).swapaxes(-1, -2), window)


def _fast_rhs_gradient(lhs: jax.Array, rhs: jax.Array, g: jax.Array, window: _Window) -> jax.Array:
    if _by_patches(rhs.shape, window):
        patches = _patches(lhs, rhs.shape[:-2], window)
        return _matmul(jnp.moveaxis(patches, -1, 0), g, g.ndim - 1, window).reshape(rhs.shape)
    pads = tuple((low, k - 1 + o - n - low) for n, k, o, low in _extents(lhs.shape, rhs.shape, g.shape, window))
    window = window._replace(strides=window.rhs_dilation, rhs_dilation=window.strides, padding=pads)
    gradient = _plain(lhs.swapaxes(0, -1), jnp.moveaxis(g, 0, -2), window)
    return jnp.moveaxis(gradient, 0, -2)


def _extents(
    lhs: Sequence[int], rhs: Sequence[int], outputs: Sequence[int], window: _Window
) -> list[tuple[int, int, int, int]]:
    """For each spatial dimension: inputs, kernel and outputs as dilated, and the low padding."""
    sizes = zip(lhs[1:-1], rhs[:-2], outputs[1:-1], strict=True)
    steps = zip(window.lhs_dilation, window.rhs_dilation, window.strides, strict=True)
    return [
        ((n - 1) * d + 1, (k - 1) * r + 1, (o - 1) * s + 1, low)
        for (n, k, o), (d, r, s), (low, _) in zip(sizes, steps, window.padding, strict=True)
    ]


def _by_patches(rhs: Sequence[int], window: _Window) -> bool:
    """Whether copying patches pays: few values in each, or a 1x1 kernel, whose patches are free."""
    if max(window.lhs_dilation) > 1:  # patches of mostly zeros
        return False
    *spatial, channels, _ = rhs
    few = channels <= _MAX_PATCH_CHANNELS and math.prod(spatial) * channels <= _MAX_PATCH_SIZE
    return few or math.prod(spatial) == 1


def _patches(lhs: jax.Array, spatial: Sequence[int], window: _Window) -> jax.Array:
    """What lies under the kernel: `[batch, *out_spatial, prod(spatial) * in_channels]`."""
    edges = [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
    padded = lax.pad(lhs, jnp.zeros((), lhs.dtype), edges)
    spans = [  # from the first to the last value that one entry of the kernel meets
        (n - ((k - 1) * r + 1)) // s * s + 1
        for n, k, r, s in zip(padded.shape[1:-1], spatial, window.rhs_dilation, window.strides, strict=True)
    ]
    shifted = []
    for offset in np.ndindex(*spatial):
        starts = [i * r for i, r in zip(offset, window.rhs_dilation, strict=True)]
        steps = zip(starts, spans, window.strides, strict=True)
        shifted.append(padded[:, *(slice(i, i + span, s) for i, span, s in steps)])
    return jnp.concatenate(shifted, axis=-1)


def _matmul(a: jax.Array, b: jax.Array, axes: int, window: _Window) -> jax.Array:
    accumulator = jnp.promote_types(a.dtype, jnp.float32)
    product = jnp.tensordot(a, b, axes, precision=window.precision, preferred_element_type=accumulator)
    return product.astype(a.dtype)


def _layout(ndim: int) -> lax.ConvDimensionNumbers:
    """NHWC, HWIO, NHWC for any number of spatial dimensions."""
    spatial = tuple(range(1, ndim - 1))
    channels_last = (0, ndim - 1, *spatial)
    return lax.ConvDimensionNumbers(channels_last, (ndim - 1, ndim - 2, *range(ndim - 2)), channels_last)
