"""What all optimizers share, and gradient descent.

Optimizers are frozen dataclasses over optax. A class says the direction of a step; the rest is the same for all.
"""

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neuralmon.fields import FractionNumber, NonNegativeNumber, PositiveNumber
from neuralmon.optim.layer_rates import LayerRate, scale_by_layer_rates
from neuralmon.optim.schedules import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(abc.ABC):
    """How parameters move: w <- w - learning_rate * direction(clipped gradient).

    Attributes:
      learning_rate: a number, or a schedule such as Cosine(peak=1e-3).
      clip_norm: gradients with a larger global norm are scaled down to it; None: never.
      frozen: patterns of the paths of parameters that stand still, such as 'conv_*' or '*/bias'.
      layer_rates: factors of the learning rate by patterns, such as LayerRate('conv_*', 0.1); the first match counts.
      ema_decay: evaluation uses a running average of the parameters, which keeps this much of itself at each update,
        such as 0.999 (less at first, see `averaging.averaged`); None: it uses the parameters themselves.
    """

    learning_rate: NonNegativeNumber | Schedule
    clip_norm: PositiveNumber | None = None
    frozen: tuple[str, ...] = ()
    layer_rates: tuple[LayerRate, ...] = ()
    ema_decay: FractionNumber | None = None

    @abc.abstractmethod
    def direction(self) -> optax.GradientTransformation:
        """Returns the transformation of gradients into a direction to descend."""

    def transform(self, num_steps: int) -> optax.GradientTransformation:
        """Returns the whole transformation for a run of `num_steps` updates.

        It is called inside the compiled program, where the fields are traced numbers.
        """
        rate = self.learning_rate
        clip = optax.identity() if self.clip_norm is None else _clip(self.clip_norm)
        descend = optax.scale_by_learning_rate(
            (lambda step: rate.value(step, num_steps)) if isinstance(rate, Schedule) else rate
        )
        return optax.chain(clip, self.direction(), descend, scale_by_layer_rates(self.layer_rates))


def _clip(max_norm: Any) -> optax.GradientTransformation:
    """Returns `optax.clip_by_global_norm` for a traced norm and gradients of any precision."""

    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> tuple[Any, optax.EmptyState]:
        limit, norm = jnp.asarray(max_norm, jnp.float32), optax.tree.norm(updates)

        def clipped(leaf: jax.Array) -> jax.Array:
            return jnp.where(norm < limit, leaf, leaf / norm.astype(leaf.dtype) * limit.astype(leaf.dtype))

        return jax.tree.map(clipped, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v <- m v + g, w <- w - learning_rate v.

    Source: Robbins & Monro 1951; Polyak 1964; Nesterov 1983, as in Sutskever, Martens, Dahl & Hinton, ICML 2013.

    Attributes:
      momentum: factor m of the velocity; None: no velocity is kept.
      nesterov: descend along g + m v instead of v; without momentum it changes nothing.
      weight_decay: this much of each weight is added to its gradient (an L2 penalty), and nothing for biases and the
        scales of normalisation layers; None: no penalty.
    """

    learning_rate: NonNegativeNumber | Schedule = 0.1
    momentum: FractionNumber | None = None
    nesterov: bool = False
    weight_decay: NonNegativeNumber | None = None

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        penalty = optax.identity() if self.weight_decay is None else decay_weights(self.weight_decay)
        velocity = optax.identity() if self.momentum is None else optax.trace(self.momentum, self.nesterov)
        return optax.chain(penalty, velocity)


def decay_weights(strength: Any) -> optax.GradientTransformation:
    """Returns the transformation that adds `strength` times the parameters, where `is_weight` says so."""
    return optax.add_decayed_weights(strength, mask=is_weight)


def is_weight(params: Any) -> Any:
    """Returns, as a tree of booleans, what is no bias and no scale of a normalisation layer."""

    def is_one(path: tuple[Any, ...], _: Any) -> bool:
        return jax.tree_util.keystr(path[-1:], simple=True) not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(is_one, params)
