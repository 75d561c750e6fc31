"""Optimizers and schedules: frozen dataclasses whose numbers are arguments of the compiled program, over optax."""

from neuralmon.optim.adaptive import AdaDelta, AdaGrad, Adam, AdamW, Lion, NAdam, RAdam, RMSprop
from neuralmon.optim.layer_rates import LayerRate
from neuralmon.optim.matrix import LAMB, Adafactor, Muon
from neuralmon.optim.optimizers import SGD, Optimizer
from neuralmon.optim.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSquareRoot,
    Linear,
    OneCycle,
    Polynomial,
    Schedule,
    Step,
)

__all__ = [
    "LAMB",
    "SGD",
    "AdaDelta",
    "AdaGrad",
    "Adafactor",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Exponential",
    "InverseSquareRoot",
    "LayerRate",
    "Linear",
    "Lion",
    "Muon",
    "NAdam",
    "OneCycle",
    "Optimizer",
    "Polynomial",
    "RAdam",
    "RMSprop",
    "Schedule",
    "Step",
]
