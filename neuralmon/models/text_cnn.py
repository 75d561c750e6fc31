"""The convolutional network for texts."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import Dropout, Initializer, Normal, he_normal, lecun_normal, zeros
from neuralmon.layers.texts import Texts, read_texts


class TextCNN(nn.Module):
    """Detectors of short phrases slide over the tokens' vectors; how strongly each was ever excited is classified.

    With the defaults and a text of n tokens these shapes flow through:

        tokens (n,) -> embedding (n, 128) -> conv_3 (n, 100) -> maximum (100,) \\
                                          -> conv_4 (n, 100) -> maximum (100,)  > side by side (300,) -> output
                                          -> conv_5 (n, 100) -> maximum (100,) /

    c_i = f(w . x_{i:i+h-1} + b) for each detector of h tokens (eq. 2), max over i (eq. 3). A detector begins at each
    token of the text; behind its last token there are zeros. Padding has no influence. With `kernel_sizes=(1,)` and
    `pool="mean"` it is a bag of words.

    Source: Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014 (arXiv:1408.5882), the variant
    CNN-rand, without its bound on the norm of the output weights.

    Attributes:
      kernel_sizes: h, how many tokens a detector sees; there is a layer for each.
      features: number of detectors of each size.
      num_classes: number of outputs; None: as many as the data has classes.
      vocab_size: number of tokens; None: as many as the data has.
      embedding_dim: size of a token's vector.
      pool: what is kept of a detector's excitement over the text: its maximum or its mean.
      activation: non-linearity of the detectors.
      embedding_dropout: probability of dropping an element of the tokens' vectors while training; None: no dropout.
      dropout: the same for the inputs of the output layer.
      embedding_init: initialiser of the tokens' vectors.
      kernel_init: initialiser of the detectors.
      output_init: initialiser of the output layer's weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    kernel_sizes: tuple[PositiveInt, ...] = (3, 4, 5)
    features: PositiveInt = 100
    num_classes: PositiveInt | None = None
    vocab_size: PositiveInt | None = None
    embedding_dim: PositiveInt = 128
    pool: Literal["max", "mean"] = "max"
    activation: Activation = nn.relu
    embedding_dropout: FractionNumber | None = None
    dropout: FractionNumber | None = 0.5
    embedding_init: Initializer = Normal(0.1)
    kernel_init: Initializer = he_normal
    output_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Texts, train: bool = False) -> Float[Array, "batch classes"]:
        """Returns logits of at least float32.

        Args:
          inputs: tokens (batch, time), or {"sequence": tokens, "lengths": ...} (see `neuralmon.layers.texts`). A text
            without tokens is all zeros to the output layer.
          train: whether dropout acts.

        Raises:
          ValueError: these are no texts, or a size is None.
        """
        if self.num_classes is None or self.vocab_size is None:
            left_open = "num_classes" if self.num_classes is None else "vocab_size"
            raise ValueError(f"TextCNN({left_open}=None): give the number, or let an experiment's data decide it")
        tokens, real = read_texts("TextCNN", inputs)
        x = nn.Embed(
            self.vocab_size, self.embedding_dim, dtype=self.dtype, embedding_init=self.embedding_init, name="embedding"
        )(tokens)
        x = Dropout(self.embedding_dropout, name="input_dropout")(jnp.where(real[..., None], x, 0), train)

        found = []
        for size in self.kernel_sizes:
            excitement = nn.Conv(
                self.features,
                (size,),
                padding=((0, size - 1),),
                dtype=self.dtype,
                kernel_init=self.kernel_init,
                bias_init=self.bias_init,
                conv_general_dilated=ops.conv_general_dilated,
                name=f"conv_{size}",
            )(x)
            found.append(self._pooled(self.activation(excitement), real))
        x = Dropout(self.dropout)(jnp.concatenate(found, axis=-1), train)
        logits = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def _pooled(self, x: Float[Array, "batch time features"], real: Bool[Array, "batch time"]) -> Array:
        count = real.sum(axis=1, dtype=x.dtype)[:, None]
        if self.pool == "mean":
            return jnp.where(real[..., None], x, 0).sum(axis=1) / jnp.maximum(count, 1)
        highest = jnp.where(real[..., None], x, -jnp.inf).max(axis=1)
        return jnp.where(count > 0, highest, 0)
