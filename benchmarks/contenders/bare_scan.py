"""neuralmon's step in a bare loop on the device: what is left when the framework around it is taken away."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import neuralmon as nm
from benchmarks.works import WORKS
from neuralmon.data.pipeline import resident_batch
from neuralmon.parallel import make_mesh
from neuralmon.training.program import compiled
from neuralmon.training.step import make_step


def make(name: str, work: str, folder: Path) -> "BareScan":
    return BareScan(WORKS[work].experiment())


class BareScan:
    """Trains in one call, however many steps there are.

    Attributes:
      details: nothing.
    """

    def __init__(self, experiment: nm.Experiment) -> None:
        experiment = experiment.resolve()
        training = experiment.training
        program, numbers, _ = compiled(experiment)
        self.initial = partial(program.init, numbers)
        self.data = jax.device_put(experiment.dataset.load()["train"])
        self.details: dict[str, Any] = {}
        step = make_step(experiment, training.num_steps(len(self.data["targets"])), make_mesh(training.batch_size))

        def one(state: Any, data: Any) -> tuple[Any, jax.Array]:
            batch = resident_batch(data, jnp.asarray(training.seed), state.step, training.batch_size)
            state, sums = step(state, batch)
            return state, sums["loss"][0] / sums["loss"][1]

        def loop(state: Any, data: Any, length: jax.Array) -> tuple[Any, jax.Array]:
            return jax.lax.fori_loop(0, length, lambda _, carry: one(carry[0], data), (state, jnp.float32(0)))

        self.loop = jax.jit(loop, donate_argnums=0)
        self.state = self.initial()

    def choose(self, seconds: float) -> None:
        pass

    def losses(self, count: int) -> list[float]:
        self.state = self.initial()
        return [self._run(1) for _ in range(count)]

    def run(self, steps: int) -> float:
        self.state = jax.block_until_ready(self.initial())
        begun = time.perf_counter()
        self._run(steps)
        return time.perf_counter() - begun

    def _run(self, steps: int) -> float:
        self.state, loss = self.loop(self.state, self.data, np.int32(steps))
        return float(loss)
