"""Shapes of outputs and targets, as checks need and say them."""

from typing import Any

import jax

from neuralmon.data import Spec


def output_shape(outputs: Any) -> tuple[int, ...] | None:
    """Returns the shape of a model's outputs, the batch first; None if they are no single array."""
    return getattr(outputs, "shape", None)


def said(outputs: Any) -> str:
    """Returns the shape, or a tree's shapes, for a message."""
    shape = output_shape(outputs)
    return str(shape if shape is not None else jax.tree.map(lambda leaf: leaf.shape, outputs))


def target_shape(spec: Spec) -> tuple[int, ...] | None:
    """Returns the shape of one example's targets; None if the data does not say it."""
    return spec.features["targets"].shape if "targets" in spec.features else None
