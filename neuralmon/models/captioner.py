"""A CNN that looks at an image, and a Transformer's decoder that writes about it."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import (
    Conv,
    Dropout,
    Initializer,
    KeyValueCache,
    MaxPool,
    Sequential,
    TokenEmbedding,
    TransformerBlock,
    TransformerStack,
    VarianceScaling,
    causal_mask,
    glorot_uniform,
    sinusoidal_positions,
    zeros,
)
from neuralmon.layers.sequential import through

Caches = tuple[KeyValueCache, ...]  # one for each layer of the decoder

small_cnn = Sequential((Conv(32, (3, 3)), nn.relu, MaxPool(), Conv(64, (3, 3)), nn.relu, MaxPool()))


class Captioner(nn.Module):
    """Each place of a CNN's feature map is a vector of the memory at which a causal decoder looks.

    Images -> feature map (height', width', channels) -> W m + P[row, column], height' * width' vectors; tokens ->
    causal self-attention, attention to the memory, feed-forward, N times -> logits of the next token.

    Sources: the map of places under attention is that of Xu et al., "Show, Attend and Tell: Neural Image Caption
    Generation with Visual Attention", ICML 2015, section 3.1; the decoder that of Vaswani et al. 2017, in place of an
    LSTM; sines of row and column that of Carion et al., "End-to-End Object Detection with Transformers", ECCV 2020.

    Attributes:
      vocab_size: number of tokens; None: as many as the data has.
      encoder: the CNN: any module that makes (batch, height', width', channels) of images.
      num_layers: number of the decoder's blocks N.
      num_heads: heads of each attention.
      width: size of the vector of each place, a multiple of `num_heads` and of 4.
      feedforward_dim: hidden width of the feed-forward networks.
      pre_norm: normalisation before each part and behind the stack, rather than after each part.
      activation: non-linearity of the feed-forward networks.
      dropout: probability of dropping an element of each part's output, of the memory, and of the sum of embedding and
        position, while training; None: no dropout.
      attention_dropout: the same for the attention weights.
      kernel_init: initialiser of the weights behind the CNN.
      embedding_init: initialiser of the token embeddings, which also make the logits.
      bias_init: initialiser of the biases behind the CNN.
      dtype: type of the computation behind the CNN, which has its own; parameters stay float32.
    """

    vocab_size: PositiveInt | None = None
    encoder: nn.Module = small_cnn
    num_layers: PositiveInt = 2
    num_heads: PositiveInt = 4
    width: PositiveInt = 128
    feedforward_dim: PositiveInt = 512
    pre_norm: bool = True
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    attention_dropout: FractionNumber | None = None
    kernel_init: Initializer = glorot_uniform
    embedding_init: Initializer = VarianceScaling(1.0, "fan_out", "normal")
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Makes the parts."""
        if self.vocab_size is None:
            raise ValueError("Captioner(vocab_size=None): give the number of tokens, or let the data decide it")
        if self.width % 4:
            raise ValueError(f"Captioner(width={self.width}): sines and cosines of row and column need a multiple of 4")
        self.connector = nn.Dense(self.width, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init)
        self.memory_dropout = Dropout(self.dropout)
        self.embedding = TokenEmbedding(
            self.vocab_size, self.width, dropout=self.dropout, embedding_init=self.embedding_init, dtype=self.dtype
        )
        self.decoder = self._stack()

    def __call__(self, inputs: Mapping[str, Array], train: bool = False) -> Float[Array, "batch time vocab_size"]:
        """Returns logits: those at place t of the target are of its token t + 1, and depend on no later one.

        Args:
          inputs: "images" (batch, height, width, channels), and "target" (batch, time), which begins with a start token
            and has its padding at its end.
          train: whether dropout acts.

        Raises:
          ValueError: these are no such inputs, or the encoder makes no feature map of them; `vocab_size` is None.
        """
        if not isinstance(inputs, Mapping) or set(inputs) != {"images", "target"}:
            given = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise ValueError(f'Captioner takes {{"images": images, "target": tokens}}, not {given}')
        return self.decode(inputs["target"], self.encode(inputs["images"], train), train=train)[0]

    def encode(
        self, images: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch places width"]:
        """Returns the decoder's memory: a vector for each place of the feature map, row by row."""
        features = through((self.encoder,), images, train)
        if features.ndim != 4:
            made = f"{type(self.encoder).__name__} makes {features.shape} of images of shape {images.shape}"
            raise ValueError(f"Captioner needs an encoder that makes a map (batch, height, width, channels); {made}")
        batch, rows, columns, _ = features.shape
        self.sow("intermediates", "feature_map", features)
        row, column = (sinusoidal_positions(length, self.width // 2, self.dtype) for length in (rows, columns))
        shape = rows, columns, self.width // 2
        places = [jnp.broadcast_to(row[:, None], shape), jnp.broadcast_to(column[None], shape)]
        memory = self.connector(features) + jnp.concatenate(places, axis=-1)
        return self.memory_dropout(memory.reshape(batch, rows * columns, self.width), train)

    def decode(
        self,
        tokens: Array,
        memory: Float[Array, "batch places width"] | Caches,
        memory_mask: Any = None,
        cache: Caches | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "batch time vocab_size"], Caches | None]:
        """Returns the logits of what follows each token, and the cache; everything as in `Transformer.decode`."""
        own = None if cache is None else cache[0]
        mask = causal_mask(tokens.shape[1]) if own is None else own.causal_mask(tokens.shape[1])
        x, cache = self.decoder(self.embedding(tokens, own, train), mask, memory, memory_mask, cache, train)
        logits = self.embedding.logits(x)
        if own is not None:
            logits = jnp.where(own.has_room(tokens.shape[1])[:, :, None], logits, jnp.nan)
        return logits, cache

    def memorize(self, images: Float[Array, "batch height width channels"]) -> tuple[Caches, None]:
        """Returns what `decode` looks at while it writes: `project_memory` of `encode`, of which nothing is masked."""
        return self.project_memory(self.encode(images)), None

    def project_memory(self, memory: Float[Array, "batch places width"]) -> Caches:
        """Returns each layer's keys and values of the memory, for `decode` to take instead of it."""
        return self.decoder.project_memory(memory)

    @nn.nowrap
    def empty_cache(self, batch_size: int, max_length: int) -> Caches:
        """Returns the cache with which decoding begins, with room for `max_length` tokens of each example."""
        return self._stack().empty_cache(batch_size, max_length, self.width)

    @nn.nowrap
    def _stack(self) -> TransformerStack:
        block = TransformerBlock(
            num_heads=self.num_heads,
            feedforward_dim=self.feedforward_dim,
            pre_norm=self.pre_norm,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            kernel_init=self.kernel_init,
            residual_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
        )
        return TransformerStack(self.num_layers, block)
