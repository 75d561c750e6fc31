"""Texts of different lengths as models take them: tokens, and where a text ends."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from neuralmon.layers.recurrent.loop import mask_from_lengths

Texts = Int[Array, "batch time"] | Mapping[str, Array]


def read_texts(name: str, inputs: Any) -> tuple[Int[Array, "batch time"], Bool[Array, "batch time"]]:
    """Returns tokens, and True where they are text rather than padding.

    Args:
      name: of the model, for messages.
      inputs: tokens, all of which are text; or {"sequence": tokens, "lengths": integers (batch,)} or {"sequence":
        tokens, "mask": booleans (batch, time)}, as the recurrent models take them.

    Raises:
      ValueError: `inputs` are none of these, or there is no token in them.
    """
    parts = inputs if isinstance(inputs, Mapping) else {"sequence": inputs}
    if parts.keys() not in ({"sequence"}, {"sequence", "lengths"}, {"sequence", "mask"}):
        raise ValueError(f"{name} takes tokens, or a sequence and its lengths or its mask, not {sorted(parts)}")
    tokens = parts["sequence"]
    if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"{name} takes integer tokens (batch, time), not {tokens.dtype} of shape {tokens.shape}")
    if not tokens.shape[1]:
        raise ValueError(f"{name}: there is no token in inputs of shape {tokens.shape}")
    if "lengths" in parts:
        if jnp.shape(parts["lengths"]) != tokens.shape[:1]:
            lengths = jnp.shape(parts["lengths"])
            raise ValueError(f"{name} takes one length a text, {tokens.shape[:1]}, not lengths {lengths}")
        return tokens, mask_from_lengths(parts["lengths"], tokens.shape[1])
    mask = parts.get("mask", jnp.ones(tokens.shape, bool))
    if mask.shape != tokens.shape:
        raise ValueError(f"{name}: a mask of shape {mask.shape} does not fit tokens of shape {tokens.shape}")
    return tokens, mask
