"""Sums over the examples of a batch, and what reports make of them."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def weighted_sum(values: Float[Array, "batch ..."], weights: Float[Array, " batch"]) -> Float[Array, "..."]:
    """Returns the sum over the examples of values * weights."""
    return (values * weights.reshape(-1, *[1] * (values.ndim - 1))).sum(axis=0)


def counted(weights: Float[Array, " batch"]) -> Int[Array, " batch"]:
    """Returns 1 for each example and 0 for padding: tables count whole examples, whatever they weigh in the loss."""
    return (weights > 0).astype(jnp.int32)


def mean(pair: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Returns sum / weight in float64; NaN where nothing was summed, which nobody can take for a good loss."""
    total, weight = np.asarray(pair[0], np.float64), np.asarray(pair[1], np.float64)
    return np.divide(total, weight, out=np.full(total.shape, np.nan), where=weight > 0)


def table(names: tuple[str, ...], **columns: Any) -> dict[str, dict[str, Any]]:
    """Returns the rows of a report's table by their names; rows without names are numbered."""
    lists = {column: np.asarray(values).tolist() for column, values in columns.items()}
    rows = list(zip(*lists.values(), strict=True))
    names = names or tuple(str(index) for index in range(len(rows)))
    return {name: dict(zip(lists, row, strict=True)) for name, row in zip(names, rows, strict=True)}
