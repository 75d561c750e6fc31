"""BERT: the Transformer's encoder alone, as a classifier of texts and pairs of texts."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon.fields import Activation, Dtype, FractionNumber, NonNegativeInt, PositiveFloat, PositiveInt
from neuralmon.layers import (
    Dropout,
    Initializer,
    Normal,
    TransformerBlock,
    TransformerStack,
    gelu_exact,
    layer_norm,
    padding_mask,
    zeros,
)
from neuralmon.layers.texts import Texts, read_texts


class BERT(nn.Module):
    """Every token sees all others, to its left and right; the first one's vector stands for the text and is classified.

    x = LayerNorm(E[token] + P[place] + S[segment]), N post-norm blocks, h = tanh(x_0 W_p + b_p), logits = h W + b.

    Source: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", NAACL
    2019 (arXiv:1810.04805), section 3 and figure 2; the pooler h is that of the published code.

    Attributes:
      num_classes: number of outputs; None: as many as the data has classes.
      vocab_size: number of tokens; None: as many as the data has.
      num_layers: number of blocks L.
      num_heads: heads A of each attention.
      width: size H of the vector of each place, a multiple of `num_heads`.
      feedforward_dim: hidden width of the feed-forward networks.
      max_length: most tokens of a text; there are so many learned positions.
      num_segments: kinds of segments: 2 for the first and the second text of a pair.
      pad_id: the token that is padding and that nothing looks at, where the inputs do not say what is; None: there is
        none.
      activation: non-linearity of the feed-forward networks; the exact GELU, as published.
      dropout: probability of dropping an element of a part's output, of the embeddings and of the pooled vector while
        training; None: no dropout.
      attention_dropout: the same for the attention weights.
      norm_epsilon: what layer normalisation adds to the variance.
      kernel_init: initialiser of all weights but the output layer's.
      output_init: initialiser of the output layer's weights.
      embedding_init: initialiser of the three embeddings.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    num_classes: PositiveInt | None = None
    vocab_size: PositiveInt | None = None
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    width: PositiveInt = 768
    feedforward_dim: PositiveInt = 3072
    max_length: PositiveInt = 512
    num_segments: PositiveInt = 2
    pad_id: NonNegativeInt | None = 0
    activation: Activation = gelu_exact
    dropout: FractionNumber | None = None
    attention_dropout: FractionNumber | None = None
    norm_epsilon: PositiveFloat = 1e-12
    kernel_init: Initializer = Normal(0.02)
    output_init: Initializer = Normal(0.02)
    embedding_init: Initializer = Normal(0.02)
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Makes the parts."""
        if self.num_classes is None or self.vocab_size is None:
            left_open = "num_classes" if self.num_classes is None else "vocab_size"
            raise ValueError(f"BERT({left_open}=None): give the number, or let an experiment's data decide it")
        self.token_embedding = self._embedding(self.vocab_size)
        self.position_embedding = self._embedding(self.max_length)
        self.segment_embedding = self._embedding(self.num_segments)
        self.embedding_norm = layer_norm(self.norm_epsilon, self.dtype)
        self.encoder = TransformerStack(self.num_layers, self._block())
        self.pooler = self._dense(self.width, self.kernel_init)
        self.output = self._dense(self.num_classes, self.output_init)
        self.unit_dropout = Dropout(self.dropout)

    def __call__(self, inputs: Texts, train: bool = False) -> Float[Array, "batch classes"]:
        """Returns logits of at least float32; the pooled vector (batch, width) is sown as "pooled".

        Args:
          inputs: tokens; or {"tokens": ..., "segments": ...} where a text has several segments; or {"sequence": tokens,
            "lengths": ...}, which says where texts end (see `neuralmon.layers.texts`).
          train: whether dropout acts.

        Raises:
          ValueError: these are no texts, or empty, or longer than `max_length`; a size is None.
        """
        x, _ = self.encode(inputs, train)
        pooled = jnp.tanh(self.pooler(x[:, 0]))
        self.sow("intermediates", "pooled", pooled)
        logits = self.output(self.unit_dropout(pooled, train))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    def encode(
        self, inputs: Texts, train: bool = False
    ) -> tuple[Float[Array, "batch time width"], Bool[Array, "batch 1 1 time"] | None]:
        """Returns a vector for each token that depends on all of its text, and the mask that hid padding."""
        parts: Mapping[str, Any] = inputs if isinstance(inputs, Mapping) else {"tokens": inputs}
        if "sequence" not in parts and ("tokens" not in parts or set(parts) - {"tokens", "segments"}):
            raise ValueError(f'BERT takes tokens, or {{"tokens": ..., "segments": ...}}, not {sorted(parts)}')
        tokens, real = read_texts("BERT", parts if "sequence" in parts else parts["tokens"])
        if not 0 < tokens.shape[1] <= self.max_length:
            raise ValueError(f"BERT takes texts of 1 to max_length={self.max_length} tokens, not of {tokens.shape[1]}")
        segments = parts.get("segments", jnp.zeros_like(tokens))
        if segments.shape != tokens.shape:
            raise ValueError(f"BERT: segments of shape {segments.shape} do not fit tokens of shape {tokens.shape}")

        places = jnp.arange(tokens.shape[1])[None]
        x = self.token_embedding(tokens) + self.position_embedding(places) + self.segment_embedding(segments)
        x = self.unit_dropout(self.embedding_norm(x), train)
        mask: Array | None = padding_mask(real)
        if "sequence" not in parts or len(parts) == 1:
            mask = None if self.pad_id is None else padding_mask(tokens != self.pad_id)
        return self.encoder(x, mask, train=train)[0], mask

    @nn.nowrap
    def _embedding(self, size: int) -> nn.Embed:
        return nn.Embed(size, self.width, dtype=self.dtype, embedding_init=self.embedding_init)

    @nn.nowrap
    def _dense(self, features: int, kernel_init: Initializer) -> nn.Dense:
        return nn.Dense(features, dtype=self.dtype, kernel_init=kernel_init, bias_init=self.bias_init)

    @nn.nowrap
    def _block(self) -> TransformerBlock:
        return TransformerBlock(
            num_heads=self.num_heads,
            feedforward_dim=self.feedforward_dim,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            norm_epsilon=self.norm_epsilon,
            kernel_init=self.kernel_init,
            residual_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
        )


# Devlin et al. 2019, section 3, with the 30,522 WordPieces of the uncased models. With the pooler and without the
# classifier they have 109.48M and 335.14M parameters, the paper's 110M and 340M.
bert_base = BERT(vocab_size=30522, dropout=0.1, attention_dropout=0.1)
bert_large = bert_base.clone(num_layers=24, num_heads=16, width=1024, feedforward_dim=4096)
