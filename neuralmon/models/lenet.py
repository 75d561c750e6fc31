"""LeNet-5."""

from functools import partial
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, PositiveInt
from neuralmon.layers import Constant, Initializer, lecun_normal, zeros

# Table I: which of the 6 maps of S2 each of the 16 maps of C3 sees. Maps that see different things have to learn
# different features.
TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
)  # fmt: skip


def scaled_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns 1.7159 tanh(2x / 3) (eq. 6), which is about 1 at 1 and -1 at -1, where it bends most (appendix A)."""
    return 1.7159 * jnp.tanh(x * (2 / 3))


def codes(num_classes: int) -> np.ndarray:
    """Returns what F6 should say of each class: (classes, 84) of +1 and -1, always the same."""
    return np.random.RandomState(0).choice((-1.0, 1.0), (num_classes, 84))  # its numbers are the same in every NumPy


class LeNet5(nn.Module):
    """The network that read cheques: three convolutions, two sub-samplings, two dense layers.

    Source: LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE
    86(11), 1998, section II.B and figure 2. In this order, with the paper's numbers of parameters:

        C1  5x5 convolution          (32, 32, 1)  -> (28, 28, 6)      156
        S2  2x2 sub-sampling         (28, 28, 6)  -> (14, 14, 6)       12
        C3  5x5, connected by table  (14, 14, 6)  -> (10, 10, 16)   1,516
        S4  2x2 sub-sampling         (10, 10, 16) -> (5, 5, 16)        32
        C5  5x5 convolution          (5, 5, 16)   -> (1, 1, 120)   48,120
        F6  dense                    (120,)       -> (84,)         10,164
        output                       (84,)        -> (classes,)         0 with output="rbf", else 85 a class

    Every layer up to F6 ends in the activation. With output="rbf" the logits are the negative squared distances
    (eq. 7) from F6's 84 values to a fixed code of +1 and -1 for each class, so that softmax cross-entropy is the
    paper's eq. 9 without its "rubbish" class. The paper draws the codes as pictures of the characters; here they are
    random, which it names as an alternative.

    Attributes:
      num_classes: number of outputs; None: as many as the data has classes.
      connections: what a map of C3 sees: the maps of S2 that the paper's table I says, or all 6 of them ("full").
      output: "dense": a linear layer, as nearly everyone has built it since; "rbf": distances to codes, as published.
      activation: non-linearity at the end of each layer.
      kernel_init: initialiser of all weights but the coefficients.
      coefficient_init: initialiser of the sub-samplings' coefficients; at 1/4 they begin as the mean of a window.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    num_classes: PositiveInt | None = None
    connections: Literal["table", "full"] = "table"
    output: Literal["dense", "rbf"] = "dense"
    activation: Activation = scaled_tanh
    kernel_init: Initializer = lecun_normal
    coefficient_init: Initializer = Constant(0.25)
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch height width 1"]) -> Float[Array, "batch classes"]:
        """Returns logits of images of 32 x 32 pixels, or of 28 x 28 such as MNIST's, to which a border is added.

        The border repeats the pixel of its corner: the background, whatever number that is after normalisation.

        Raises:
          ValueError: the images have another size.
        """
        if self.num_classes is None:
            raise ValueError("LeNet5(num_classes=None): give the number of outputs, or let an experiment's data say it")
        if inputs.ndim != 4 or inputs.shape[1:3] not in ((32, 32), (28, 28)):
            raise ValueError(f"LeNet5 takes images (batch, 32, 32, channels) or 28 x 28, not {inputs.shape}")
        x = inputs.astype(self.dtype)
        if x.shape[1] == 28:
            corner = x[:, :1, :1]
            x = jnp.pad(x - corner, ((0, 0), (2, 2), (2, 2), (0, 0))) + corner

        init = {"kernel_init": self.kernel_init, "bias_init": self.bias_init, "dtype": self.dtype}
        dense = partial(nn.Dense, **init)
        convolution = partial(
            nn.Conv, kernel_size=(5, 5), padding="VALID", conv_general_dilated=ops.conv_general_dilated, **init
        )
        subsampling = partial(Subsampling, self.coefficient_init, self.bias_init)
        table = TABLE if self.connections == "table" else (tuple(range(6)),) * 16

        x = self.activation(convolution(features=6, name="c1")(x))
        x = self.activation(subsampling(name="s2")(x))
        x = self.activation(TableConvolution(table, **init, name="c3")(x))
        x = self.activation(subsampling(name="s4")(x))
        x = self.activation(convolution(features=120, name="c5")(x)).reshape(-1, 120)
        x = self.activation(dense(features=84, name="f6")(x))
        if self.output == "dense":
            logits = dense(features=self.num_classes, name="output")(x)
        else:
            logits = -jnp.square(x[:, None] - codes(self.num_classes).astype(x.dtype)).sum(axis=-1)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


class Subsampling(nn.Module):
    """Coefficient * (sum of each 2x2 window) + bias, with one of both for each map.

    Attributes:
      coefficient_init: initialiser of the coefficients.
      bias_init: initialiser of the biases.
    """

    coefficient_init: Initializer = Constant(0.25)
    bias_init: Initializer = zeros

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch height width maps"]) -> Float[Array, "batch rows columns maps"]:
        """Returns maps of half the height and width, before the activation."""
        coefficient = self.param("coefficient", self.coefficient_init, inputs.shape[-1:]).astype(inputs.dtype)
        bias = self.param("bias", self.bias_init, inputs.shape[-1:]).astype(inputs.dtype)
        return 4 * ops.avg_pool(inputs, (2, 2), strides=(2, 2)) * coefficient + bias


class TableConvolution(nn.Module):
    """A 5x5 convolution without padding of which each output map sees some input maps only.

    Its kernel (5, 5, connections) has the connections in the order of the table: no parameter is stored that is not
    used.

    Attributes:
      table: for each output map, the input maps that it sees.
      kernel_init: initialiser of the weights.
      bias_init: initialiser of the biases.
      dtype: type of the computation; parameters stay float32.
    """

    table: tuple[tuple[int, ...], ...]
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch height width maps"]) -> Float[Array, "batch rows columns outputs"]:
        """Returns the convolution's outputs."""
        shape = (5, 5, inputs.shape[-1], len(self.table))
        sources = np.array([source for seen in self.table for source in seen])
        outputs = np.repeat(np.arange(len(self.table)), [len(seen) for seen in self.table])

        def init(key: jax.Array) -> Array:
            return self.kernel_init(key, shape)[:, :, sources, outputs]

        connected = self.param("kernel", init).astype(self.dtype)
        bias = self.param("bias", self.bias_init, (len(self.table),)).astype(self.dtype)
        kernel = jnp.zeros(shape, self.dtype).at[:, :, sources, outputs].set(connected)
        layout = ("NHWC", "HWIO", "NHWC")
        return ops.conv_general_dilated(inputs, kernel, (1, 1), "VALID", dimension_numbers=layout) + bias


# As published: 60,000 trainable parameters.
lenet5 = LeNet5(output="rbf")
