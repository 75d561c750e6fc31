"""The training function: everything that runs on the device.

`make_train(structure)` returns three pure, compiled functions. A single run calls them in a loop, a sweep maps them,
resuming re-enters them at step t. Numbers (see `neuralmon.fields`) are arguments, so changing one compiles nothing.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Int

from neuralmon import codec
from neuralmon.data import Batch
from neuralmon.data.pipeline import (
    Data,
    evaluation_batch,
    num_evaluation_batches,
    resident_batch,
    streams,
    window_batch,
    window_batches,
)
from neuralmon.experiment import Experiment, Training, merge, split, walk
from neuralmon.inspection import with_train
from neuralmon.parallel import device_memory, make_mesh, replicated, shard_batch
from neuralmon.state import TrainState
from neuralmon.tasks import Sums
from neuralmon.training.step import apply_model, make_step, make_update, model_inputs

Numbers = Mapping[str, Any]  # by path: arrays, traced ones or NumPy's


@dataclasses.dataclass(frozen=True)
class Program:
    """The functions of one structure, compiled or not.

    Attributes:
      init: (numbers) -> state.
      chunk: (numbers, state, data, length) -> (state, sums). Does `length` steps, a traced number, in one loop on the
        device. `state` is donated. Beside the task's metrics `sums` has "first_bad_step": the first step that made the
        loss or the parameters infinite or NaN, or -1.
      evaluate: (numbers, state, data) -> sums over every example exactly once.
      predict: (numbers, state, inputs as stored) -> what the task says of each example.
      judge: (numbers, state, batch as stored) -> (what `predict` says, each example's loss).
      window: None: `data` is a whole split, on the device; a number: it is a window of a stream, of so many batches.
    """

    init: Any
    chunk: Any
    evaluate: Any
    predict: Any
    judge: Any
    window: int | None


def initial_variables(experiment: Experiment, key: Array) -> dict[str, Any]:
    """Returns the model's variables, made for a batch of one."""
    prepared = experiment.dataset.prepare(key, _zeros_like(experiment.dataset.spec().batch(1)), False)
    options = with_train(experiment.model, {}, False)
    return dict(experiment.model.init({"params": key}, model_inputs(experiment, prepared, key), **options))


def evaluated(experiment: Experiment, state: TrainState, batch: Batch, index: Any = 0) -> Any:
    """Returns the model's outputs for a prepared batch, number `index` of an evaluation, when it does not train."""
    inputs = model_inputs(experiment, batch, jax.random.fold_in(jax.random.key(0), index))
    return apply_model(experiment.model, state.variables, inputs, train=False)


def output_shapes(experiment: Experiment, state: TrainState) -> tuple[Any, Batch]:
    """Returns the shapes of the model's outputs for a batch, and of the batch as the model takes it.

    Nothing is computed; `state` may be shapes only.
    """

    def outputs(state: TrainState, batch: Batch) -> tuple[Any, Batch]:
        prepared = experiment.dataset.prepare(jax.random.key(0), batch, False)
        return evaluated(experiment, state, prepared), prepared

    return jax.eval_shape(outputs, state, experiment.dataset.spec().batch(experiment.training.batch_size))


def compiled(experiment: Experiment, mesh: Mesh | None = None) -> tuple[Program, dict[str, np.ndarray], Mesh]:
    """Returns a resolved experiment's program, the numbers it takes, and the devices it runs on; None: on all."""
    structure, numbers = split(experiment)
    mesh = mesh or make_mesh(experiment.training.batch_size)
    return make_train(structure, mesh, window_of(experiment, mesh)), numbers, mesh


def window_of(experiment: Experiment, mesh: Mesh) -> int | None:
    """Returns how many batches a window of the experiment's data has, or None if the data lives on the device."""
    if not streams(experiment.dataset, device_memory(mesh)):
        return None
    training = experiment.training
    return window_batches(experiment.dataset.spec(), training.batch_size, training.steps_per_chunk)


_programs: dict[Any, Program] = {}


def make_train(structure: Experiment, mesh: Mesh, window: int | None = None) -> Program:
    """Returns the compiled functions of a resolved experiment's structure; equal structures share them."""
    structure, same = program_of(structure)
    key = (same, mesh, window)
    if key not in _programs:
        _programs[key] = compile_train(structure, mesh, window)
    return _programs[key]


def program_of(structure: Experiment) -> tuple[Experiment, Any]:
    """Returns a structure without what is nothing to its program, and a key that is equal for equal programs."""
    given = structure.training
    num_steps = given.num_steps(structure.dataset.spec().sizes["train"])
    # How often a run evaluates or saves, and what it is called, is nothing to the program.
    training = Training(
        batch_size=given.batch_size, steps=num_steps, seed=given.seed, micro_batches=given.micro_batches
    )
    structure = dataclasses.replace(structure, training=training, name="")
    # Types and functions count by identity: a class defined again in a notebook is another class.
    parts = tuple(
        node.value if callable(node.value) and not isinstance(node.value, nn.Module) else type(node.value)
        for node in walk(structure)
    )
    return structure, (codec.canonical(structure.to_json()), parts)


def compile_train(structure: Experiment, mesh: Mesh, window: int | None = None) -> Program:
    """Returns new compiled functions, as `make_train` does when it has none."""
    pure = functions(structure, mesh, window)
    return Program(
        # It runs once: at a higher level LLVM takes seconds over the random numbers, to save milliseconds.
        init=jax.jit(pure.init, out_shardings=replicated(mesh), compiler_options=_quick_to_compile(mesh)),
        chunk=jax.jit(pure.chunk, donate_argnums=1),
        evaluate=jax.jit(pure.evaluate),
        predict=jax.jit(pure.predict),
        judge=jax.jit(pure.judge),
        window=window,
    )


def functions(structure: Experiment, mesh: Mesh, window: int | None = None) -> Program:
    """Returns the functions of a resolved experiment's structure, not compiled: what a run calls and a sweep maps."""
    num_steps = structure.training.num_steps(structure.dataset.spec().sizes["train"])
    batch_size = structure.training.batch_size

    def init(numbers: Numbers) -> TrainState:
        experiment = merge(structure, numbers)
        variables = initial_variables(experiment, jax.random.key(jnp.asarray(experiment.training.seed)))
        params = variables.pop("params", {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=variables,
            optimizer_state=make_update(experiment, num_steps, mesh).init(params),
            average=None if experiment.optimizer.ema_decay is None else params,
        )

    def chunk(numbers: Numbers, state: TrainState, data: Data, length: Int[Array, ""]) -> tuple[TrainState, Any]:
        experiment = merge(structure, numbers)
        do_step, first = make_step(experiment, num_steps, mesh), state.step

        def one(state: TrainState, data: Data) -> tuple[TrainState, Sums]:
            if window is None:
                batch = resident_batch(data, jnp.asarray(experiment.training.seed), state.step, batch_size)
            else:
                batch = window_batch(data, state.step - first)
            return do_step(state, batch)

        # Jitted so that it is traced once, for the shape of its sums and for the loop.
        step = jax.jit(one, inline=True)
        zeros = _zeros_like(jax.eval_shape(step, state, data)[1])

        def body(_: Any, carry: tuple[TrainState, Sums, Array]) -> tuple[TrainState, Sums, Array]:
            state, totals, first_bad_step = carry
            new_state, sums = step(state, data)
            bad = (first_bad_step < 0) & ~jnp.isfinite(sums["loss"][0])
            first_bad_step = jnp.where(bad, state.step, first_bad_step)
            return new_state, jax.tree.map(jnp.add, totals, sums), first_bad_step

        state, totals, first_bad_step = jax.lax.fori_loop(0, length, body, (state, zeros, jnp.int32(-1)))
        # The last update may have spoilt the parameters, which would show only in the next loss.
        spoilt = ~jnp.isfinite(sum(leaf.sum(dtype=jnp.float32) for leaf in jax.tree.leaves(state.params)))
        first_bad_step = jnp.where((first_bad_step < 0) & spoilt, state.step - 1, first_bad_step)
        return state, {**totals, "first_bad_step": first_bad_step}

    def evaluate(numbers: Numbers, state: TrainState, data: Data) -> Sums:
        experiment = merge(structure, numbers)

        def sums_of(index: Int[Array, ""]) -> Sums:
            batch = evaluation_batch(data, index, batch_size) if window is None else window_batch(data, index)
            batch = experiment.dataset.prepare(jax.random.key(0), shard_batch(batch, mesh), False)
            outputs = evaluated(experiment, state, batch, index)
            return experiment.task.metrics(outputs, batch)

        def body(index: Int[Array, ""], totals: Sums) -> Sums:
            return jax.tree.map(jnp.add, totals, sums_of(index))

        zeros = _zeros_like(jax.eval_shape(sums_of, jnp.int32(0)))
        count = num_evaluation_batches(data, batch_size) if window is None else window
        return jax.lax.fori_loop(0, count, body, zeros)

    def predict(numbers: Numbers, state: TrainState, inputs: Any) -> dict[str, Array]:
        experiment = merge(structure, numbers)
        batch = experiment.dataset.prepare(jax.random.key(0), {"inputs": inputs}, False)
        outputs = evaluated(experiment, state, batch)
        return experiment.task.predict(outputs, experiment.dataset.spec())

    def judge(numbers: Numbers, state: TrainState, batch: Batch) -> tuple[dict[str, Array], Array]:
        experiment = merge(structure, numbers)
        batch = experiment.dataset.prepare(jax.random.key(0), batch, False)
        outputs = evaluated(experiment, state, batch)

        def loss_of(one: Batch, output: Any) -> Array:
            alone = jax.tree.map(lambda leaf: leaf[None], (output, dict(one)))
            return experiment.task.loss(*alone)[0][0]

        losses = jax.vmap(loss_of)({**batch, "weights": jnp.ones_like(batch["weights"])}, outputs)
        return experiment.task.predict(outputs, experiment.dataset.spec()), losses

    return Program(init, chunk, evaluate, predict, judge, window)


def _zeros_like(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def _quick_to_compile(mesh: Mesh) -> dict[str, Any]:
    return {"xla_backend_optimization_level": 1} if mesh.devices.flat[0].platform == "cpu" else {}
