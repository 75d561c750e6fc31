"""Training: the compiled program, the loop around it, and the run's folder."""

from neuralmon.training.result import Result, load_run
from neuralmon.training.train import train

__all__ = ["Result", "load_run", "train"]
