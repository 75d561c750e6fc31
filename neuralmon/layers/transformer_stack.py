"""Transformer blocks one after the other."""

from typing import Any

import flax.linen as nn
from jaxtyping import Array, Bool, Float

from neuralmon.fields import PositiveInt
from neuralmon.layers.attention import KeyValueCache
from neuralmon.layers.normalization import layer_norm
from neuralmon.layers.transformer_block import TransformerBlock


class TransformerStack(nn.Module):
    """`num_layers` blocks one after the other, and a layer normalisation behind them where blocks are pre-norm.

    A plain loop, which compiles each block: readable, and quick enough for the twelve or twenty-four of its users.

    Attributes:
      num_layers: number of blocks.
      block: what each of them is; their parameters are their own, `layers_0`, `layers_1`, ...
      final_norm: whether the last block's outputs are normalised; None: if the blocks are pre-norm, whose sums grow.
    """

    num_layers: PositiveInt
    block: TransformerBlock
    final_norm: bool | None = None

    def setup(self) -> None:
        """Makes the parts."""
        self.layers = [self.block.clone() for _ in range(self.num_layers)]
        normalised = self.block.pre_norm if self.final_norm is None else self.final_norm
        self.norm = layer_norm(self.block.norm_epsilon, self.block.dtype) if normalised else None

    def __call__(
        self,
        inputs: Float[Array, "batch time width"],
        mask: Bool[Array, "#batch #heads #time key_time"] | None = None,
        memory: Float[Array, "batch memory_time memory_width"] | tuple[KeyValueCache, ...] | None = None,
        memory_mask: Bool[Array, "#batch #heads #time memory_time"] | None = None,
        cache: tuple[KeyValueCache, ...] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "batch time width"], tuple[KeyValueCache, ...] | None]:
        """Returns the last block's outputs and each block's cache; arguments as of `TransformerBlock`.

        `memory` and `cache` as tuples have an element for each block. What goes into the first block and what comes out
        of each is sown as "hidden_states", (batch, time, width) each.

        Raises:
          ValueError: `memory` or `cache` has more or fewer elements than there are blocks.
        """
        for name, given in {"memory": memory, "cache": cache}.items():
            if isinstance(given, tuple) and len(given) != self.num_layers:
                raise ValueError(f"{self.num_layers} blocks take a {name} of as many elements, not {len(given)}")
        x = inputs
        caches: list[Any] = []
        self.sow("intermediates", "hidden_states", x)
        for index, layer in enumerate(self.layers):
            seen = memory[index] if isinstance(memory, tuple) else memory
            x, own = layer(x, mask, seen, memory_mask, None if cache is None else cache[index], train)
            self.sow("intermediates", "hidden_states", x)
            caches.append(own)
        if self.norm is not None:
            x = self.norm(x)
        return x, None if cache is None else tuple(caches)

    def project_memory(self, memory: Float[Array, "batch memory_time width"]) -> tuple[KeyValueCache, ...]:
        """Returns what each block makes of a memory, to be given instead of it in many calls."""
        return tuple(layer.project_memory(memory) for layer in self.layers)

    @nn.nowrap
    def empty_cache(self, batch_size: int, max_length: int, width: int) -> tuple[KeyValueCache, ...]:
        """Returns a cache for each block with room for `max_length` places."""
        heads = self.block.num_heads
        sizes = batch_size, max_length, heads, width // heads
        return tuple(KeyValueCache.empty(*sizes, self.block.dtype) for _ in range(self.num_layers))
