"""Optimizers and schedules: frozen dataclasses whose numbers are arguments of the compiled program, over optax."""

from neuralmon.optim.optimizers import SGD, Adam, AdamW, Optimizer
from neuralmon.optim.schedules import Constant, Cosine, Linear, Schedule

__all__ = ["SGD", "Adam", "AdamW", "Constant", "Cosine", "Linear", "Optimizer", "Schedule"]
