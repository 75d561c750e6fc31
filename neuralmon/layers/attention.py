"""Multi-head attention, with the masks it takes and the cache it writes."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from neuralmon import ops
from neuralmon.fields import Dtype, FractionNumber, PositiveInt
from neuralmon.layers.dropout import Dropout
from neuralmon.layers.initializers import Initializer, glorot_uniform, zeros


@flax.struct.dataclass
class KeyValueCache:
    """The keys and values of what was read so far, so that the next token costs one row of attention, not all.

    Attributes:
      key: (batch, num_heads, max_length, head_dim), so that what a head reads lies together; what lies at and behind
        `lengths` is not read.
      value: the same shape.
      lengths: (batch,) how many places of each example are filled.
    """

    key: Float[Array, "batch heads max_length dim"]
    value: Float[Array, "batch heads max_length dim"]
    lengths: Int[Array, " batch"]

    @classmethod
    def empty(
        cls, batch_size: int, max_length: int, num_heads: int, head_dim: int, dtype: Dtype = jnp.float32
    ) -> "KeyValueCache":
        """Returns a cache in which nothing is filled."""
        # Arrays of their own: a program that writes into its cache in place (`donate_argnums`) takes no array twice.
        key, value = (jnp.zeros((batch_size, num_heads, max_length, head_dim), dtype) for _ in range(2))
        return cls(key, value, jnp.zeros((batch_size,), jnp.int32))

    def append(
        self, key: Float[Array, "batch time heads dim"], value: Float[Array, "batch time heads dim"]
    ) -> "KeyValueCache":
        """Returns the cache with `time` more places filled; what there is no room for is left out."""
        example, places = jnp.arange(key.shape[0])[:, None], self.lengths[:, None] + jnp.arange(key.shape[1])
        return KeyValueCache(
            self.key.at[example, :, places].set(key.astype(self.key.dtype), mode="drop"),
            self.value.at[example, :, places].set(value.astype(self.value.dtype), mode="drop"),
            self.lengths + key.shape[1],
        )

    def select(self, examples: Int[Array, " selected"]) -> "KeyValueCache":
        """Returns the cache of these examples, in this order and as often as they are named.

        Caches of several layers may be stacked: the example is the last axis of `lengths`.
        """
        axis = self.lengths.ndim - 1
        return jax.tree.map(lambda leaf: jnp.take(leaf, examples, axis, mode="clip"), self)

    @property
    def max_length(self) -> int:
        """The number of places."""
        return self.key.shape[-2]

    def causal_mask(self, time: int) -> Bool[Array, "batch 1 time max_length"]:
        """Returns the mask of `time` tokens to come: each may look at what is filled, at those before it and itself."""
        places = self.lengths[:, None] + jnp.arange(time)
        return (jnp.arange(self.max_length) <= places[:, :, None])[:, None]

    def has_room(self, time: int) -> Bool[Array, "batch time"]:
        """Returns for which of `time` tokens to come there is a place."""
        return self.lengths[:, None] + jnp.arange(time) < self.max_length


class MultiHeadAttention(nn.Module):
    """Each place asks (query), every place offers (key, value); `num_heads` such questions at once, then mixed.

    head_i = softmax(Q_i K_i^T / sqrt(head_dim)) V_i with Q_i = x W_i^Q, K_i = m W_i^K, V_i = m W_i^V, and the output
    is [head_1 ... head_h] W^O, where x asks and m answers; m is x itself in self-attention.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.2.

    Attributes:
      num_heads: number of heads; the inputs' width is cut into so many.
      use_bias: whether the four projections have a bias.
      dropout: probability of dropping an attention weight while training; None: no dropout.
      kernel_init: initialiser of the weights of queries, keys and values.
      out_init: initialiser of the output projection's weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    num_heads: PositiveInt
    use_bias: bool = True
    dropout: FractionNumber | None = None
    kernel_init: Initializer = glorot_uniform
    out_init: Initializer = glorot_uniform
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time width"],
        memory: Float[Array, "batch memory_time memory_width"] | KeyValueCache | None = None,
        mask: Bool[Array, "#batch #heads #time key_time"] | None = None,
        cache: KeyValueCache | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "batch time width"], KeyValueCache | None]:
        """Returns what each place of `inputs` gathered, and the cache with this call's keys and values.

        The weights are sown as "attention_weights" (batch, num_heads, time, key_time).

        Args:
          inputs: what asks.
          memory: what answers, such as an encoder's outputs, or their keys and values from an earlier call; None:
            `inputs` itself.
          mask: True where `inputs` may look; with a cache, key_time is the cache's `max_length` and the mask has to
            leave out what is not filled.
          cache: keys and values of what was read before; None: nothing was.
          train: whether dropout acts.

        Raises:
          ValueError: `num_heads` does not divide the width; what asks, what answers and the mask do not fit (see
            `ops.attention_weights`); or there is a cache and no mask.
        """
        width = inputs.shape[-1]
        if width % self.num_heads:
            raise ValueError(f"attention cuts a width of {width} into {self.num_heads} heads: it has to be a multiple")
        if cache is not None and mask is None:
            raise ValueError("attention with a cache needs a mask of what is filled, such as cache.causal_mask(time)")

        def project(x: Array, name: str) -> Array:
            kinds: dict[str, Any] = {"kernel_init": self.kernel_init, "bias_init": self.bias_init}
            kinds["dot_general"] = ops.dot_general
            heads = nn.Dense(width, use_bias=self.use_bias, dtype=self.dtype, name=name, **kinds)(x)
            return heads.reshape(*heads.shape[:-1], self.num_heads, width // self.num_heads)

        query = project(inputs, "query")
        cached = cache is not None or isinstance(memory, KeyValueCache)
        if isinstance(memory, KeyValueCache):
            key, value = memory.key.swapaxes(1, 2), memory.value.swapaxes(1, 2)
        else:
            answers = inputs if memory is None else memory
            key, value = project(answers, "key"), project(answers, "value")
        if cache is not None:
            cache = cache.append(key, value)
            key, value = cache.key.swapaxes(1, 2), cache.value.swapaxes(1, 2)
        dropped = train and self.dropout is not None
        if cached or dropped or self.is_mutable_collection("intermediates"):
            weights = ops.attention_weights(query, key, mask)
            self.sow("intermediates", "attention_weights", weights)
            weights = Dropout(self.dropout)(weights, train)
            heads = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(value.dtype), value)
        else:
            heads = ops.attention(query, key, value, mask)
        heads = heads.reshape(*inputs.shape[:-1], width)
        out = nn.Dense(
            width,
            use_bias=self.use_bias,
            dtype=self.dtype,
            kernel_init=self.out_init,
            bias_init=self.bias_init,
            dot_general=ops.dot_general,
            name="out",
        )
        return out(heads), cache


