"""Layers for stacks: with those of `flax.linen`, what `Sequential` is filled with.

    nm.models.Sequential((nm.layers.Flatten(), nm.layers.Dense(256), nn.relu, nm.layers.Output()))

`Dense` and `Conv` are Linen's in what they compute; they have the initialisers of the models here, and fewer fields.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Dtype, PositiveInt
from neuralmon.layers.initializers import Initializer, he_normal, lecun_normal, zeros


class Dense(nn.Module):
    """Weighted sums of the last axis: y = x W + b.

    Attributes:
      features: number of outputs.
      use_bias: whether b is added.
      kernel_init: initialiser of the weights W.
      bias_init: initialiser of the biases b.
      dtype: type of the computation; parameters stay float32.
    """

    features: PositiveInt
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "... inputs"]) -> Float[Array, "... features"]:
        """Returns the sums."""
        kernel = self.param("kernel", self.kernel_init, (inputs.shape[-1], self.features))
        sums = inputs.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return sums
        return sums + self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)


class Output(nn.Module):
    """The last layer: as many weighted sums as the data has classes, y = x W + b.

    Attributes:
      num_classes: number of outputs; None: as many as the data has classes.
      kernel_init: initialiser of the weights W.
      bias_init: initialiser of the biases b.
      dtype: type of the computation; parameters stay float32.
    """

    num_classes: PositiveInt | None = None
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "... inputs"]) -> Float[Array, "... classes"]:
        """Returns logits in at least float32."""
        if self.num_classes is None:
            raise ValueError("Output(num_classes=None): give the number of outputs, or let an experiment's data decide")
        kernel = self.param("kernel", self.kernel_init, (inputs.shape[-1], self.num_classes))
        bias = self.param("bias", self.bias_init, (self.num_classes,))
        logits = inputs.astype(self.dtype) @ kernel.astype(self.dtype) + bias.astype(self.dtype)
        return logits.astype(jnp.promote_types(self.dtype, jnp.float32))


class Conv(nn.Module):
    """A convolution, in any number of spatial dimensions, with gradients that are fast on CPU (see `neuralmon.ops`).

    Attributes:
      features: number of output channels.
      kernel_size: size of the kernel in each spatial dimension.
      strides: step of the kernel in each spatial dimension; None: 1.
      padding: SAME keeps the size at a stride of 1, VALID pads nothing.
      use_bias: whether each channel has a bias.
      kernel_init: initialiser of the kernels.
      bias_init: initialiser of the biases.
      dtype: type of the computation; parameters stay float32.
    """

    features: PositiveInt
    kernel_size: tuple[PositiveInt, ...] = (3, 3)
    strides: tuple[PositiveInt, ...] | None = None
    padding: Literal["SAME", "VALID"] = "SAME"
    use_bias: bool = True
    kernel_init: Initializer = he_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch *spatial inputs"]) -> Float[Array, "batch *windows features"]:
        """Returns the windows' weighted sums.

        Raises:
          ValueError: the kernel does not fit into the inputs.
        """
        _check_fit(self, "kernel_size", inputs)
        rank = inputs.ndim - 2
        strides = self.strides or (1,) * rank
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, inputs.shape[-1], self.features))
        channels_last = (0, rank + 1, *range(1, rank + 1))
        layout = lax.ConvDimensionNumbers(channels_last, (rank + 1, rank, *range(rank)), channels_last)
        sums = ops.conv_general_dilated(
            inputs.astype(self.dtype), kernel.astype(self.dtype), strides, self.padding, dimension_numbers=layout
        )
        if not self.use_bias:
            return sums
        return sums + self.param("bias", self.bias_init, (self.features,)).astype(self.dtype)


class Flatten(nn.Module):
    """All axes behind the batch become one: (batch, ...) -> (batch, features)."""

    def __call__(self, inputs: Float[Array, "batch ..."]) -> Float[Array, "batch features"]:
        """Returns `inputs` in rows."""
        return lax.collapse(inputs, 1)


class MaxPool(nn.Module):
    """The largest value of each window: (batch, height, width, channels) -> (batch, height', width', channels).

    Attributes:
      window: size of the window in each spatial dimension.
      strides: step of the window in each spatial dimension; None: as large as the window.
      padding: VALID leaves out what no whole window covers, SAME pads.
    """

    window: tuple[PositiveInt, ...] = (2, 2)
    strides: tuple[PositiveInt, ...] | None = None
    padding: Literal["VALID", "SAME"] = "VALID"

    def __call__(self, inputs: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *windows channels"]:
        """Returns the maxima.

        Raises:
          ValueError: the window does not fit into the inputs.
        """
        _check_fit(self, "window", inputs)
        return ops.max_pool(inputs, self.window, self.strides or self.window, self.padding)


class AvgPool(nn.Module):
    """The mean of each window: (batch, height, width, channels) -> (batch, height', width', channels).

    Attributes:
      window: size of the window in each spatial dimension.
      strides: step of the window in each spatial dimension; None: as large as the window.
      padding: VALID leaves out what no whole window covers, SAME pads with zeros, which count.
    """

    window: tuple[PositiveInt, ...] = (2, 2)
    strides: tuple[PositiveInt, ...] | None = None
    padding: Literal["VALID", "SAME"] = "VALID"

    def __call__(self, inputs: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch *windows channels"]:
        """Returns the means.

        Raises:
          ValueError: the window does not fit into the inputs.
        """
        _check_fit(self, "window", inputs)
        return ops.avg_pool(inputs, self.window, self.strides or self.window, self.padding)


class GlobalAveragePool(nn.Module):
    """The mean over all places: (batch, *spatial, channels) -> (batch, channels).

    Source: Lin, Chen & Yan, "Network In Network", ICLR 2014, sec. 3.2.
    """

    def __call__(self, inputs: Float[Array, "batch *spatial channels"]) -> Float[Array, "batch channels"]:
        """Returns the means."""
        return inputs.mean(axis=tuple(range(1, inputs.ndim - 1)))


def _check_fit(layer: Conv | MaxPool | AvgPool, name: str, inputs: Array) -> None:
    """Raises a ValueError if the windows, of the size in field `name`, are not those of such inputs."""
    window, places = getattr(layer, name), inputs.shape[1:-1]
    what = f"{type(layer).__name__}({name}={window}, strides={layer.strides})"
    if not len(window) == len(layer.strides or window) == inputs.ndim - 2:
        raise ValueError(f"{what} does not fit inputs of shape {inputs.shape}: it takes (batch, ..., channels)")
    # There would be no window, and the mean of nothing is NaN.
    if layer.padding == "VALID" and any(n < size for n, size in zip(places, window, strict=True)):
        raise ValueError(f"{what} is larger than inputs of shape {inputs.shape}: use smaller ones, or padding=SAME")
