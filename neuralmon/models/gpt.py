"""GPT: a decoder-only Transformer that predicts the next token."""

import dataclasses
import operator
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveFloat, PositiveInt
from neuralmon.layers import (
    Dropout,
    Initializer,
    KeyValueCache,
    Normal,
    ScaledResidual,
    TransformerBlock,
    layer_norm,
    zeros,
)

Cache = KeyValueCache | tuple[KeyValueCache, ...]  # with a leading axis (layer), or one for each layer


class GPT(nn.Module):
    """Token and position embeddings, blocks in which each place sees only what came before, the next token's logits.

    h_0 = W_e[tokens] + W_p, h_l = block(h_{l-1}), logits = h_n W_e^T (Radford et al. 2018, eq. 2); from GPT-2 on the
    blocks are pre-norm and h_n is normalised. The blocks are one `nn.scan`: their parameters have a leading axis
    (layer), and compiling takes as long for 96 layers as for 2.

    Sources: Radford et al., "Improving Language Understanding by Generative Pre-Training" (GPT-1), 2018; Radford et
    al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019, section 2.3; Brown et al., "Language
    Models are Few-Shot Learners" (GPT-3), NeurIPS 2020, section 2.1.

    Attributes:
      vocab_size: number of tokens; None: as many as the data has.
      context_length: most tokens that are read together; there are so many learned positions.
      num_layers: number of blocks.
      num_heads: heads of each block's attention.
      width: size of the vector of each place, a multiple of `num_heads`.
      feedforward_dim: hidden width of the feed-forward networks; None: 4 x `width`.
      pre_norm: normalisation before each part and after the last block (GPT-2, GPT-3), or after each part (GPT-1).
      attention: "dense": each place sees all before it; "alternating": in every second block only the latest `band`
        of them, itself included (GPT-3, after Child et al. 2019).
      band: how many places a banded block sees; GPT-3's is not published.
      activation: non-linearity of the feed-forward networks; `gelu` is the tanh approximation, as published.
      dropout: probability of dropping an element of a part's output while training; None: no dropout.
      embedding_dropout: the same for the sum of the embeddings.
      attention_dropout: the same for the attention weights.
      remat: whether the backward pass computes the insides of each block again rather than keep them: the memory of
        one block rather than of all, for a third more time.
      norm_epsilon: what layer normalisation adds to the variance.
      kernel_init: initialiser of the weights, but those of `residual_init`.
      residual_init: initialiser of the weights that write into the residual connections; None: GPT-2's, N(0, 0.02)
        divided by the root of the number of residual layers, 2 x `num_layers`.
      embedding_init: initialiser of the token embeddings.
      position_init: initialiser of the position embeddings; 0.01 is that of GPT-2's released code.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    vocab_size: PositiveInt | None = None
    context_length: PositiveInt = 1024
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    width: PositiveInt = 768
    feedforward_dim: PositiveInt | None = None
    pre_norm: bool = True
    attention: Literal["dense", "alternating"] = "dense"
    band: PositiveInt = 256
    activation: Activation = nn.gelu
    dropout: FractionNumber | None = None
    embedding_dropout: FractionNumber | None = None
    attention_dropout: FractionNumber | None = None
    remat: bool = False
    norm_epsilon: PositiveFloat = 1e-5
    kernel_init: Initializer = Normal(0.02)
    residual_init: Initializer | None = None
    embedding_init: Initializer = Normal(0.02)
    position_init: Initializer = Normal(0.01)
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    def __call__(self, inputs: Int[Array, "batch time"], train: bool = False) -> Float[Array, "batch time vocab_size"]:
        """Returns logits: those at place t are of token t + 1, and depend on the tokens up to t alone.

        Raises:
          ValueError: `inputs` are not tokens, or more than `context_length`; `vocab_size` is None.
        """
        return self._run(inputs, None, None, train)[0]

    def decode(
        self, tokens: Int[Array, "batch time"], cache: Cache, lengths: Int[Array, " batch"] | None = None
    ) -> tuple[Float[Array, "batch vocab_size"], Cache]:
        """Reads on, and returns the logits of the token that comes next, and the cache with what was read.

            cache = model.empty_cache(batch_size=2)
            logits, cache = model.apply(variables, prompts, cache, lengths, method="decode")
            logits, cache = model.apply(variables, chosen[:, None], cache, method="decode")

        An example for which the cache has no room any more, or whose length is not among 1 ... time, gets NaN.

        Args:
          tokens: a prompt, or the token chosen last.
          cache: from `empty_cache`, which has a leading axis (layer), from `unstacked`, or from the call before.
          lengths: how many of each example's `tokens` are real, at least 1; behind them is padding. None: all.

        Raises:
          ValueError: as in `__call__`; there are more tokens than an empty cache has room for, or none; or tokens,
            cache and lengths are of different numbers of examples.
        """
        start = _of_one_layer(cache).lengths
        batch, time = tokens.shape if tokens.ndim == 2 else (len(start), 1)
        lengths = jnp.full_like(start, time) if lengths is None else jnp.asarray(lengths, start.dtype)
        if not start.shape == lengths.shape == (batch,):
            raise ValueError(
                f"GPT: {batch} texts need a cache of {batch} and lengths ({batch},), not of {len(start)} and "
                f"{lengths.shape}"
            )
        if time == 0:
            raise ValueError("GPT: no tokens to read on with")
        logits, filled = self._run(tokens, cache, lengths - 1, False)
        total = start + lengths
        fits = (lengths >= 1) & (lengths <= time) & (total <= _of_one_layer(cache).max_length)
        return jnp.where(fits[:, None], logits[:, 0], jnp.nan), _with_lengths(filled, total)

    @nn.nowrap
    def empty_cache(self, batch_size: int, max_length: int | None = None) -> KeyValueCache:
        """Returns a cache for `decode` with room for `max_length` tokens of each example; None: `context_length`.

        Raises:
          ValueError: `max_length` is more than `context_length`.
        """
        max_length = self.context_length if max_length is None else max_length
        self._check_length(max_length, self.context_length, "context_length")
        one = KeyValueCache.empty(batch_size, max_length, self.num_heads, self.width // self.num_heads, self.dtype)
        return jax.tree.map(lambda leaf: jnp.zeros((self.num_layers, *leaf.shape), leaf.dtype), one)

    @nn.nowrap
    def unstacked(self, variables: dict, cache: KeyValueCache) -> tuple[dict, tuple[KeyValueCache, ...]]:
        """Returns variables and cache for `decode` in which each layer's arrays are on their own.

        A loop over tokens reads them where they lie; out of a stack they would be copied for each token.
        """
        params = dict(variables["params"])
        layers = {f"layers_{index}": own for index, own in enumerate(_unstack(params.pop("layers"), self.num_layers))}
        return {**variables, "params": {**params, **layers}}, _unstack(cache, self.num_layers)

    @nn.compact
    def _run(self, tokens: Array, cache: Cache | None, only: Array | None, train: bool) -> tuple[Array, Any]:
        """Returns the logits of all places, or of each example's place `only`, and the cache."""
        if self.vocab_size is None:
            raise ValueError("GPT(vocab_size=None): give the number of tokens, or let an experiment's data decide it")
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
            raise ValueError(f"GPT takes integer tokens (batch, time), not {tokens.dtype} of shape {tokens.shape}")
        if self.attention not in ("dense", "alternating"):
            raise ValueError(f"GPT(attention={self.attention!r}): allowed are 'dense' and 'alternating'")
        own = None if cache is None else _of_one_layer(cache)
        room, what = (self.context_length, "context_length") if own is None else (own.max_length, "cache")
        self._check_length(tokens.shape[1], room, what)

        table = nn.Embed(
            self.vocab_size, self.width, dtype=self.dtype, embedding_init=self.embedding_init, name="token_embedding"
        )
        positions = jnp.arange(tokens.shape[1])[None] + (0 if own is None else own.lengths[:, None])
        places = nn.Embed(
            self.context_length,
            self.width,
            dtype=self.dtype,
            embedding_init=self.position_init,
            name="position_embedding",
        )
        x = Dropout(self.embedding_dropout, name="input_dropout")(table(tokens) + places(positions), train)

        # How far back each key lies behind each query, and how far back each block looks.
        distance = positions[:, :, None] - jnp.arange(tokens.shape[1] if cache is None else room)
        reach = jnp.full((self.num_layers,), self.context_length)
        if self.attention == "alternating":
            reach = reach.at[1::2].set(self.band)

        def layer(block: TransformerBlock, x: Array, own: Any) -> tuple[Array, KeyValueCache | None]:
            cache, reach = own
            mask = (distance >= 0) & (distance < reach)
            return block(x, mask=mask[:, None], cache=cache, train=train)

        if isinstance(cache, tuple):
            filled: list[Any] = [None] * len(cache)
            for index in range(len(cache)):
                x, filled[index] = layer(self._block(f"layers_{index}"), x, (cache[index], reach[index]))
            cache = tuple(filled)
        else:
            stack = nn.scan(
                # Within a scan nothing can be merged with its recomputation, so nothing has to prevent it.
                nn.remat(layer, prevent_cse=False) if self.remat else layer,
                variable_axes={"params": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                length=self.num_layers,
                # A loop copies each block's parameters in and its gradients out; unrolling compiles each block.
                unroll=self.num_layers if self.num_layers <= 8 and not self.remat else 1,
            )
            x, cache = stack(self._block("layers"), x, (cache, reach))

        if only is not None:
            x = jnp.take_along_axis(x, only[:, None, None], axis=1)
        if self.pre_norm:
            x = layer_norm(self.norm_epsilon, self.dtype, "final_norm")(x)
        return self._outputs(x, table, train), cache

    def _outputs(self, x: Array, table: nn.Embed, train: bool) -> Any:
        """Returns what the last block's vectors (batch, places, width) say: the next tokens' logits."""
        precise = jnp.promote_types(self.dtype, jnp.float32)
        embedding = table.embedding.astype(self.dtype)
        return jnp.einsum("btw,vw->btv", x, embedding, preferred_element_type=precise)

    def _block(self, name: str) -> TransformerBlock:
        return TransformerBlock(
            num_heads=self.num_heads,
            feedforward_dim=self.feedforward_dim or 4 * self.width,
            pre_norm=self.pre_norm,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            norm_epsilon=self.norm_epsilon,
            kernel_init=self.kernel_init,
            residual_init=self.residual_init or ScaledResidual(0.02, self.num_layers),
            bias_init=self.bias_init,
            dtype=self.dtype,
            name=name,
        )

    @nn.nowrap
    def _check_length(self, length: int, room: int, what: str) -> None:
        if length > room:
            raise ValueError(f"GPT: {length} tokens are more than the {what} has room for, {room}")


def _of_one_layer(cache: Cache) -> KeyValueCache:
    return cache[0] if isinstance(cache, tuple) else jax.tree.map(operator.itemgetter(0), cache)


def _unstack(tree: Any, length: int) -> tuple[Any, ...]:
    return tuple(jax.tree.map(operator.itemgetter(index), tree) for index in range(length))


def _with_lengths(cache: Cache, lengths: Int[Array, " batch"]) -> Cache:
    if isinstance(cache, tuple):
        return tuple(dataclasses.replace(own, lengths=lengths) for own in cache)
    return dataclasses.replace(cache, lengths=jnp.broadcast_to(lengths, cache.lengths.shape))


# For learning: texts of characters, on a CPU.
gpt_tiny = GPT(context_length=64, num_layers=2, num_heads=2, width=64)
gpt_mini = GPT(
    context_length=256, num_layers=6, num_heads=6, width=384, dropout=0.2, embedding_dropout=0.2, attention_dropout=0.2
)

# Radford et al. 2018, section 4.1.
gpt1 = GPT(
    context_length=512,
    pre_norm=False,
    dropout=0.1,
    embedding_dropout=0.1,
    attention_dropout=0.1,
    residual_init=Normal(0.02),
    position_init=Normal(0.02),
)

# Radford et al. 2019, table 2. The heads are those of the released models.
gpt2_small = GPT()
gpt2_medium = GPT(num_layers=24, num_heads=16, width=1024)
gpt2_large = GPT(num_layers=36, num_heads=20, width=1280)
gpt2_xl = GPT(num_layers=48, num_heads=25, width=1600)

# Brown et al. 2020, table 2.1, with two of its rows set right. XL: 24 heads of 128 do not fit into a width of 2048 and
# would make 1.5B parameters; 16 do, and make 1.3B. 13B: a width of 5140 is no multiple of 40 heads; 40 x 128 is 5120.
gpt3_small = GPT(context_length=2048, attention="alternating")
gpt3_medium = gpt3_small.clone(num_layers=24, num_heads=16, width=1024)
gpt3_large = gpt3_small.clone(num_layers=24, num_heads=16, width=1536)
gpt3_xl = gpt3_small.clone(num_layers=24, num_heads=16, width=2048)
gpt3_2_7b = gpt3_small.clone(num_layers=32, num_heads=32, width=2560)
gpt3_6_7b = gpt3_small.clone(num_layers=32, num_heads=32, width=4096)
gpt3_13b = gpt3_small.clone(num_layers=40, num_heads=40, width=5120)
gpt3_175b = gpt3_small.clone(num_layers=96, num_heads=96, width=12288)
