"""Batches inside the compiled step: gathered from data that lives on the device, or taken from a window of a stream."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int

from neuralmon.data.dataset import Batch, Dataset, Spec
from neuralmon.data.permutation import batch_indices

Data = Mapping[str, Array]

# A window is handed to the device as a whole: small enough that three of them are no burden, large enough that handing
# it over costs nothing beside computing.
_WINDOW_BYTES = 16 * 2**20


def streams(dataset: Dataset, memory: int) -> bool:
    """Returns whether a dataset is streamed, on a machine whose device has so many bytes of memory."""
    pipeline = getattr(dataset, "pipeline", "auto")
    return pipeline == "stream" or (pipeline == "auto" and dataset.spec().stored_bytes() > memory // 4)


def window_batches(spec: Spec, batch_size: int, most: int) -> int:
    """Returns how many batches, at most `most`, make a window of a stream."""
    example = sum(math.prod(feature.shape) * feature.dtype.itemsize for feature in spec.features.values())
    fitting = max(1, min(most, _WINDOW_BYTES // max(example * batch_size, 1)))
    return -(-most // -(-most // fitting))  # equal windows rather than full ones and a rest


def resident_batch(data: Data, seed: Int[Array, ""], step: Int[Array, ""], batch_size: int) -> Batch:
    """Returns batch number `step` of the endless stream (see `neuralmon.data.permutation`)."""
    size = next(iter(data.values())).shape[0]
    indices = batch_indices(seed, step, batch_size, size)
    batch = {name: array[indices] for name, array in data.items()}
    return {**batch, "weights": jnp.ones(batch_size, jnp.float32)}


def window_batch(window: Data, index: Int[Array, ""]) -> Batch:
    """Returns a batch of a window: arrays of (batches, batch, ...), "weights" included."""
    return {name: array[index] for name, array in window.items()}


def num_evaluation_batches(data: Any, batch_size: int) -> int:
    """Returns how many batches cover the data once."""
    return -(-next(iter(data.values())).shape[0] // batch_size)


def evaluation_batch(data: Data, index: Int[Array, ""], batch_size: int) -> Batch:
    """Returns the examples from `index * batch_size` on; behind the last one come copies of it with weight 0."""
    size = next(iter(data.values())).shape[0]
    positions = index * batch_size + jnp.arange(batch_size)
    batch = {name: array[jnp.minimum(positions, size - 1)] for name, array in data.items()}
    return {**batch, "weights": (positions < size).astype(jnp.float32)}
