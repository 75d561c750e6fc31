"""Tokens as vectors that know their place, and vectors as logits of tokens."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuralmon.fields import Dtype, FractionNumber, PositiveInt
from neuralmon.layers.attention import KeyValueCache
from neuralmon.layers.dropout import Dropout
from neuralmon.layers.initializers import Initializer, Normal, VarianceScaling
from neuralmon.layers.positions import sinusoidal_positions


class TokenEmbedding(nn.Module):
    """sqrt(width) E[token] + P[position], and with the same E the logits x E^T.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, sections 3.4 and 3.5.

    Attributes:
      vocab_size: number of tokens.
      width: size of a token's vector.
      positions: P: the sines and cosines of section 3.5, or a learned table.
      max_length: most places a learned table has; sines and cosines have no end.
      dropout: probability of dropping an element of the sum while training; None: no dropout.
      embedding_init: initialiser of E; N(0, 1 / width) makes the scaled vectors' elements have the variance 1.
      position_init: initialiser of a learned P.
      dtype: type of the computation; parameters stay float32.
    """

    vocab_size: PositiveInt
    width: PositiveInt
    positions: Literal["sinusoidal", "learned"] = "sinusoidal"
    max_length: PositiveInt = 512
    dropout: FractionNumber | None = None
    embedding_init: Initializer = VarianceScaling(1.0, "fan_out", "normal")
    position_init: Initializer = Normal(0.02)
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Makes the parts."""
        self.token = nn.Embed(self.vocab_size, self.width, dtype=self.dtype, embedding_init=self.embedding_init)
        if self.positions == "learned":
            self.position = nn.Embed(self.max_length, self.width, dtype=self.dtype, embedding_init=self.position_init)
        self.sum_dropout = Dropout(self.dropout)

    def __call__(
        self,
        tokens: Int[Array, "batch time"],
        cache: KeyValueCache | None = None,
        train: bool = False,
        places: Int[Array, "batch time"] | None = None,
    ) -> Float[Array, "batch time width"]:
        """Returns the tokens' vectors; `places` says where each stands, None: one behind the other.

        The first token stands behind what `cache` holds.

        Raises:
          ValueError: these are no tokens, or more than a learned table or the cache has places, or of other examples.
        """
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(f"tokens are integers (batch, time), not {tokens.dtype} of shape {tokens.shape}")
        time = tokens.shape[1]
        room = time if cache is None else cache.max_length
        if time > room:
            raise ValueError(f"{time} tokens are more than the cache has room for, {room}")
        if cache is not None and len(tokens) != len(cache.lengths):
            raise ValueError(f"tokens of {len(tokens)} examples do not fit a cache of {len(cache.lengths)}")
        if self.positions == "learned" and room > self.max_length:
            what = f"the positions are learned for {self.max_length} places, fewer than {room}"
            raise ValueError(f"{what}: raise max_length, or use positions=sinusoidal")
        if places is None:
            places = jnp.arange(time)[None] + (0 if cache is None else cache.lengths[:, None])
        if self.positions == "learned":
            position = self.position(places)
        else:
            position = sinusoidal_positions(room, self.width, self.dtype)[places]
        return self.sum_dropout(self.token(tokens) * self.width**0.5 + position, train)

    def logits(self, x: Float[Array, "*places width"]) -> Float[Array, "*places vocab_size"]:
        """Returns x E^T in at least float32."""
        precise = jnp.promote_types(self.dtype, jnp.float32)
        table = self.token.embedding.astype(self.dtype)
        return jnp.einsum("...w,vw->...v", x.astype(self.dtype), table, preferred_element_type=precise)
