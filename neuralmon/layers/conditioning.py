"""Class labels beside what a network is called with."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def inputs_and_labels(
    inputs: Any, name: str, conditional: bool, num_classes: int | None, dtype: Any
) -> tuple[Float[Array, "batch ..."], Float[Array, "batch classes"] | None]:
    """Returns the inputs proper, and the labels one-hot; None for the labels unless `conditional`.

    Args:
      inputs: `{name: (batch, ...), "labels": (batch,)}` if `conditional`, else only the array. The row of a label that
        is no class, such as -1, is all zeros.
      name: what the inputs proper are called, such as "noise".
      conditional: whether there are labels.
      num_classes: how many classes there are.
      dtype: type of both results.

    Raises:
      ValueError: `inputs` are of the other kind, there is not one label for each of them, or the number of classes is
        not known.
    """
    if not conditional:
        if isinstance(inputs, Mapping):
            raise ValueError(f"without conditional=True the inputs are only the {name}, no dict of {sorted(inputs)}")
        return inputs.astype(dtype), None
    if num_classes is None:
        raise ValueError("conditional=True needs num_classes: give it, or let an experiment's data decide it")
    if not isinstance(inputs, Mapping) or inputs.keys() != {name, "labels"}:
        given = f"a dict of {sorted(inputs)}" if isinstance(inputs, Mapping) else "an array"
        raise ValueError(f'with conditional=True the inputs are {{"{name}": ..., "labels": ...}}, not {given}')
    rows, labels = inputs[name], jnp.asarray(inputs["labels"])
    if labels.shape != rows.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        what = f"labels of {labels.dtype} {labels.shape}"
        raise ValueError(f"with conditional=True there is one label, an integer, for each {rows.shape[:1]}, not {what}")
    return rows.astype(dtype), jax.nn.one_hot(labels, num_classes, dtype=dtype)
