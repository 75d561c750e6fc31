"""The residual network."""

import functools
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt, PositiveNumber
from neuralmon.layers import Dropout, Initializer, ResidualBlock, batch_norm, he_normal, lecun_normal, zeros
from neuralmon.layers.residual import BlockKind, Shortcut, StrideIn


class ResNet(nn.Module):
    """A convolution, stages of residual blocks, the mean over all pixels, and the output layer.

    Every stage but the first begins with a block that halves height and width and doubles the channels (sec. 3.3).

    Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", arXiv:1512.03385, 2015 (table 1;
    CIFAR: sec. 4.2); "Identity Mappings in Deep Residual Networks", arXiv:1603.05027, 2016 (`pre_activation`).

    Attributes:
      stage_sizes: number of blocks of each stage.
      features: channels of the first stage's 3x3 convolutions; each later stage has twice as many.
      num_classes: number of outputs; None: as many as the data has classes.
      block: "basic" for two 3x3 convolutions, "bottleneck" for 1x1, 3x3 and 1x1 with 4 times as many outputs.
      stem: how the image enters: "cifar", a 3x3 convolution, or "imagenet", a 7x7 one with stride 2 and 3x3 max-pooling
        with stride 2, which leaves a quarter of height and width.
      shortcut: what a block adds where the shape changes: "zero_padding" (option A) or "projection" (option B); None:
        the plain network, without any shortcut.
      stride_in: convolution of a bottleneck that has the stride: "middle", the 3x3, as torchvision has it (known as
        v1.5), or "first", the 1x1, as published (v1).
      pre_activation: normalise and activate before each convolution (v2, 2016) instead of after it.
      activation: non-linearity.
      dropout: probability of dropping an input of the output layer while training; None: no dropout.
      momentum: share of the running statistics that each training step keeps; PyTorch's momentum is 1 minus this.
      epsilon: what normalisation adds to the variance; like the momentum it is torchvision's.
      kernel_init: initialiser of the convolutions.
      last_scale_init: initialiser of the scale of each block's last normalisation; with zeros every block begins as the
        identity (Goyal et al. 2017, sec. 5.1), not with `pre_activation`. None: ones, as everywhere.
      output_init: initialiser of the output layer's weights.
      bias_init: initialiser of the output layer's biases, the only ones beside those of the normalisations.
      dtype: type of the computation; parameters and statistics stay float32.
    """

    stage_sizes: tuple[PositiveInt, ...] = (3, 3, 3)
    features: PositiveInt = 16
    num_classes: PositiveInt | None = None
    block: BlockKind = "basic"
    stem: Literal["cifar", "imagenet"] = "cifar"
    shortcut: Shortcut | None = "zero_padding"
    stride_in: StrideIn = "middle"
    pre_activation: bool = False
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    momentum: FractionNumber = 0.9
    epsilon: PositiveNumber = 1e-5
    kernel_init: Initializer = he_normal
    last_scale_init: Initializer | None = None
    output_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits, in float32 or wider.

        With `train` the batch's statistics normalise and move the running ones in "batch_stats", used otherwise.

        Raises:
          ValueError: `inputs` are not images, or the number of outputs is not known.
        """
        if self.num_classes is None:
            raise ValueError("ResNet(num_classes=None): give the number of outputs, or let the data decide it")
        if inputs.ndim != 4:
            raise ValueError(f"ResNet takes images (batch, height, width, channels), not inputs of {inputs.shape}")
        normalise = functools.partial(batch_norm, train, self.dtype, momentum=self.momentum, epsilon=self.epsilon)
        # [batch, height, width, channels] -> [batch, height / 1 or 4, width / 1 or 4, features]
        size, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        x = nn.Conv(
            self.features,
            (size, size),
            strides=stride,
            padding=size // 2,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            conv_general_dilated=ops.conv_general_dilated,
            name="conv_stem",
        )(inputs.astype(self.dtype))
        x = self.activation(normalise(name="norm_stem")(x))
        if self.stem == "imagenet":
            x = ops.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

        # Stage k leaves 1 / 2^k of height and width with 2^k times the channels, in bottlenecks 4 times as many again.
        for stage, num_blocks in enumerate(self.stage_sizes):
            for index in range(num_blocks):
                x = ResidualBlock(
                    features=self.features * 2**stage,
                    block=self.block,
                    stride=2 if stage > 0 and index == 0 else 1,
                    stride_in=self.stride_in,
                    shortcut=self.shortcut,
                    pre_activation=self.pre_activation,
                    activated=stage == index == 0,
                    activation=self.activation,
                    momentum=self.momentum,
                    epsilon=self.epsilon,
                    kernel_init=self.kernel_init,
                    last_scale_init=self.last_scale_init,
                    dtype=self.dtype,
                    name=f"stage_{stage}_block_{index}",
                )(x, train)
        if self.pre_activation:
            x = self.activation(normalise(name="norm_output")(x))

        x = Dropout(self.dropout)(x.mean(axis=(1, 2)), train)  # [batch, channels]
        logits = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


# CIFAR (2015, sec. 4.2, table 6): 6n + 2 layers on images of 32 x 32.
resnet20 = ResNet((3, 3, 3))
resnet32 = ResNet((5, 5, 5))
resnet44 = ResNet((7, 7, 7))
resnet56 = ResNet((9, 9, 9))
resnet110 = ResNet((18, 18, 18))
resnet110_v2 = ResNet((18, 18, 18), pre_activation=True)  # 2016, table 3

# ImageNet (2015, table 1) on images of 224 x 224, the bottlenecks as v1.5.
_imagenet = functools.partial(ResNet, features=64, stem="imagenet", shortcut="projection")
resnet18 = _imagenet((2, 2, 2, 2))
resnet34 = _imagenet((3, 4, 6, 3))
resnet50 = _imagenet((3, 4, 6, 3), block="bottleneck")
resnet101 = _imagenet((3, 4, 23, 3), block="bottleneck")
resnet152 = _imagenet((3, 8, 36, 3), block="bottleneck")
