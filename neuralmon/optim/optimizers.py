"""Optimizers over optax: frozen dataclasses that say the direction of a step; the rest of it is the same for all."""

import abc
import dataclasses
from typing import Any

import jax
import optax

from neuralmon.fields import FractionNumber, NonNegativeNumber, PositiveNumber
from neuralmon.optim.schedules import Schedule


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(abc.ABC):
    """How parameters move: w <- w - learning_rate * direction(clipped gradient).

    Attributes:
      learning_rate: a number, or a schedule such as Cosine(peak=1e-3).
      clip_norm: gradients with a larger global norm are scaled down to it; None: never.
      frozen: patterns of the paths of parameters that stand still, such as 'conv_*' or '*/bias'.
    """

    learning_rate: NonNegativeNumber | Schedule
    clip_norm: PositiveNumber | None = None
    frozen: tuple[str, ...] = ()

    @abc.abstractmethod
    def direction(self) -> optax.GradientTransformation:
        """Returns the transformation of gradients into a direction to descend."""

    def transform(self, num_steps: int) -> optax.GradientTransformation:
        """Returns the whole transformation for a run of `num_steps` updates.

        It is called inside the compiled program, where the fields are traced numbers.
        """
        rate = self.learning_rate
        clip = optax.identity() if self.clip_norm is None else optax.clip_by_global_norm(self.clip_norm)
        descend = optax.scale_by_learning_rate(
            (lambda step: rate.value(step, num_steps)) if isinstance(rate, Schedule) else rate
        )
        return optax.chain(clip, self.direction(), descend)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v <- m v + g, w <- w - learning_rate v.

    Source: Robbins & Monro 1951; Polyak 1964; Sutskever, Martens, Dahl & Hinton, ICML 2013.

    Attributes:
      momentum: factor m of the velocity; None: no velocity is kept.
    """

    learning_rate: NonNegativeNumber | Schedule = 0.1
    momentum: FractionNumber | None = None

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.identity() if self.momentum is None else optax.trace(self.momentum)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam: the running mean of the gradient over the root of the running mean of its square.

    Source: Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, algorithm 1.

    Attributes:
      b1: decay of the mean of the gradient.
      b2: decay of the mean of its square.
      eps: added to the denominator.
    """

    learning_rate: NonNegativeNumber | Schedule = 1e-3
    b1: FractionNumber = 0.9
    b2: FractionNumber = 0.999
    eps: PositiveNumber = 1e-8

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.scale_by_adam(self.b1, self.b2, self.eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, which biases and the scales of normalisation layers are spared.

    Source: Loshchilov & Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.

    Attributes:
      weight_decay: each step takes learning_rate * weight_decay off every decayed weight, relative to its size.
    """

    weight_decay: NonNegativeNumber = 1e-2

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.chain(super().direction(), optax.add_decayed_weights(self.weight_decay, mask=_decayed))


def _decayed(params: Any) -> Any:
    def is_decayed(path: tuple[Any, ...], _: Any) -> bool:
        return jax.tree_util.keystr(path[-1:], simple=True) not in ("bias", "scale")

    return jax.tree_util.tree_map_with_path(is_decayed, params)