def segment_mask(queries: Int[Array, "batch query"], keys: Int[Array, "batch key"]) -> Bool[Array, "batch 1 query key"]:
    """Returns the mask that lets each place look at those of the same number: texts packed into one row stay apart."""
    return (queries[:, :, None] == keys[:, None, :])[:, None]


def segment_places(segments: Int[Array, "batch time"]) -> Int[Array, "batch time"]:
    """Returns how far behind the first place of its segment each place stands."""
    places = jnp.arange(segments.shape[1])[None]
    first = segments != jnp.pad(segments, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    return places - jax.lax.cummax(jnp.where(first, places, 0), axis=1)


def select_examples(tree: Any, examples: Int[Array, " selected"]) -> Any:
    """Returns what a model keeps of its examples, for these, in this order and as often as they are named.

    Whatever in `tree` has a method `select`, such as `KeyValueCache`, does it itself; arrays have the example first.
    """

    def selected(node: Any) -> Any:
        return node.select(examples) if hasattr(node, "select") else jnp.take(node, examples, axis=0, mode="clip")

    return jax.tree.map(selected, tree, is_leaf=lambda node: hasattr(node, "select"))


def padding_mask(real: Bool[Array, "batch key"]) -> Bool[Array, "batch 1 1 key"]:
    """Returns the mask that hides places which are only padding; `real` is True for the others."""
    return real[:, None, None, :]


def causal_mask(length: int) -> Bool[Array, "1 1 length length"]:
    """Returns the mask that lets each place look at itself and at what came before it."""
    return jnp.tril(jnp.ones((length, length), bool))[None, None]
