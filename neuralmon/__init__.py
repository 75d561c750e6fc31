"""Train, compare and understand neural networks in JAX.

import neuralmon as nm
result = nm.train(nm.load_experiment("cnn_mnist"), workdir=None)
print(result.metrics["test"]["accuracy"])
"""

from neuralmon import data, fields, interop, layers, models, ops, optim, tasks
from neuralmon.catalog import load_experiment
from neuralmon.errors import NeuralmonError, RequestError, RunError
from neuralmon.experiment import Epochs, Experiment, Training
from neuralmon.fields import Number
from neuralmon.inspection import inspect
from neuralmon.training import Result, load_run, train

__version__ = "0.1.0"

__all__ = [
    "Epochs",
    "Experiment",
    "NeuralmonError",
    "Number",
    "RequestError",
    "Result",
    "RunError",
    "Training",
    "data",
    "fields",
    "inspect",
    "interop",
    "layers",
    "load_experiment",
    "load_run",
    "models",
    "ops",
    "optim",
    "tasks",
    "train",
]
