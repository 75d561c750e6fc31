"""Sweeps: many trainings of one experiment, in one program where they differ in numbers alone."""

import importlib
from typing import TYPE_CHECKING, Any

from neuralmon.sweeps.domains import Choice as Choice
from neuralmon.sweeps.domains import IntUniform as IntUniform
from neuralmon.sweeps.domains import LogUniform as LogUniform
from neuralmon.sweeps.domains import Uniform as Uniform

if TYPE_CHECKING:
    from neuralmon.sweeps.result import SweepResult as SweepResult
    from neuralmon.sweeps.sweep import sweep as sweep

_NAMES = {"SweepResult": "result", "sweep": "sweep"}


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(importlib.import_module(f"neuralmon.sweeps.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
