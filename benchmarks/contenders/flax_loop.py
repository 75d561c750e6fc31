"""The loop of a Flax tutorial: one jitted step, called by Python for each batch, with JAX as it comes."""

import time
from pathlib import Path
from typing import Any

import flax
import jax
import numpy as np
import optax
from flax.training import train_state

from benchmarks.contenders import flax_models
from benchmarks.job import Job


class TrainState(train_state.TrainState):
    batch_stats: Any


def make(name: str, work: str, folder: Path) -> "FlaxLoop":
    return FlaxLoop(Job.read(folder, "flax"))


@jax.jit
def train_step(state: TrainState, inputs: list[jax.Array], targets: jax.Array) -> tuple[TrainState, jax.Array]:
    def loss_fn(params: Any) -> tuple[jax.Array, Any]:
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updates = state.apply_fn(variables, *inputs, mutable=["batch_stats"])
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
        return loss, updates.get("batch_stats", {})

    (loss, batch_stats), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    return state.apply_gradients(grads=grads, batch_stats=batch_stats), loss


class FlaxLoop:
    """Trains with all data in memory as NumPy arrays.

    Attributes:
      details: versions.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model = flax_models.build(job.kind, job.sizes)
        *self.inputs, self.targets = job.columns.values()
        self.details: dict[str, Any] = {"flax": flax.__version__, "jax": jax.__version__}
        self.state = self._initial()

    def choose(self, seconds: float) -> None:
        pass

    def losses(self, count: int) -> list[float]:
        self.state = self._initial()
        return [float(self._step(index)) for index in range(count)]

    def run(self, steps: int) -> float:
        begun = time.perf_counter()
        for index in range(steps):
            loss = self._step(index)
        finite = bool(np.isfinite(loss))
        jax.block_until_ready(self.state)
        elapsed = time.perf_counter() - begun
        if not finite:
            raise ValueError("the loss is not finite")
        return elapsed

    def _step(self, index: int) -> jax.Array:
        rows = self.job.order[index % len(self.job.order)]
        inputs = [column[rows] for column in self.inputs]
        self.state, loss = train_step(self.state, inputs, self.targets[rows])
        return loss

    def _initial(self) -> TrainState:
        given = flax.traverse_util.unflatten_dict(dict(self.job.weights), sep="/")
        one = [column[:1] for column in self.inputs]
        wanted = jax.eval_shape(self.model.init, jax.random.key(0), *one)
        if jax.tree.map(np.shape, given) != jax.tree.map(np.shape, dict(wanted)):
            raise ValueError(f"these weights are not the network's: {jax.tree.map(np.shape, dict(wanted))}")
        momentum = optax.sgd(self.job.learning_rate, momentum=0.9)
        tx = optax.adam(self.job.learning_rate) if self.job.optimizer == "adam" else momentum
        batch_stats = given.get("batch_stats", {})
        return TrainState.create(apply_fn=self.model.apply, params=given["params"], tx=tx, batch_stats=batch_stats)
