"""Sweeps: many trainings of one experiment, in one program where they differ in numbers alone."""

from neuralmon.sweeps.domains import Choice as Choice
from neuralmon.sweeps.domains import IntUniform as IntUniform
from neuralmon.sweeps.domains import LogUniform as LogUniform
from neuralmon.sweeps.domains import Uniform as Uniform
