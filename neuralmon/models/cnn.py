"""The convolutional network."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import Dropout, Initializer, batch_norm, he_normal, layer_norm, lecun_normal, zeros


class CNN(nn.Module):
    """Stages of convolution, activation and pooling, then a hidden dense layer and the output layer.

    With the defaults and 28 x 28 grey images of 10 classes these shapes flow through:

        (28, 28, 1) -> conv_0 (28, 28, 32) -> pool (14, 14, 32) -> conv_1 (14, 14, 64) -> pool (7, 7, 64)
        -> flat (3136,) -> hidden (256,) -> output (10,)

    Source: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE
    86(11), 1998, with ReLU, max-pooling and dropout (Krizhevsky, Sutskever & Hinton 2012).

    Attributes:
      features: output channels of each stage.
      hidden: width of the dense layer before the output.
      num_classes: number of outputs; None: as many as the data has classes.
      kernel_size: height and width of the convolutions' kernels.
      convolutions: convolutions of each stage, one after the other before the pooling.
      padding: "SAME": a convolution keeps height and width; "VALID": it adds no border and takes kernel_size - 1 off.
      pool: what is kept of each window at the end of a stage: its maximum or its mean.
      pool_size: height and width of the pooling's windows, by which a stage divides those of the image; 1: no pooling.
      norm: normalisation between each convolution, which then has no bias, and its activation; None: none.
      activation: non-linearity after each convolution and after the hidden layer.
      dropout: probability of dropping an input of either dense layer while training; None: no dropout.
      kernel_init: initialiser of all weights but the output layer's.
      output_init: initialiser of the output layer's weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    features: tuple[PositiveInt, ...] = (32, 64)
    hidden: PositiveInt = 256
    num_classes: PositiveInt | None = None
    kernel_size: tuple[PositiveInt, PositiveInt] = (3, 3)
    convolutions: PositiveInt = 1
    padding: Literal["SAME", "VALID"] = "SAME"
    pool: Literal["max", "mean"] = "max"
    pool_size: PositiveInt = 2
    norm: Literal["batch", "layer"] | None = None
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    kernel_init: Initializer = he_normal
    output_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits, in float32 or, where that is the computation's type, in float64.

        Raises:
          ValueError: `inputs` are not images, or are too small for so many stages.
        """
        if self.num_classes is None:
            raise ValueError("CNN(num_classes=None): give the number of outputs, or let an experiment's data decide it")
        if inputs.ndim != 4:
            raise ValueError(f"CNN takes images (batch, height, width, channels), not inputs of shape {inputs.shape}")
        self._check_size(*inputs.shape[1:3])

        x = inputs.astype(self.dtype)
        for stage, channels in enumerate(self.features):
            for index in range(stage * self.convolutions, (stage + 1) * self.convolutions):
                x = nn.Conv(
                    channels,
                    self.kernel_size,
                    padding=self.padding,
                    use_bias=self.norm is None,
                    dtype=self.dtype,
                    kernel_init=self.kernel_init,
                    bias_init=self.bias_init,
                    conv_general_dilated=ops.conv_general_dilated,
                    name=f"conv_{index}",
                )(x)
                x = self.activation(self._normalized(x, f"norm_{index}", train))
            window = (self.pool_size, self.pool_size)
            x = {"max": ops.max_pool, "mean": ops.avg_pool}[self.pool](x, window, strides=window)

        x = Dropout(self.dropout)(jax.lax.collapse(x, 1), train)
        x = nn.Dense(
            self.hidden, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init, name="hidden"
        )(x)
        x = Dropout(self.dropout)(self.activation(x), train)
        logits = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x)
        # The loss is computed in float32 at least, whatever the computation's type.
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _normalized(self, x: Float[Array, "batch height width channels"], name: str, train: bool) -> Array:
        if self.norm == "batch":
            return batch_norm(train, self.dtype, name)(x)
        if self.norm == "layer":
            return layer_norm(1e-5, self.dtype, name)(x)
        return x

    def _check_size(self, height: int, width: int) -> None:
        sizes = [height, width]
        for stage in range(1, len(self.features) + 1):
            if self.padding == "VALID":
                sizes = [size - self.convolutions * (k - 1) for size, k in zip(sizes, self.kernel_size, strict=True)]
            sizes = [size // self.pool_size for size in sizes]
            if min(sizes) < 1:
                raise ValueError(
                    f"CNN(features={self.features}): images of {height} x {width} pixels are too small for "
                    f"{len(self.features)} stages; nothing is left of them after stage {stage}"
                )


# The network of H. M. Soares, "Who is that Neural Network?", Journal of Geek Studies 4(1), 2017, for sprites of
# 64 x 64 pixels (hue, saturation, value) and 18 types; the article's second one has dropout as well.
pokemon_cnn = CNN(features=(32, 64), hidden=64, kernel_size=(5, 5), padding="VALID")
