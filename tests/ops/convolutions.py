"""What convolutions are compared with, and on what values."""

import math

import jax.numpy as jnp
import numpy as np


def layout(ndim):
    return {3: ("NWC", "WIO", "NWC"), 4: ("NHWC", "HWIO", "NHWC"), 5: ("NDHWC", "DHWIO", "NDHWC")}[ndim]


def draw(*shape, seed=0, dtype=jnp.float32):
    values = np.random.default_rng((seed, *shape)).standard_normal(shape) / math.sqrt(shape[-2])
    return jnp.asarray(values, dtype)


def numpy_convolve(x, k, g, strides, padding, lhs_dilation, rhs_dilation):
    """Outputs, and gradients of sum(outputs * g), one entry of the kernel at a time."""
    spatial = range(k.ndim - 2)
    dilated = [(x.shape[i + 1] - 1) * lhs_dilation[i] + 1 for i in spatial]
    window = [(k.shape[i] - 1) * rhs_dilation[i] + 1 for i in spatial]
    if padding == "VALID":
        padding = [(0, 0)] * len(spatial)
    elif padding == "SAME":
        needed = [max((-(-n // s) - 1) * s + w - n, 0) for n, s, w in zip(dilated, strides, window, strict=True)]
        padding = [(p // 2, p - p // 2) for p in needed]
    margin = 16  # wide enough that negative padding is a slice
    width = [margin + n + margin for n in dilated]
    wide = np.zeros((x.shape[0], *width, x.shape[-1]))
    inside = tuple(slice(margin, margin + n, d) for n, d in zip(dilated, lhs_dilation, strict=True))
    wide[:, *inside] = x
    kept = [(margin - lo, margin + n + hi) for n, (lo, hi) in zip(dilated, padding, strict=True)]
    for axis, (start, stop) in enumerate(kept, start=1):  # negative padding drops values
        values = np.moveaxis(wide, axis, 0)
        values[:start], values[stop:] = 0, 0
    sizes = [(stop - start - w) // s + 1 for (start, stop), w, s in zip(kept, window, strides, strict=True)]
    outputs = np.zeros((x.shape[0], *sizes, k.shape[-1]))
    x_gradient, k_gradient = np.zeros_like(wide), np.zeros(k.shape)
    for offset in np.ndindex(*k.shape[:-2]):
        starts = [start + i * r for i, r, (start, _) in zip(offset, rhs_dilation, kept, strict=True)]
        where = tuple(
            slice(start, start + (o - 1) * s + 1, s) for start, o, s in zip(starts, sizes, strides, strict=True)
        )
        seen = wide[:, *where]
        outputs += seen @ k[offset]
        k_gradient[offset] = np.tensordot(seen, g, (range(g.ndim - 1), range(g.ndim - 1)))
        x_gradient[:, *where] += g @ k[offset].T
    for axis, (start, stop) in enumerate(kept, start=1):
        values = np.moveaxis(x_gradient, axis, 0)
        values[:start], values[stop:] = 0, 0
    return outputs, x_gradient[:, *inside], k_gradient
