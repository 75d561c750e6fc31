"""Train, compare and understand neural networks in JAX.

import neuralmon as nm
result = nm.train(nm.load_experiment("cnn_mnist"), workdir=None)
print(result.metrics["test"]["accuracy"])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralmon import data as data
    from neuralmon import fields as fields
    from neuralmon import interop as interop
    from neuralmon import layers as layers
    from neuralmon import models as models
    from neuralmon import ops as ops
    from neuralmon import optim as optim
    from neuralmon import tasks as tasks
    from neuralmon.catalog import load_experiment as load_experiment
    from neuralmon.errors import NeuralmonError as NeuralmonError
    from neuralmon.errors import RequestError as RequestError
    from neuralmon.errors import RunError as RunError
    from neuralmon.experiment import Epochs as Epochs
    from neuralmon.experiment import Experiment as Experiment
    from neuralmon.experiment import Training as Training
    from neuralmon.fields import Number as Number
    from neuralmon.inspection import inspect as inspect
    from neuralmon.published import Published as Published
    from neuralmon.sweeps.domains import Choice as Choice
    from neuralmon.sweeps.domains import IntUniform as IntUniform
    from neuralmon.sweeps.domains import LogUniform as LogUniform
    from neuralmon.sweeps.domains import Uniform as Uniform
    from neuralmon.sweeps.result import SweepResult as SweepResult
    from neuralmon.sweeps.sweep import sweep as sweep
    from neuralmon.training import Result as Result
    from neuralmon.training import load_run as load_run
    from neuralmon.training.train import train as train

__version__ = "0.1.0"

# Loaded when they are first asked for, so that the command line can set its process up before jax is imported, and
# answers at once where it needs none of them.
_ROOMS = ("data", "fields", "interop", "layers", "models", "ops", "optim", "tasks")
_NAMES = {
    "Choice": "sweeps.domains",
    "Epochs": "experiment",
    "Experiment": "experiment",
    "IntUniform": "sweeps.domains",
    "LogUniform": "sweeps.domains",
    "NeuralmonError": "errors",
    "Number": "fields",
    "Published": "published",
    "RequestError": "errors",
    "Result": "training",
    "RunError": "errors",
    "SweepResult": "sweeps.result",
    "Training": "experiment",
    "Uniform": "sweeps.domains",
    "inspect": "inspection",
    "load_experiment": "catalog",
    "load_run": "training",
    "sweep": "sweeps.sweep",
    "train": "training",
}

__all__ = [*_ROOMS, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"neuralmon.{name}")
    if name in _NAMES:
        globals()[name] = value = getattr(importlib.import_module(f"neuralmon.{_NAMES[name]}"), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
