"""The Transformer: an encoder that reads one sequence, a decoder that writes another."""

from collections.abc import Mapping
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from neuralmon.fields import Activation, Dtype, FractionNumber, NonNegativeInt, PositiveFloat, PositiveInt
from neuralmon.layers import (
    Initializer,
    KeyValueCache,
    Normal,
    TokenEmbedding,
    TransformerBlock,
    TransformerStack,
    VarianceScaling,
    causal_mask,
    glorot_uniform,
    padding_mask,
    segment_mask,
    segment_places,
    zeros,
)

Caches = tuple[KeyValueCache, ...]  # one for each layer of the decoder


class Transformer(nn.Module):
    """An encoder in which each place sees all others, and a decoder that sees what it has written and the encoder.

    Encoder, N times: self-attention, feed-forward. Decoder, N times: causal self-attention, attention to the encoder's
    outputs, feed-forward. Each part stands in a residual connection with layer normalisation; logits are x E^T.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017 (arXiv:1706.03762), figure 1 and section 3.

    Attributes:
      vocab_size: number of tokens, of the target where the source has its own; None: as many as the data has.
      source_vocab_size: number of tokens of the source; None: as many as `vocab_size`.
      num_layers: number of blocks N of the encoder, and as many of the decoder.
      num_heads: heads h of each attention.
      width: size d_model of the vector of each place, a multiple of `num_heads`.
      feedforward_dim: hidden width d_ff of the feed-forward networks.
      pre_norm: normalisation before each part and behind each stack, rather than after each part as published.
      final_norm: whether each stack's outputs are normalised; None: with `pre_norm`. torch.nn.Transformer always does.
      share_embeddings: "all": one table for source, target and logits, as in section 3.4; "target": the source has its
        own; "none": so have the logits.
      positions: sines and cosines (section 3.5), or a learned table.
      max_length: most places a learned table has.
      pad_id: the token of the source that is padding and that nothing looks at; None: there is none. The target's
        padding has to stand at its end, where the causal mask hides it.
      activation: non-linearity of the feed-forward networks.
      dropout: probability of dropping an element of each part's output, and of the sum of embedding and position, while
        training (section 5.4); None: no dropout.
      attention_dropout: the same for the attention weights.
      norm_epsilon: what layer normalisation adds to the variance.
      kernel_init: initialiser of the blocks' weights.
      embedding_init: initialiser of the token embeddings; the published code's: N(0, 1 / width).
      position_init: initialiser of learned positions.
      output_init: initialiser of the logits' weights, where they are not an embedding.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    vocab_size: PositiveInt | None = None
    source_vocab_size: PositiveInt | None = None
    num_layers: PositiveInt = 6
    num_heads: PositiveInt = 8
    width: PositiveInt = 512
    feedforward_dim: PositiveInt = 2048
    pre_norm: bool = False
    final_norm: bool | None = None
    share_embeddings: Literal["all", "target", "none"] = "all"
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_length: PositiveInt = 512
    pad_id: NonNegativeInt | None = 0
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    attention_dropout: FractionNumber | None = None
    norm_epsilon: PositiveFloat = 1e-5
    kernel_init: Initializer = glorot_uniform
    embedding_init: Initializer = VarianceScaling(1.0, "fan_out", "normal")
    position_init: Initializer = Normal(0.02)
    output_init: Initializer = glorot_uniform
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Makes the parts."""
        if self.vocab_size is None:
            raise ValueError("Transformer(vocab_size=None): give the number of tokens, or let the data decide it")
        source_size = self.source_vocab_size or self.vocab_size
        if self.share_embeddings == "all":
            if source_size != self.vocab_size:
                what = f"source_vocab_size={source_size}, vocab_size={self.vocab_size}"
                raise ValueError(
                    f"Transformer({what}) cannot share all embeddings: use share_embeddings=target or none"
                )
            self.embedding = self._embedding(self.vocab_size)
        else:
            self.source_embedding = self._embedding(source_size)
            self.target_embedding = self._embedding(self.vocab_size)
        if self.share_embeddings == "none":
            self.output = nn.Dense(self.vocab_size, use_bias=False, dtype=self.dtype, kernel_init=self.output_init)
        self.encoder = self._stack()
        self.decoder = self._stack()

    def __call__(
        self, inputs: Mapping[str, Int[Array, "batch time"]], train: bool = False
    ) -> Float[Array, "batch target_time vocab_size"]:
        """Returns logits: those at place t of the target are of its token t + 1, and depend on no later one.

        Args:
          inputs: "source" (batch, source_time) and "target" (batch, target_time), which begins with a start token.
            Several short pairs may be packed into one row: then "source_segments" and "target_segments", of the same
            shapes, number them from 1, and are 0 for padding; each pair is computed as if it were alone.
          train: whether dropout acts.

        Raises:
          ValueError: these are no such inputs, or longer than learned positions; `vocab_size` is None.
        """
        packed = {"source_segments", "target_segments"}
        if not isinstance(inputs, Mapping) or set(inputs) - packed != {"source", "target"}:
            given = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
            raise ValueError(f'Transformer takes {{"source": tokens, "target": tokens}}, not {given}')
        if len(packed & set(inputs)) == 1:
            raise ValueError("Transformer takes source_segments and target_segments, or none of them")
        segments = inputs.get("target_segments")
        memory, source_mask = self.encode(inputs["source"], train, inputs.get("source_segments"))
        if segments is not None:
            source_mask = segment_mask(segments, inputs["source_segments"])
        return self.decode(inputs["target"], memory, source_mask, train=train, segments=segments)[0]

    def encode(
        self,
        source: Int[Array, "batch source_time"],
        train: bool = False,
        segments: Int[Array, "batch source_time"] | None = None,
    ) -> tuple[Float[Array, "batch source_time width"], Bool[Array, "batch 1 #source_time source_time"] | None]:
        """Returns the encoder's outputs, the decoder's memory, and the mask that hides padding among them.

        With `segments` it hides all that is of another segment, (batch, 1, source_time, source_time).
        """
        mask, places = None if self.pad_id is None else padding_mask(source != self.pad_id), None
        if segments is not None:
            mask, places = segment_mask(segments, segments), segment_places(segments)
        embedding = self.embedding if self.share_embeddings == "all" else self.source_embedding
        return self.encoder(embedding(source, train=train, places=places), mask, train=train)[0], mask

    def decode(
        self,
        tokens: Int[Array, "batch time"],
        memory: Float[Array, "batch source_time width"] | Caches,
        source_mask: Bool[Array, "batch 1 #time source_time"] | None = None,
        cache: Caches | None = None,
        train: bool = False,
        segments: Int[Array, "batch time"] | None = None,
    ) -> tuple[Float[Array, "batch time vocab_size"], Caches | None]:
        """Returns the logits of what follows each token, and the cache with these tokens read.

        Without a cache `tokens` is the whole target, of several pairs where there are `segments`. With one it is what
        follows the tokens read before; places for which the cache has no room get NaN.

            memory, mask = model.apply(variables, source, method="encode")
            memory = model.apply(variables, memory, method="project_memory")    # once, not for each token
            cache = model.empty_cache(batch_size, max_length)
            logits, cache = model.apply(variables, tokens, memory, mask, cache, method="decode")
        """
        embedding = self.embedding if self.share_embeddings == "all" else self.target_embedding
        own = None if cache is None else cache[0]
        mask = causal_mask(tokens.shape[1]) if own is None else own.causal_mask(tokens.shape[1])
        places = None
        if segments is not None:
            mask, places = mask & segment_mask(segments, segments), segment_places(segments)
        x, cache = self.decoder(embedding(tokens, own, train, places), mask, memory, source_mask, cache, train)
        logits = self.output(x) if self.share_embeddings == "none" else embedding.logits(x)
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        if own is not None:
            logits = jnp.where(own.has_room(tokens.shape[1])[:, :, None], logits, jnp.nan)
        return logits, cache

    def memorize(
        self, source: Int[Array, "batch source_time"]
    ) -> tuple[Caches, Bool[Array, "batch 1 1 source_time"] | None]:
        """Returns what `decode` looks at while it writes: `project_memory` of `encode`, and the mask."""
        memory, mask = self.encode(source)
        return self.project_memory(memory), mask

    def project_memory(self, memory: Float[Array, "batch source_time width"]) -> Caches:
        """Returns each decoder layer's keys and values of the memory, for `decode` to take instead of it."""
        return self.decoder.project_memory(memory)

    @nn.nowrap
    def empty_cache(self, batch_size: int, max_length: int) -> Caches:
        """Returns the cache with which decoding begins, with room for `max_length` tokens of each example."""
        return self._stack().empty_cache(batch_size, max_length, self.width)

    @nn.nowrap
    def _embedding(self, vocab_size: int) -> TokenEmbedding:
        return TokenEmbedding(
            vocab_size=vocab_size,
            width=self.width,
            positions=self.positions,
            max_length=self.max_length,
            dropout=self.dropout,
            embedding_init=self.embedding_init,
            position_init=self.position_init,
            dtype=self.dtype,
        )

    @nn.nowrap
    def _stack(self) -> TransformerStack:
        block = TransformerBlock(
            num_heads=self.num_heads,
            feedforward_dim=self.feedforward_dim,
            pre_norm=self.pre_norm,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            norm_epsilon=self.norm_epsilon,
            kernel_init=self.kernel_init,
            residual_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
        )
        return TransformerStack(self.num_layers, block, self.final_norm)


# Vaswani et al. 2017, table 3, for English to German: 37,000 tokens shared by both languages. The counts are 63.1M and
# 214.2M, the paper's 65M and 213M: one vocabulary cannot make both, so these are rounded, or of vocabularies apart.
transformer_base = Transformer(dropout=0.1)
transformer_big = Transformer(num_heads=16, width=1024, feedforward_dim=4096, dropout=0.3)
