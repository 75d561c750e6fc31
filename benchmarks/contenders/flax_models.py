"""The networks in Flax Linen, as a tutorial writes them: its own layers, its defaults."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class MLP(nn.Module):
    inputs: int
    hidden: Sequence[int]
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1)
        for index, width in enumerate(self.hidden):
            x = nn.relu(nn.Dense(width, name=f"hidden_{index}")(x))
        return nn.Dense(self.num_classes, name="output")(x)


class CNN(nn.Module):
    image: Sequence[int]
    features: Sequence[int]
    hidden: int
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for index, channels in enumerate(self.features):
            x = nn.relu(nn.Conv(channels, (3, 3), name=f"conv_{index}")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(self.hidden, name="hidden")(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes, name="output")(x)


class ResidualBlock(nn.Module):
    features: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Conv(self.features, (3, 3), self.stride, padding=1, use_bias=False, name="conv_0")(x)
        y = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9, name="norm_0")(y))
        y = nn.Conv(self.features, (3, 3), padding=1, use_bias=False, name="conv_1")(y)
        y = nn.BatchNorm(use_running_average=False, momentum=0.9, name="norm_1")(y)
        x = x[:, :: self.stride, :: self.stride]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, self.features - x.shape[-1])))
        return nn.relu(x + y)


class ResNet(nn.Module):
    channels: int
    features: int
    stage_sizes: Sequence[int]
    num_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.Conv(self.features, (3, 3), padding=1, use_bias=False, name="conv_stem")(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9, name="norm_stem")(x))
        for stage, count in enumerate(self.stage_sizes):
            for index in range(count):
                stride = 2 if stage and not index else 1
                x = ResidualBlock(self.features * 2**stage, stride, name=f"stage_{stage}_block_{index}")(x)
        return nn.Dense(self.num_classes, name="output")(x.mean(axis=(1, 2)))


class LSTM(nn.Module):
    vocab_size: int
    embedding_dim: int
    hidden: int
    num_classes: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = nn.Embed(self.vocab_size, self.embedding_dim, name="embedding")(tokens)
        x = nn.RNN(nn.OptimizedLSTMCell(self.hidden, name="cell"))(x)
        return nn.Dense(self.num_classes, name="output")(x)


class FeedForward(nn.Module):
    width: int
    gelu: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = nn.Dense(self.width, name="hidden")(x)
        return nn.Dense(x.shape[-1], name="out")(nn.gelu(y) if self.gelu else nn.relu(y))


class GPTBlock(nn.Module):
    num_heads: int
    feedforward_dim: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        y = nn.LayerNorm(1e-5, name="attention_norm")(x)
        x = x + nn.MultiHeadDotProductAttention(self.num_heads, name="attention")(y, mask=mask)
        y = nn.LayerNorm(1e-5, name="feedforward_norm")(x)
        return x + FeedForward(self.feedforward_dim, gelu=True, name="feedforward")(y)


class GPT(nn.Module):
    vocab_size: int
    context_length: int
    num_layers: int
    num_heads: int
    width: int
    feedforward_dim: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        table = nn.Embed(self.vocab_size, self.width, name="token_embedding")
        places = nn.Embed(self.context_length, self.width, name="position_embedding")
        x = table(tokens) + places(jnp.arange(tokens.shape[1]))
        mask = nn.make_causal_mask(tokens)
        for index in range(self.num_layers):
            x = GPTBlock(self.num_heads, self.feedforward_dim, name=f"layers_{index}")(x, mask)
        return table.attend(nn.LayerNorm(1e-5, name="final_norm")(x))


class TransformerBlock(nn.Module):
    num_heads: int
    feedforward_dim: int

    @nn.compact
    def __call__(
        self, x: jax.Array, mask: jax.Array, memory: jax.Array | None = None, memory_mask: jax.Array | None = None
    ) -> jax.Array:
        y = nn.MultiHeadDotProductAttention(self.num_heads, name="attention")(x, mask=mask)
        x = nn.LayerNorm(1e-5, name="attention_norm")(x + y)
        if memory is not None:
            attention = nn.MultiHeadDotProductAttention(self.num_heads, name="cross_attention")
            x = nn.LayerNorm(1e-5, name="cross_attention_norm")(x + attention(x, memory, mask=memory_mask))
        y = FeedForward(self.feedforward_dim, gelu=False, name="feedforward")(x)
        return nn.LayerNorm(1e-5, name="feedforward_norm")(x + y)


class Stack(nn.Module):
    num_layers: int
    num_heads: int
    feedforward_dim: int

    @nn.compact
    def __call__(self, x: jax.Array, *others: jax.Array) -> jax.Array:
        for index in range(self.num_layers):
            x = TransformerBlock(self.num_heads, self.feedforward_dim, name=f"layers_{index}")(x, *others)
        return x


class Embedding(nn.Module):
    vocab_size: int
    width: int
    longest: int

    def setup(self) -> None:
        self.token = nn.Embed(self.vocab_size, self.width)
        angles = np.arange(self.longest)[:, None] / 10000 ** (2 * (np.arange(self.width) // 2) / self.width)
        waves = np.where(np.arange(self.width) % 2, np.cos(angles), np.sin(angles))
        self.positions = waves.astype(np.float32)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.token(tokens) * self.width**0.5 + self.positions[: tokens.shape[1]]

    def attend(self, x: jax.Array) -> jax.Array:
        return self.token.attend(x)


class Transformer(nn.Module):
    vocab_size: int
    num_layers: int
    num_heads: int
    width: int
    feedforward_dim: int
    longest: int

    @nn.compact
    def __call__(self, source: jax.Array, written: jax.Array) -> jax.Array:
        embedding = Embedding(self.vocab_size, self.width, self.longest, name="embedding")
        sizes = (self.num_layers, self.num_heads, self.feedforward_dim)
        real = source != 0
        memory = Stack(*sizes, name="encoder")(embedding(source), nn.make_attention_mask(real, real))
        memory_mask = nn.make_attention_mask(written >= 0, real)
        causal = nn.make_causal_mask(written)
        return embedding.attend(Stack(*sizes, name="decoder")(embedding(written), causal, memory, memory_mask))


def build(kind: str, sizes: Mapping[str, int | list[int]]) -> nn.Module:
    """Returns the network of a job."""
    classes = {"MLP": MLP, "CNN": CNN, "ResNet": ResNet, "LSTM": LSTM, "GPT": GPT, "Transformer": Transformer}
    fixed = {name: tuple(value) if isinstance(value, list) else value for name, value in sizes.items()}
    return classes[kind](**fixed)
