"""The forms of a convolution in terms of XLA: the plain one, and one that stays fast on CPU inside `lax.scan`.

XLA's CPU compiler brings a convolution into the one layout its kernels know (NHWC, HWIO, NHWC) only outside of loops:
within `scan`, `while` and `fori_loop` any other layout becomes naive nested loops, some 20 times slower. JAX writes the
gradients of a convolution in other layouts. Here they are written in the canonical one: strides s, input dilations d
and kernel dilations r only change places (Dumoulin & Visin, 2016, arXiv:1603.07285, chapter 4, generalised).

    output           (s, d, r)   inputs * kernel
    input gradient   (d, s, r)   output gradient * kernel, flipped, in and out channels swapped
    kernel gradient  (r, d, s)   inputs * output gradient, both with batch and channels swapped
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Shape = Sequence[int]


class Window(NamedTuple):
    """How a kernel moves over its inputs; one entry for each spatial dimension."""

    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    lhs_dilation: tuple[int, ...]
    rhs_dilation: tuple[int, ...]
    precision: Any = None

    def outputs(self, inputs: Shape, kernel: Shape) -> tuple[int, ...]:
        """Returns the spatial sizes of the outputs."""
        n, k = self._dilated(inputs, self.lhs_dilation), self._dilated(kernel, self.rhs_dilation)
        return tuple(((n + np.sum(self.padding, 1) - k) // self.strides + 1).tolist())

    def transposed(self, inputs: Shape, kernel: Shape, outputs: Shape) -> "Window":
        """Returns the window of the gradient of the inputs, from that of the outputs and the flipped kernel.

        The transpose of the transpose sees the same values as the window itself.
        """
        n, k, low = self._dilated(inputs, self.lhs_dilation), self._dilated(kernel, self.rhs_dilation), self._low()
        o = self._dilated(outputs, self.strides)
        padding = _pairs(k - 1 - low, n - o + low)
        return self._replace(strides=self.lhs_dilation, lhs_dilation=self.strides, padding=padding)

    def of_kernel(self, inputs: Shape, kernel: Shape, outputs: Shape) -> "Window":
        """Returns the window of the gradient of the kernel, from the inputs and the gradient of the outputs."""
        n, k, low = self._dilated(inputs, self.lhs_dilation), self._dilated(kernel, self.rhs_dilation), self._low()
        o = self._dilated(outputs, self.strides)
        padding = _pairs(low, k - 1 + o - n - low)
        return self._replace(strides=self.rhs_dilation, rhs_dilation=self.strides, padding=padding)

    def _low(self) -> np.ndarray:
        return np.array(self.padding)[:, 0]

    @staticmethod
    def _dilated(sizes: Shape, dilation: Shape) -> np.ndarray:
        return (np.array(sizes) - 1) * dilation + 1


def _pairs(low: np.ndarray, high: np.ndarray) -> tuple[tuple[int, int], ...]:
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def flip(kernel: jax.Array) -> jax.Array:
    """Returns the kernel of the transposed convolution."""
    return jnp.flip(kernel, range(kernel.ndim - 2)).swapaxes(-1, -2)


def layout(ndim: int) -> lax.ConvDimensionNumbers:
    """Returns NHWC, HWIO, NHWC for any number of spatial dimensions."""
    spatial = tuple(range(1, ndim - 1))
    channels_last = (0, ndim - 1, *spatial)
    return lax.ConvDimensionNumbers(channels_last, (ndim - 1, ndim - 2, *range(ndim - 2)), channels_last)


def plain(lhs: jax.Array, rhs: jax.Array, window: Window, transposed: bool = False) -> jax.Array:
    """Returns the convolution, or the transposed one, as `jax.lax` has it."""
    if not transposed:
        strides, padding, d, r, precision = window
        return lax.conv_general_dilated(lhs, rhs, strides, padding, d, r, layout(lhs.ndim), precision=precision)
    outputs = window.outputs(lhs.shape[1:-1], rhs.shape[:-2])
    forward = window.transposed(lhs.shape[1:-1], rhs.shape[:-2], outputs)
    shape = jax.ShapeDtypeStruct((lhs.shape[0], *outputs, rhs.shape[-2]), lhs.dtype)
    return jax.linear_transpose(lambda x: plain(x, rhs, forward), shape)(lhs)[0]


def plain_kernel_gradient(lhs: jax.Array, g: jax.Array, window: Window, spatial: tuple[int, ...]) -> jax.Array:
    """Returns the gradient of the kernel as `jax.lax` has it."""
    shape = jax.ShapeDtypeStruct((*spatial, lhs.shape[-1], g.shape[-1]), lhs.dtype)
    return jax.linear_transpose(lambda k: plain(lhs, k, window), shape)(g)[0]


def fast(lhs: jax.Array, rhs: jax.Array, window: Window, transposed: bool = False) -> jax.Array:
    """Returns the convolution with the flipped kernel if `transposed`, in the layout that is fast on CPU."""
    rhs = flip(rhs) if transposed else rhs
    if not by_patches(rhs.shape, window):
        return plain(lhs, rhs, window)
    patches = _patches(lhs, rhs.shape[:-2], window)
    return _matmul(patches, rhs.reshape(-1, rhs.shape[-1]), 1, window)


def fast_kernel_gradient(lhs: jax.Array, g: jax.Array, window: Window, spatial: tuple[int, ...]) -> jax.Array:
    """Returns the gradient of the kernel by a convolution in the layout that is fast on CPU."""
    shape = (*spatial, lhs.shape[-1], g.shape[-1])
    if by_patches(shape, window):
        patches = _patches(lhs, spatial, window)
        return _matmul(jnp.moveaxis(patches, -1, 0), g, g.ndim - 1, window).reshape(shape)
    window = window.of_kernel(lhs.shape[1:-1], spatial, g.shape[1:-1])
    return jnp.moveaxis(plain(lhs.swapaxes(0, -1), jnp.moveaxis(g, 0, -2), window), 0, -2)


def by_patches(rhs: Shape, window: Window) -> bool:
    """Whether a matrix product over copied patches pays: few values in each, or a 1x1 kernel: nothing is copied."""
    *spatial, channels, _ = rhs
    size = math.prod(spatial)
    # 3x3 on 32 channels is twice as slow as XLA's kernels; patches of dilated inputs would be mostly zeros.
    return max(window.lhs_dilation) == 1 and (size == 1 or (channels <= 4 and size * channels <= 75))


def _patches(lhs: jax.Array, spatial: Shape, window: Window) -> jax.Array:
    """What lies under the kernel: `[batch, *out_spatial, prod(spatial) * in_channels]`."""
    edges = [(0, 0, 0), *((low, high, 0) for low, high in window.padding), (0, 0, 0)]
    padded = lax.pad(lhs, jnp.zeros((), lhs.dtype), edges)
    strides, dilation = np.array(window.strides), np.array(window.rhs_dilation)
    # From the first to the last value that one entry of the kernel meets.
    spans = (np.array(padded.shape[1:-1]) - (np.array(spatial) - 1) * dilation - 1) // strides * strides + 1
    starts = [np.array(offset) * dilation for offset in np.ndindex(*spatial)]
    return jnp.concatenate([padded[:, *map(slice, start, start + spans, strides)] for start in starts], axis=-1)


def _matmul(a: jax.Array, b: jax.Array, axes: int, window: Window) -> jax.Array:
    accumulator = jnp.promote_types(a.dtype, jnp.float32)
    product = jnp.tensordot(a, b, axes, precision=window.precision, preferred_element_type=accumulator)
    return product.astype(a.dtype)
