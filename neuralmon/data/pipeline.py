"""Batches of data that lives on the device, gathered inside the compiled program."""

from collections.abc import Mapping

import jax.numpy as jnp
from jaxtyping import Array, Int

from neuralmon.data.dataset import Batch
from neuralmon.data.permutation import batch_indices


def training_batch(data: Mapping[str, Array], seed: Int[Array, ""], step: Int[Array, ""], batch_size: int) -> Batch:
    """Returns batch number `step` of the endless stream (see `neuralmon.data.permutation`)."""
    size = next(iter(data.values())).shape[0]
    indices = batch_indices(seed, step, batch_size, size)
    batch = {name: array[indices] for name, array in data.items()}
    return {**batch, "weights": jnp.ones(batch_size, jnp.float32)}


def num_evaluation_batches(data: Mapping[str, Array], batch_size: int) -> int:
    """Returns how many batches cover the data once."""
    return -(-next(iter(data.values())).shape[0] // batch_size)


def evaluation_batch(data: Mapping[str, Array], index: Int[Array, ""], batch_size: int) -> Batch:
    """Returns the examples from `index * batch_size` on; behind the last one come copies of it with weight 0."""
    size = next(iter(data.values())).shape[0]
    positions = index * batch_size + jnp.arange(batch_size)
    batch = {name: array[jnp.minimum(positions, size - 1)] for name, array in data.items()}
    return {**batch, "weights": (positions < size).astype(jnp.float32)}
