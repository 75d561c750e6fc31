"""neuralmon as its users have it: `nm.train`."""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax

import neuralmon as nm
from benchmarks.works import WORKS
from neuralmon import process
from neuralmon.training.flops import peak_flops, traced_flops
from neuralmon.training.progress import Silent


def make(name: str, work: str, folder: Path) -> "NeuralmonRun":
    return NeuralmonRun(WORKS[work].experiment())


class NeuralmonRun:
    """Trains from the beginning each time, without evaluations, and takes the seconds that the run counted.

    Attributes:
      details: settings, operations of a step, and what this machine's matrix products reach.
    """

    def __init__(self, experiment: nm.Experiment) -> None:
        self.experiment = experiment
        self.details: dict[str, Any] = {
            "environment": process.describe(),
            "step_flops": traced_flops(experiment.resolve()),
        }

    def choose(self, seconds: float) -> None:
        """Measures what the share is of, now that nobody else computes."""
        self.details["peak_flops"] = peak_flops(jax.devices())

    def losses(self, count: int) -> list[float]:
        result = self._train(steps=count, steps_per_chunk=1)
        return [row["loss"] for row in result.history]

    def run(self, steps: int) -> float:
        return self._train(steps=steps).seconds["training"]

    def clock(self, steps: int) -> float:
        """Returns how the seconds a run counts compare with a clock outside: by how much both grow with the steps.

        What else a call does, such as handing over the data, is the same for any number of steps.
        """
        times = []
        for count in (2 * steps, steps, 2 * steps):  # the first compiles
            begun = time.perf_counter()
            counted = self.run(count)
            times.append((counted, time.perf_counter() - begun))
        (short, short_outside), (long, long_outside) = times[1:]
        return (long - short) / (long_outside - short_outside)

    def _train(self, **changes: Any) -> Any:
        training = dataclasses.replace(self.experiment.training, evaluate_every=10**9, **changes)
        experiment = dataclasses.replace(self.experiment, training=training)
        return nm.train(experiment, workdir=None, progress=Silent())
