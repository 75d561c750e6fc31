"""The multi-layer perceptron, or feed-forward network."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import Dropout, Initializer, he_normal, lecun_normal, zeros


class MLP(nn.Module):
    """Dense layers with an activation between them: y = W_L ... phi(W_2 phi(W_1 x + b_1) + b_2) ... + b_L.

    With no hidden layer it is softmax (multinomial logistic) regression.

    Source: Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

    Attributes:
      hidden: width of each hidden layer; () for none.
      num_classes: number of outputs; None: as many as the data has classes.
      activation: non-linearity after each hidden layer.
      dropout: probability of dropping a hidden unit while training; None: no dropout.
      kernel_init: initialiser of the hidden layers' weights.
      output_init: initialiser of the output layer's weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    hidden: tuple[PositiveInt, ...] = (256,)
    num_classes: PositiveInt | None = None
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    kernel_init: Initializer = he_normal
    output_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch ..."], train: bool = False) -> Float[Array, "batch classes"]:
        """Returns float32 logits; axes of `inputs` behind the first are flattened."""
        if self.num_classes is None:
            raise ValueError("MLP(num_classes=None): give the number of outputs, or let an experiment's data decide it")
        x = inputs.reshape(inputs.shape[0], -1).astype(self.dtype)
        for index, width in enumerate(self.hidden):
            x = nn.Dense(
                width, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init, name=f"hidden_{index}"
            )(x)
            x = Dropout(self.dropout)(self.activation(x), train)
        logits = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x)
        # The loss is computed in float32 whatever the computation's type.
        return logits.astype(jnp.float32)
