"""The multi-layer perceptron, or feed-forward network."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import Dropout, Initializer, batch_norm, he_normal, layer_norm, lecun_normal, zeros


class MLP(nn.Module):
    """Dense layers with an activation between them: FFN(x) = max(0, x W1 + b1) W2 + b2, and so on for any depth.

    A hidden layer is x -> dropout(activation(norm(x W + b))). With none it is softmax (multinomial logistic)
    regression.

    Source: Rumelhart, Hinton & Williams, "Learning representations by back-propagating errors", Nature 323, 1986.
    Layer normalisation: Ba, Kiros & Hinton, arXiv:1607.06450, 2016, eq. 4. Batch normalisation: Ioffe & Szegedy, ICML
    2015, algorithms 1 and 2.

    Attributes:
      hidden: width of each hidden layer; () for none.
      num_classes: number of outputs; None: as many as the data has classes.
      activation: non-linearity after each hidden layer.
      dropout: probability of dropping a hidden unit while training; None: no dropout.
      kernel_init: initialiser of the hidden layers' weights.
      output_init: initialiser of the output layer's weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
      norm: what brings hidden units to mean 0 and variance 1 before the activation: "layer", over the units of an
        example; "batch", over the examples of a batch, in evaluations with running means of both, and with no bias in
        the layer before; None: nothing.
    """

    hidden: tuple[PositiveInt, ...] = (256,)
    num_classes: PositiveInt | None = None
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    kernel_init: Initializer = he_normal
    output_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32
    norm: Literal["layer", "batch"] | None = None

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch ..."], train: bool = False) -> Float[Array, "batch classes"]:
        """Returns logits in at least float32; axes of `inputs` behind the first are flattened."""
        if self.num_classes is None:
            raise ValueError("MLP(num_classes=None): give the number of outputs, or let an experiment's data decide it")
        x = jax.lax.collapse(inputs, 1).astype(self.dtype)
        for index, width in enumerate(self.hidden):
            x = nn.Dense(
                width,
                use_bias=self.norm != "batch",  # which takes it off again
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                bias_init=self.bias_init,
                name=f"hidden_{index}",
            )(x)
            x = self._normalized(x, train, name=f"norm_{index}")
            x = Dropout(self.dropout)(self.activation(x), train)
        logits = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x)
        # The loss is computed in float32 whatever the computation's type.
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _normalized(self, x: Float[Array, "batch width"], train: bool, name: str) -> Float[Array, "batch width"]:
        if self.norm == "layer":
            return layer_norm(1e-5, self.dtype, name)(x)
        if self.norm == "batch":
            return batch_norm(train, self.dtype, name)(x)
        return x
