"""Pure Linen layers and initialisers shared by several models."""

from neuralmon.layers.dropout import Dropout
from neuralmon.layers.initializers import (
    Constant,
    Initializer,
    Normal,
    Orthogonal,
    VarianceScaling,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    ones,
    orthogonal,
    zeros,
)

__all__ = [
    "Constant",
    "Dropout",
    "Initializer",
    "Normal",
    "Orthogonal",
    "VarianceScaling",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "zeros",
]
