"""The networks in PyTorch, as somebody writes them who knows it well. State dicts have the names of `weights.py`."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MLP(nn.Module):
    def __init__(self, inputs: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in zip(widths, hidden, strict=False))
        self.output = nn.Linear(widths[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.output(x)


class CNN(nn.Module):
    def __init__(self, image: Sequence[int], features: Sequence[int], hidden: int, num_classes: int) -> None:
        super().__init__()
        height, width, channels = image
        pairs = zip([channels, *features], features, strict=False)
        self.convolutions = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in pairs)
        scale = 2 ** len(features)
        self.hidden = nn.Linear(height // scale * (width // scale) * features[-1], hidden)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for convolution in self.convolutions:
            x = F.max_pool2d(F.relu(convolution(x)), 2)
        return self.output(F.relu(self.hidden(x.flatten(1))))


class BasicBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.added:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return F.relu(y + x)


class ResNet(nn.Module):
    def __init__(self, channels: int, features: int, stage_sizes: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, features, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(features)
        self.stages = len(stage_sizes)
        inputs = features
        for stage, count in enumerate(stage_sizes):
            width, blocks = features * 2**stage, []
            for index in range(count):
                blocks.append(BasicBlock(inputs, width, 2 if stage and not index else 1))
                inputs = width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        return self.fc(x.mean(dim=(2, 3)))


class LSTM(nn.Module):
    def __init__(self, vocab_size: int, embedding_dim: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden, batch_first=True)
        # The equations have one bias; trained as two, it would learn at twice the rate.
        self.lstm.bias_hh_l0.requires_grad_(False)
        self.output = nn.Linear(hidden, num_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.lstm(self.embedding(tokens))[0])


class Attention(nn.Module):
    """Multi-head attention; queries, keys and values from one product where `joint`, or from three."""

    def __init__(self, width: int, num_heads: int, joint: bool) -> None:
        super().__init__()
        self.num_heads, self.joint = num_heads, joint
        if joint:
            self.in_proj = nn.Linear(width, 3 * width)
        else:
            self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out_proj = nn.Linear(width, width)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        if not self.joint:
            source = x if memory is None else memory
            parts = [self.query(x), self.key(source), self.value(source)]
        elif memory is None:
            parts = self.in_proj(x).chunk(3, dim=-1)
        else:
            width = x.shape[-1]
            weight, bias = self.in_proj.weight, self.in_proj.bias
            key_value = F.linear(memory, weight[width:], bias[width:]).chunk(2, dim=-1)
            parts = [F.linear(x, weight[:width], bias[:width]), *key_value]
        query, key, value = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in parts)
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        return self.out_proj(heads.transpose(1, 2).flatten(2))


class GPTBlock(nn.Module):
    def __init__(self, width: int, num_heads: int, feedforward_dim: int, joint: bool) -> None:
        super().__init__()
        self.ln_1, self.attn = nn.LayerNorm(width), Attention(width, num_heads, joint)
        self.ln_2, self.c_fc = nn.LayerNorm(width), nn.Linear(width, feedforward_dim)
        self.c_proj = nn.Linear(feedforward_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal=True)
        return x + self.c_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class GPT(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        context_length: int,
        num_layers: int,
        num_heads: int,
        width: int,
        feedforward_dim: int,
        joint: bool,
    ) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, width), nn.Embedding(context_length, width)
        self.h = nn.ModuleList(GPTBlock(width, num_heads, feedforward_dim, joint) for _ in range(num_layers))
        self.ln_f = nn.LayerNorm(width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens) + self.wpe.weight[: tokens.shape[1]]
        for block in self.h:
            x = block(x)
        return F.linear(self.ln_f(x), self.wte.weight)


class TransformerBlock(nn.Module):
    """Post-norm, with attention to a memory where it is the decoder's."""

    def __init__(self, width: int, num_heads: int, feedforward_dim: int, joint: bool, decodes: bool) -> None:
        super().__init__()
        self.decodes = decodes
        self.self_attn, self.norm1 = Attention(width, num_heads, joint), nn.LayerNorm(width)
        if decodes:
            self.multihead_attn, self.norm2 = Attention(width, num_heads, joint), nn.LayerNorm(width)
        self.linear1, self.linear2 = nn.Linear(width, feedforward_dim), nn.Linear(feedforward_dim, width)
        self.last_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor) -> Tensor:
        x = self.norm1(x + self.self_attn(x, mask=None if self.decodes else mask, causal=self.decodes))
        if self.decodes:
            x = self.norm2(x + self.multihead_attn(x, memory, mask))
        return self.last_norm(x + self.linear2(F.relu(self.linear1(x))))


class Transformer(nn.Module):
    def __init__(
        self,
        vocab_size: int,
        num_layers: int,
        num_heads: int,
        width: int,
        feedforward_dim: int,
        longest: int,
        joint: bool,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        sizes = (width, num_heads, feedforward_dim, joint)
        self.encoder = nn.ModuleList(TransformerBlock(*sizes, decodes=False) for _ in range(num_layers))
        self.decoder = nn.ModuleList(TransformerBlock(*sizes, decodes=True) for _ in range(num_layers))
        angles = np.arange(longest)[:, None] / 10000 ** (2 * (np.arange(width) // 2) / width)
        waves = np.where(np.arange(width) % 2, np.cos(angles), np.sin(angles)).astype(np.float32)
        self.register_buffer("positions", torch.from_numpy(waves), persistent=False)

    def embed(self, tokens: Tensor) -> Tensor:
        return self.embedding(tokens) * math.sqrt(self.embedding.embedding_dim) + self.positions[: tokens.shape[1]]

    def forward(self, source: Tensor, written: Tensor) -> Tensor:
        mask = (source != 0)[:, None, None, :]
        memory = self.embed(source)
        for block in self.encoder:
            memory = block(memory, None, mask)
        x = self.embed(written)
        for block in self.decoder:
            x = block(x, memory, mask)
        return F.linear(x, self.embedding.weight)


def build(kind: str, sizes: Mapping[str, int | list[int]], **options: bool) -> nn.Module:
    """Returns the network of a job; `options` are those of it that change how, not what it computes."""
    classes = {"MLP": MLP, "CNN": CNN, "ResNet": ResNet, "LSTM": LSTM, "GPT": GPT, "Transformer": Transformer}
    return classes[kind](**sizes, **options)
