"""Architectures: one file each, pure Flax Linen modules that need nothing else of neuralmon."""

from neuralmon.models.cnn import CNN
from neuralmon.models.mlp import MLP

__all__ = ["CNN", "MLP"]
