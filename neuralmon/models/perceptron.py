"""The perceptron."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import Dtype, PositiveInt
from neuralmon.layers import Initializer, zeros


class Perceptron(nn.Module):
    """A weighted sum and a bias, of which the sign is the answer: s = x W + b, yes where s > 0.

    The model returns the sums. The step is taken by the task when it predicts, and by `nm.layers.step(sums)` for who
    wants the neuron's own 0 or 1: its slope is 0 everywhere, so nothing could be learned through it.

    - One of two classes, by one unit: `task=nm.tasks.BinaryClassification(objective="perceptron")`.
    - One of several, each class against the rest by a unit of its own, the largest sum wins:
      `task=nm.tasks.Classification(objective="perceptron")`.

    With `objective="perceptron"`, batches of one and plain `nm.optim.SGD`, training is Rosenblatt's rule: what is
    classified rightly changes nothing, a mistake adds learning_rate * x to the weights of what it should have been, or
    takes it from the weights of what it should not. It ends if a plane divides the classes (Novikoff, "On convergence
    proofs for perceptrons", 1962), and never otherwise.

    Source: Rosenblatt, "The Perceptron: A Probabilistic Model for Information Storage and Organization in the Brain",
    Psychological Review 65(6), 1958; report 85-460-1 of the Cornell Aeronautical Laboratory, 1957.

    Attributes:
      num_classes: number of units; None: as the task needs, one for two classes told apart by a sign.
      kernel_init: initialiser of the weights; from zero, the learning rate changes the length of the weights only.
      bias_init: initialiser of the biases.
      dtype: type of the computation; parameters stay float32.
    """

    num_classes: PositiveInt | None = None
    kernel_init: Initializer = zeros
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch ..."], train: bool = False) -> Float[Array, "batch units"]:
        """Returns the weighted sums in at least float32; axes of `inputs` behind the first are flattened."""
        if self.num_classes is None:
            what = "Perceptron(num_classes=None)"
            raise ValueError(f"{what}: give the number of units, 1 for two classes, or let an experiment's task decide")
        x = jax.lax.collapse(inputs, 1).astype(self.dtype)
        sums = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init, name="output"
        )(x)
        return sums.astype(jnp.promote_types(sums.dtype, jnp.float32))
