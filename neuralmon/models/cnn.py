"""The convolutional network."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import Dropout, Initializer, he_normal, lecun_normal, zeros


class CNN(nn.Module):
    """Stages of convolution, activation and 2x2 max-pooling, then a hidden dense layer and the output layer.

    Source: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE
    86(11), 1998, with ReLU, max-pooling and dropout (Krizhevsky, Sutskever & Hinton 2012).

    Attributes:
      features: output channels of each stage; each stage halves height and width.
      hidden: width of the dense layer before the output.
      num_classes: number of outputs; None: as many as the data has classes.
      kernel_size: height and width of the convolutions' kernels.
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
        """Returns float32 logits.

        Raises:
          ValueError: `inputs` are not images, or are too small for so many stages.
        """
        if self.num_classes is None:
            raise ValueError("CNN(num_classes=None): give the number of outputs, or let an experiment's data decide it")
        if inputs.ndim != 4:
            raise ValueError(f"CNN takes images (batch, height, width, channels), not inputs of shape {inputs.shape}")
        if min(inputs.shape[1:3]) < 2 ** len(self.features):
            raise ValueError(
                f"CNN(features={self.features}) halves the image {len(self.features)} times; images of "
                f"{inputs.shape[1]} x {inputs.shape[2]} pixels are too small for that"
            )
        x = inputs.astype(self.dtype)
        for index, channels in enumerate(self.features):
            x = nn.Conv(
                channels,
                self.kernel_size,
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                bias_init=self.bias_init,
                conv_general_dilated=ops.conv_general_dilated,
                name=f"conv_{index}",
            )(x)
            x = ops.max_pool(self.activation(x), (2, 2), strides=(2, 2))
        x = Dropout(self.dropout)(x.reshape(x.shape[0], -1), train)
        x = nn.Dense(
            self.hidden, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init, name="hidden"
        )(x)
        x = Dropout(self.dropout)(self.activation(x), train)
        logits = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x)
        # The loss is computed in float32 whatever the computation's type.
        return logits.astype(jnp.float32)
