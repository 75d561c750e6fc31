"""Transposed convolution: the layer that makes images larger.

A convolution of stride s reads s pixels apart, so it makes images s times smaller; the transposed one writes s pixels
apart. By definition it is an ordinary convolution of the inputs with s - 1 zeros between them (Dumoulin & Visin 2016,
arXiv:1603.07285, chapter 4). Most of that multiplies zeros, and its gradients are slow on CPU. Which entries of the
kernel meet inputs, and not zeros, depends only on the output's position modulo s: so here one dense convolution
computes all s positions as channels, and they are put in their places (Shi et al. 2016, arXiv:1609.07009).
"""

import math
from collections.abc import Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Dtype, PositiveInt
from neuralmon.layers.initializers import Initializer, lecun_normal, zeros

Padding = Literal["SAME", "VALID"] | tuple[tuple[int, int], ...]


class ConvTranspose(nn.Module):
    """`flax.linen.ConvTranspose`: the same parameters and results, but fast on CPU.

    PyTorch's `ConvTranspose2d(..., k, s, padding=p, output_padding=q)` is `padding=((k - 1 - p, k - 1 - p + q),) * 2`
    here, and its weight (in, out, height, width) this kernel mirrored: `weight.transpose(2, 3, 0, 1)[::-1, ::-1]`.

    Attributes:
      features: output channels.
      kernel_size: size of the kernel in each spatial dimension.
      strides: how many times larger the output is, in each spatial dimension.
      padding: zeros around the inputs after they were spread, as (low, high) pairs; or "SAME": outputs of
        strides x size; or "VALID": every output that an input reaches.
      use_bias: whether a bias is added to the outputs.
      kernel_init: initialiser of the kernel.
      bias_init: initialiser of the bias.
      dtype: type of the computation; parameters stay float32.
    """

    features: PositiveInt
    kernel_size: tuple[PositiveInt, ...]
    strides: tuple[PositiveInt, ...]
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *larger features"]:
        """Returns the larger images: `[batch, *spatial, channels]` to `[batch, *larger, features]`.

        Raises:
          ValueError: kernel or strides have another number of dimensions than the inputs.
        """
        if not len(self.kernel_size) == len(self.strides) == inputs.ndim - 2:
            what = f"ConvTranspose(kernel_size={self.kernel_size}, strides={self.strides})"
            raise ValueError(f"{what} does not fit inputs of shape {inputs.shape}: it takes (batch, ..., channels)")
        shape = (*self.kernel_size, inputs.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        outputs = conv_transpose(inputs.astype(self.dtype), kernel.astype(self.dtype), self.strides, self.padding)
        if not self.use_bias:
            return outputs
        return outputs + self.param("bias", self.bias_init, (self.features,), jnp.float32).astype(self.dtype)


def conv_transpose(
    inputs: Float[Array, "batch *spatial channels"],
    kernel: Float[Array, "*window channels features"],
    strides: Sequence[int],
    padding: Padding = "SAME",
) -> Float[Array, "batch *larger features"]:
    """`jax.lax.conv_transpose` of channels-last images.

    Args:
      inputs: `[batch, *spatial, channels]`.
      kernel: `[*window, channels, features]`.
      strides: one for each spatial dimension.
      padding: see `ConvTranspose`.

    Returns:
      `[batch, *larger, features]`; larger = (size - 1) * stride + 2 - window + low + high in each dimension.
    """
    window, (channels, features), size = np.array(kernel.shape[:-2]), kernel.shape[-2:], np.array(inputs.shape[1:-1])
    dimensions, s = len(window), np.array(strides)
    low, high = _pads(window, s, padding)
    larger = (size - 1) * s + 2 - window + low + high

    # Output s q + a is the sum over j of inputs[q + j] * kernel[s j + low - a]: as a runs from s - 1 down to 0, the
    # index runs through a block of s. Zeros before the kernel let the first block begin with it.
    before = s - 1 - low % s
    blocks = -(-(window + before) // s)
    edges = [*zip(before, s * blocks - window - before, strict=True), (0, 0), (0, 0)]
    split = [int(n) for pair in zip(blocks, s, strict=True) for n in pair]
    phases = jnp.pad(kernel, edges).reshape(*split, channels, features)
    phases = jnp.flip(phases, range(1, 2 * dimensions, 2))
    block_axes, phase_axes = range(0, 2 * dimensions, 2), range(1, 2 * dimensions, 2)
    phases = phases.transpose(*block_axes, 2 * dimensions, *phase_axes, 2 * dimensions + 1)
    phases = phases.reshape(*blocks, channels, math.prod(strides) * features)

    count = -(-larger // s)
    pads = [(int(a), int(b)) for a, b in zip(low // s, count - size - low // s + blocks - 1, strict=True)]
    layout = jax.lax.conv_dimension_numbers(inputs.shape, phases.shape, _layout(dimensions))
    outputs = ops.conv_general_dilated(inputs, phases, (1,) * dimensions, pads, dimension_numbers=layout)

    outputs = outputs.reshape(-1, *count, *s, features)
    places = [axis for d in range(dimensions) for axis in (1 + d, 1 + dimensions + d)]
    outputs = outputs.transpose(0, *places, 2 * dimensions + 1).reshape(-1, *(count * s), features)
    return outputs[:, *(slice(n) for n in larger)]


def _pads(window: np.ndarray, s: np.ndarray, padding: Padding) -> tuple[np.ndarray, np.ndarray]:
    """The zeros before and after in each dimension."""
    if not isinstance(padding, str):
        low, high = np.array(padding).reshape(-1, 2).T
        return low, high
    if padding == "SAME":
        total = window + s - 2
        low = np.where(s > window - 1, window - 1, -(-total // 2))
    else:
        total = window + s - 2 + np.maximum(window - s, 0)
        low = window - 1
    return low, total - low


def _layout(dimensions: int) -> tuple[str, str, str]:
    spatial = "XYZ"[:dimensions]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"
