"""The step of a generator and a discriminator that play against each other; see `Adversarial`."""

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from neuralmon.data import Batch
from neuralmon.errors import RequestError
from neuralmon.optim import Optimizer, freezing
from neuralmon.tasks.adversarial_losses import AdversarialLoss, Penalty
from neuralmon.tasks.sums import weighted_sum
from neuralmon.tasks.task import Sums
from neuralmon.tasks.update import Update, Updated

State = tuple[Any, Any, Any]  # parameters, the model's other collections, the optimizers' states
LossOf = Callable[[Any], tuple[Array, tuple[Any, Sums]]]  # of all parameters: the loss, (other collections, sums)


class Game(Protocol):
    """What of `Adversarial` decides a step."""

    @property
    def game(self) -> AdversarialLoss:
        """What a logit costs either network."""
        ...

    @property
    def penalty(self) -> Penalty | None:
        """What is added to the discriminator's loss."""
        ...

    @property
    def discriminator_optimizer(self) -> Optimizer | None:
        """How the discriminator moves; None: as the generator."""
        ...

    @property
    def discriminator_steps(self) -> int:
        """Updates of the discriminator for each one of the generator."""
        ...

    def draw(self, key: Array, model: nn.Module, count: int) -> Array:
        """Returns noise for so many samples."""
        ...

    def loss(self, outputs: Any, batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """Returns the discriminator's."""
        ...


def is_conditional(model: nn.Module) -> bool:
    """Returns whether samples are made for classes."""
    return bool(getattr(model.generator, "conditional", False))


def play(task: Game, model: nn.Module, optimizer: Optimizer, num_steps: int) -> Update:
    """Returns the step: the discriminator's updates, one for each part of the batch, then the generator's one."""
    judge = dataclasses.replace(task.discriminator_optimizer or optimizer, layer_rates=optimizer.layer_rates)
    transforms = {
        "discriminator": judge.transform(num_steps * task.discriminator_steps),
        "generator": optimizer.transform(num_steps),
    }

    def init(params: Any) -> Any:
        trainable, _ = freezing.partition(params, optimizer.frozen)
        return {name: transform.init({name: trainable[name]}) for name, transform in transforms.items()}

    def apply(params: Any, model_state: Any, optimizer_state: Any, key: Array, batch: Batch) -> Updated:
        _check(task, model_state, batch)
        count = task.discriminator_steps
        parts = jax.tree.map(lambda leaf: leaf.reshape(count, -1, *leaf.shape[1:]), dict(batch))
        keys, last = jax.random.split(key, count + 1), jax.tree.map(lambda leaf: leaf[-1], parts)
        state, sums = jax.lax.scan(move_discriminator, (params, model_state, optimizer_state), (keys[1:], parts))
        state, own = move_generator(state, (keys[0], last))
        return *state, {**jax.tree.map(lambda leaf: leaf.sum(axis=0), sums), **own}

    def move_discriminator(state: State, part: tuple[Array, Batch]) -> tuple[State, Sums]:
        params, model_state, _ = state
        key, batch = part
        keys, real, weights = jax.random.split(key, 6), batch["inputs"], batch["weights"]
        noise = task.draw(keys[0], model, len(real))
        fake, model_state = call("generate", params, model_state, keys[1], noise, batch)

        def loss(params: Any) -> tuple[Array, tuple[Any, Sums]]:
            of_real, after = call("discriminate", params, model_state, keys[2], real, batch)
            of_fake, after = call("discriminate", params, after, keys[3], fake, batch)
            (total, count), sums = task.loss({"real": of_real, "fake": of_fake}, batch)
            if task.penalty is not None:

                def judged(samples: Array) -> Array:
                    return call("discriminate", params, model_state, keys[4], samples, batch)[0]

                penalty = weighted_sum(task.penalty.penalise(judged, real, fake, keys[5]), weights)
                total, sums = total + penalty, {**sums, "penalty": (penalty, count)}
            return total / jnp.maximum(count, 1e-8), (after, sums)

        return descend("discriminator", loss, state)

    def move_generator(state: State, part: tuple[Array, Batch]) -> tuple[State, Sums]:
        _, model_state, _ = state
        key, batch = part
        keys, weights = jax.random.split(key, 3), batch["weights"]
        noise = task.draw(keys[0], model, len(weights))

        def loss(params: Any) -> tuple[Array, tuple[Any, Sums]]:
            fake, after = call("generate", params, model_state, keys[1], noise, batch)
            of_fake, after = call("discriminate", params, after, keys[2], fake, batch)
            total, count = weighted_sum(task.game.generator(of_fake), weights), weights.sum()
            return total / jnp.maximum(count, 1e-8), (after, {"generator_loss": (total, count)})

        return descend("generator", loss, state)

    def call(method: str, params: Any, model_state: Any, key: Array, x: Array, batch: Batch) -> tuple[Array, Any]:
        """Returns what half of the model makes of noise or images, and the model's collections after it."""
        name = {"generate": "noise", "discriminate": "images"}[method]
        inputs = {name: x, "labels": batch["targets"]} if is_conditional(model) else x
        options: dict[str, Any] = {"rngs": {"dropout": key}, "mutable": list(model_state), "method": method}
        outputs, after = model.apply({"params": params, **model_state}, inputs, train=True, **options)
        return outputs, dict(after)

    def descend(name: str, loss: LossOf, state: State) -> tuple[State, Sums]:
        """Moves one of the networks along the gradient of a loss."""
        params, _, optimizer_state = state
        trainable, frozen = freezing.partition({name: params[name]}, optimizer.frozen)

        def own_loss(trainable: Any) -> tuple[Array, tuple[Any, Sums]]:
            return loss({**params, **freezing.combine(trainable, frozen)})

        gradients, (model_state, sums) = jax.grad(own_loss, has_aux=True)(trainable)
        updates, own_state = transforms[name].update(gradients, optimizer_state[name], trainable)
        moved = freezing.combine(optax.apply_updates(trainable, updates), frozen)
        return ({**params, **moved}, model_state, {**optimizer_state, name: own_state}), sums

    return Update(init, apply)


def _check(task: Game, model_state: Any, batch: Batch) -> None:
    """Refuses what would silently be another game."""
    if task.penalty is not None and "discriminator" in model_state.get("batch_stats", {}):
        what = "a logit has to depend on its own sample alone, and batch normalisation mixes samples"
        raise RequestError(f"task.penalty: {what}; give model.discriminator.batch_norm=False")
    if "second_targets" in batch:
        raise RequestError("dataset.augment: mixtures of examples are no samples of the data; leave them out")
