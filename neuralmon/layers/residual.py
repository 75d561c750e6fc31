"""The residual block: a few convolutions whose result is added to what went into them."""

import functools
from typing import Literal, TypeAlias

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt, PositiveNumber
from neuralmon.layers.initializers import Initializer, he_normal, ones
from neuralmon.layers.normalization import batch_norm

BlockKind: TypeAlias = Literal["basic", "bottleneck"]
Shortcut: TypeAlias = Literal["zero_padding", "projection"]
StrideIn: TypeAlias = Literal["middle", "first"]


class ResidualBlock(nn.Module):
    """y = phi(x + F(x)), or with `pre_activation` y = x + F(x), where F is two or three convolutions.

    With the batch normalisation N, the activation phi and the convolutions * W1, * W2, F is

        N(phi(N(x * W1)) * W2)               as published in 2015 (fig. 2; eqn. 1)
        phi(N(phi(N(x)) * W1)) * W2          with `pre_activation` (2016, fig. 4e)

    where W1 and W2 are 3x3 in a basic block; a bottleneck has W1, W2, W3 of 1x1, 3x3 and 1x1 (2015, fig. 5).

    Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, 2015; "Identity
    Mappings in Deep Residual Networks", arXiv:1603.05027, 2016.

    Attributes:
      features: channels of the 3x3 convolutions; a bottleneck has 4 times as many outputs.
      block: "basic" for two 3x3 convolutions, "bottleneck" for 1x1, 3x3 and 1x1.
      stride: step of the block; 2 halves height and width.
      stride_in: convolution of a bottleneck that has the stride: "middle", the 3x3 (known as v1.5), or "first", the
        1x1, as published. In a basic block it is always the first.
      shortcut: what x + F(x) adds where the shapes of x and F(x) differ: "zero_padding", every `stride`-th pixel with
        channels of zeros behind (option A), or "projection", a 1x1 convolution (option B); None: no x is added at all,
        y = phi(F(x)), as in a plain network.
      pre_activation: normalise and activate before each convolution instead of after it.
      activated: whether x comes normalised and activated, so that a block with `pre_activation` does not do it again;
        the first block of a network.
      activation: phi.
      momentum: share of the running statistics that each training step keeps.
      epsilon: what normalisation adds to the variance.
      kernel_init: initialiser of the convolutions.
      last_scale_init: initialiser of the scale of the last normalisation of F; with zeros the block begins as the
        identity. None: ones, as everywhere; with `pre_activation`, where no normalisation ends F, always None.
      dtype: type of the computation; parameters and statistics stay float32.
    """

    features: PositiveInt = 64
    block: BlockKind = "basic"
    stride: PositiveInt = 1
    stride_in: StrideIn = "middle"
    shortcut: Shortcut | None = "projection"
    pre_activation: bool = False
    activated: bool = False
    activation: Activation = nn.relu
    momentum: FractionNumber = 0.9
    epsilon: PositiveNumber = 1e-5
    kernel_init: Initializer = he_normal
    last_scale_init: Initializer | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch out_height out_width out_channels"]:
        """Returns height and width divided by `stride`, rounded up, with `features` channels, or 4 times as many.

        With `train` the statistics of the batch normalise, and the running ones in "batch_stats" move towards them.

        Raises:
          ValueError: `last_scale_init` is given where there is no such scale, or `shortcut` cannot make the shape.
        """
        if self.pre_activation and self.last_scale_init is not None:
            raise ValueError("last_scale_init: with pre_activation no normalisation ends a block; leave it at None")
        convolve = functools.partial(
            nn.Conv,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            conv_general_dilated=ops.conv_general_dilated,
        )
        normalise = functools.partial(batch_norm, train, self.dtype, momentum=self.momentum, epsilon=self.epsilon)
        x = inputs.astype(self.dtype)
        channels = self.features * (4 if self.block == "bottleneck" else 1)
        resized = self.stride > 1 or x.shape[-1] != channels

        # F(x): channels, kernel's size and stride of each convolution.
        if self.block == "basic":
            convolutions = [(self.features, 3, self.stride), (self.features, 3, 1)]
        else:
            first, middle = (self.stride, 1) if self.stride_in == "first" else (1, self.stride)
            convolutions = [(self.features, 1, first), (self.features, 3, middle), (channels, 1, 1)]
        y = x
        for index, (width, size, stride) in enumerate(convolutions):
            last = index == len(convolutions) - 1
            if self.pre_activation and not (index == 0 and self.activated):
                y = self.activation(normalise(name=f"norm_{index}")(y))
            if self.pre_activation and index == 0 and resized:
                x = y  # the first activation comes before the paths part (2016, appendix)
            # "SAME" would pad a stride of 2 behind only.
            y = convolve(width, (size, size), strides=stride, padding=size // 2, name=f"conv_{index}")(y)
            if not self.pre_activation:
                scale_init = self.last_scale_init if last and self.last_scale_init else ones
                y = normalise(name=f"norm_{index}", scale_init=scale_init)(y)
                y = y if last else self.activation(y)

        if self.shortcut == "projection" and resized:
            x = convolve(channels, (1, 1), strides=self.stride, padding=0, name="conv_shortcut")(x)
            x = x if self.pre_activation else normalise(name="norm_shortcut")(x)
        elif self.shortcut == "zero_padding" and resized:
            if x.shape[-1] > channels:
                raise ValueError(
                    f"shortcut=zero_padding only adds channels: {x.shape[-1]} to {channels} needs projection"
                )
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
        y = y if self.shortcut is None else x + y
        return y if self.pre_activation else self.activation(y)
