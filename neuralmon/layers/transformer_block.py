"""The block of which every Transformer is a stack: attention, then a feed-forward network, each with a way around."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveFloat, PositiveInt
from neuralmon.layers.attention import KeyValueCache, MultiHeadAttention
from neuralmon.layers.dropout import Dropout
from neuralmon.layers.initializers import Initializer, glorot_uniform, zeros
from neuralmon.layers.normalization import layer_norm


class FeedForward(nn.Module):
    """The same two dense layers at every place: phi(x W_1 + b_1) W_2 + b_2 (Vaswani et al. 2017, eq. 2).

    Attributes:
      hidden_dim: width between the two layers.
      activation: phi.
      kernel_init: initialiser of the first layer's weights.
      out_init: initialiser of the second layer's weights.
      bias_init: initialiser of the biases.
      dtype: type of the computation; parameters stay float32.
    """

    hidden_dim: PositiveInt
    activation: Activation = nn.relu
    kernel_init: Initializer = glorot_uniform
    out_init: Initializer = glorot_uniform
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Float[Array, "*places width"]) -> Float[Array, "*places width"]:
        """Returns an array of the inputs' shape."""
        kinds: dict[str, Any] = {"dtype": self.dtype, "bias_init": self.bias_init, "dot_general": ops.dot_general}
        hidden = nn.Dense(self.hidden_dim, kernel_init=self.kernel_init, name="hidden", **kinds)(inputs)
        return nn.Dense(inputs.shape[-1], kernel_init=self.out_init, name="out", **kinds)(self.activation(hidden))


class TransformerBlock(nn.Module):
    """Self-attention, attention to a memory where there is one, and a feed-forward network.

    Each part f stands in a residual connection with layer normalisation: LayerNorm(x + f(x)) as published (post-norm),
    or x + f(LayerNorm(x)) (pre-norm), which trains deep stacks without warm-up.

    Sources: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.1; pre-norm: Xiong et al., "On Layer
    Normalization in the Transformer Architecture", ICML 2020.

    Attributes:
      num_heads: heads of the attention.
      feedforward_dim: hidden width of the feed-forward network.
      pre_norm: whether normalisation stands before each part rather than after its residual connection.
      activation: non-linearity of the feed-forward network.
      dropout: probability of dropping an element of a part's output while training; None: no dropout.
      attention_dropout: probability of dropping an attention weight while training; None: no dropout.
      norm_epsilon: what layer normalisation adds to the variance.
      kernel_init: initialiser of the weights, but those of `residual_init`.
      residual_init: initialiser of the weights of each part's last layer, which write into the residual connection.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    num_heads: PositiveInt
    feedforward_dim: PositiveInt
    pre_norm: bool = False
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    attention_dropout: FractionNumber | None = None
    norm_epsilon: PositiveFloat = 1e-5
    kernel_init: Initializer = glorot_uniform
    residual_init: Initializer = glorot_uniform
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Makes the parts."""
        kinds: dict[str, Any] = {
            "kernel_init": self.kernel_init,
            "out_init": self.residual_init,
            "bias_init": self.bias_init,
            "dtype": self.dtype,
        }
        self.attention = MultiHeadAttention(self.num_heads, dropout=self.attention_dropout, **kinds)
        self.attention_norm = layer_norm(self.norm_epsilon, self.dtype)
        # Linen makes no parameters for what is never called.
        self.cross_attention = MultiHeadAttention(self.num_heads, dropout=self.attention_dropout, **kinds)
        self.cross_attention_norm = layer_norm(self.norm_epsilon, self.dtype)
        self.feedforward = FeedForward(self.feedforward_dim, self.activation, **kinds)
        self.feedforward_norm = layer_norm(self.norm_epsilon, self.dtype)
        self.residual_dropout = Dropout(self.dropout)

    def __call__(
        self,
        inputs: Float[Array, "batch time width"],
        mask: Bool[Array, "#batch #heads #time key_time"] | None = None,
        memory: Float[Array, "batch memory_time memory_width"] | KeyValueCache | None = None,
        memory_mask: Bool[Array, "#batch #heads #time memory_time"] | None = None,
        cache: KeyValueCache | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "batch time width"], KeyValueCache | None]:
        """Returns the block's outputs, and its cache with the keys and values of these inputs.

        Args:
          inputs: one vector for each place.
          mask: True where a place may look among `inputs` (see `MultiHeadAttention`).
          memory: what the second attention looks at, or what `project_memory` made of it; None: there is no second
            attention.
          memory_mask: True where a place may look in `memory`.
          cache: keys and values of what self-attention read before.
          train: whether dropout acts.
        """

        def residual(norm: nn.LayerNorm, part: Callable[[Array], Array], x: Array) -> Array:
            if self.pre_norm:
                return x + self.residual_dropout(part(norm(x)), train)
            return norm(x + self.residual_dropout(part(x), train))

        def attend(x: Array) -> Array:
            nonlocal cache
            outputs, cache = self.attention(x, mask=mask, cache=cache, train=train)
            return outputs

        def look_up(x: Array) -> Array:
            return self.cross_attention(x, memory=memory, mask=memory_mask, train=train)[0]

        x = residual(self.attention_norm, attend, inputs)
        if memory is not None:
            x = residual(self.cross_attention_norm, look_up, x)
        return residual(self.feedforward_norm, self.feedforward, x), cache

    def project_memory(self, memory: Float[Array, "batch memory_time width"]) -> KeyValueCache:
        """Returns the keys and values of a memory, to be looked at in many calls and computed once."""
        batch, time, width = memory.shape
        cache: Any = KeyValueCache.empty(batch, time, self.num_heads, width // self.num_heads, self.dtype)
        nobody = memory[:, :0]
        _, cache = self.cross_attention(nobody, memory=memory, mask=cache.causal_mask(0), cache=cache)
        return cache
