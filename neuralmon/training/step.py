"""One update of the parameters, and what it is made of."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array

from neuralmon.data import Batch
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.inspection import with_train
from neuralmon.optim import freezing
from neuralmon.optim.averaging import averaged
from neuralmon.parallel import shard_batch
from neuralmon.state import TrainState
from neuralmon.tasks import Sums, Update, Updated


def apply_model(model: nn.Module, variables: Any, inputs: Any, train: bool, **options: Any) -> Any:
    """Calls `model.apply`, with `train` if the model has that argument."""
    return model.apply(variables, inputs, **with_train(model, options, train))


def batch_keys(seed: Any, step: Any) -> tuple[Array, Array]:
    """Returns the keys of the update from `step`: of augmentation, and of what is random in the model."""
    prepare_key, model_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), step))
    return prepare_key, model_key


def batch_loss(experiment: Experiment, outputs: Any, batch: Batch) -> tuple[tuple[Array, Array], Sums]:
    """Returns the task's loss, of mixtures that of both their parts (see `neuralmon.data.augment`)."""
    parts = [experiment.task.loss(outputs, batch)]
    if "second_targets" in batch:
        second = {**batch, "targets": batch["second_targets"], "weights": batch["second_weights"]}
        parts.append(experiment.task.loss(outputs, second))
    return jax.tree.map(lambda *terms: sum(terms[1:], terms[0]), *parts)


def model_inputs(experiment: Experiment, batch: Batch, key: Array) -> Any:
    """Returns what the model is called with: the batch's inputs, unless the task makes others of them.

    A task does so by a method `inputs(model, batch, key)`, as where a network's input is noise.
    """
    make = getattr(experiment.task, "inputs", None)
    return batch["inputs"] if make is None else make(experiment.model, batch, key)


def make_step(experiment: Experiment, num_steps: int, mesh: Mesh) -> Callable[[TrainState, Batch], tuple[Any, Sums]]:
    """Returns the function of one step: (state, batch as stored) -> (state, sums)."""
    seed, optimizer = jnp.asarray(experiment.training.seed), experiment.optimizer
    update = make_update(experiment, num_steps, mesh)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Sums]:
        prepare_key, model_key = batch_keys(seed, state.step)
        batch = experiment.dataset.prepare(prepare_key, shard_batch(batch, mesh), True)
        params, model_state, optimizer_state, sums = update.apply(
            state.params, state.model_state, state.optimizer_state, model_key, batch
        )
        average = None
        if optimizer.ema_decay is not None:
            average = averaged(optimizer.ema_decay, state.step, state.average, params)
        new_state = TrainState(
            step=state.step + 1,
            params=params,
            model_state=_keep_frozen(state.model_state, model_state, optimizer.frozen),
            optimizer_state=optimizer_state,
            average=average,
        )
        return new_state, sums

    return step


def make_update(experiment: Experiment, num_steps: int, mesh: Mesh) -> Update:
    """Returns the task's own update, or gradient descent on its loss."""
    return own_update(experiment, num_steps) or gradient_descent(experiment, num_steps, mesh)


def own_update(experiment: Experiment, num_steps: int | None = None) -> Update | None:
    """Returns the update of a task that is not plain gradient descent, or None.

    Raises:
      RequestError: it has one, and `micro_batches` are asked for.
    """
    make = getattr(experiment.task, "update", None)
    if make is None:
        return None
    if experiment.training.micro_batches > 1:
        what = f"{type(experiment.task).__name__} has an update of its own, which takes a batch whole"
        raise RequestError(f"training.micro_batches: {what}; use 1")
    steps = num_steps or experiment.training.num_steps(experiment.dataset.spec().sizes["train"])
    return make(experiment.model, experiment.optimizer, steps)


def gradient_descent(experiment: Experiment, num_steps: int, mesh: Mesh) -> Update:
    """Returns the update along the gradient of the task's loss."""
    patterns = experiment.optimizer.frozen
    transform = experiment.optimizer.transform(num_steps)

    def gradients_of(trainable: Any, frozen: Any, model_state: Any, key: Array, batch: Batch) -> tuple[Any, Any]:
        def loss(trainable: Any) -> tuple[Array, tuple[Any, Any]]:
            variables = {"params": freezing.combine(trainable, frozen), **model_state}
            rngs, mutable = {"dropout": key}, list(model_state)
            inputs = model_inputs(experiment, batch, key)
            outputs, new_model_state = apply_model(
                experiment.model, variables, inputs, train=True, rngs=rngs, mutable=mutable
            )
            (loss_sum, count), sums = batch_loss(experiment, outputs, batch)
            # A mean already here keeps the gradients of half-precision models small.
            return loss_sum / jnp.maximum(count, 1e-8), (dict(new_model_state), (count, sums))

        return jax.grad(loss, has_aux=True)(trainable)

    def accumulated(trainable: Any, frozen: Any, model_state: Any, key: Array, batch: Batch) -> tuple[Any, Any]:
        """The same as `gradients_of`, one micro-batch after the other."""
        count = experiment.training.micro_batches
        parts = jax.tree.map(lambda leaf: leaf.reshape(count, leaf.shape[0] // count, *leaf.shape[1:]), dict(batch))

        def body(carry: Any, part: Any) -> tuple[Any, Sums]:
            total, weight, model_state = carry
            index, micro = part
            gradients, (model_state, (count, sums)) = gradients_of(
                trainable, frozen, model_state, jax.random.fold_in(key, index), shard_batch(micro, mesh)
            )
            total = jax.tree.map(lambda total, gradient: total + count * gradient.astype(total.dtype), total, gradients)
            return (total, weight + count, model_state), sums

        # Half-precision gradients are summed in float32.
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32)), trainable)
        start = zeros, jnp.float32(0), model_state
        (total, weight, model_state), sums = jax.lax.scan(body, start, (jnp.arange(count), parts))
        mean = jax.tree.map(lambda total: total / jnp.maximum(weight, 1e-8), total)
        gradients = jax.tree.map(lambda mean, leaf: mean.astype(leaf.dtype), mean, trainable)
        return gradients, (model_state, (weight, jax.tree.map(lambda leaf: leaf.sum(axis=0), sums)))

    def init(params: Any) -> Any:
        return transform.init(freezing.partition(params, patterns)[0])

    def apply(params: Any, model_state: Any, optimizer_state: Any, key: Array, batch: Batch) -> Updated:
        trainable, frozen = freezing.partition(params, patterns)
        differentiate = gradients_of if experiment.training.micro_batches == 1 else accumulated
        gradients, (model_state, (_, sums)) = differentiate(trainable, frozen, model_state, key, batch)
        updates, optimizer_state = transform.update(gradients, optimizer_state, trainable)
        params = freezing.combine(optax.apply_updates(trainable, updates), frozen)
        return params, model_state, optimizer_state, sums

    return Update(init, apply)


def _keep_frozen(old: Any, new: Any, patterns: tuple[str, ...]) -> Any:
    """A frozen layer's running statistics stand still like its parameters."""

    def merged(new: Any, old: Any) -> Any:
        return freezing.combine(freezing.partition(new, patterns)[0], freezing.partition(old, patterns)[1])

    return {name: merged(new[name], old[name]) for name in old}
