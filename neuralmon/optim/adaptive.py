"""Optimizers that divide each coordinate of the gradient by a running measure of its size, and Lion, which signs it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from neuralmon.fields import FractionNumber, NonNegativeNumber, PositiveNumber
from neuralmon.optim.optimizers import Optimizer, decay_weights
from neuralmon.optim.schedules import Schedule


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
        return optax.chain(super().direction(), decay_weights(self.weight_decay))


@dataclasses.dataclass(frozen=True, kw_only=True)
class NAdam(Adam):
    """Adam with Nesterov's momentum: the mean of the gradient is looked at one update ahead.

    Source: Dozat, "Incorporating Nesterov Momentum into Adam", ICLR workshop 2016, algorithm 2 with a constant b1.
    """

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.scale_by_adam(self.b1, self.b2, self.eps, nesterov=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RAdam(Adam):
    """Adam that begins with plain momentum and divides only as far as the mean of the square can be trusted.

    Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", ICLR 2020, algorithm 2; it divides
    from an effective number of 5 samples on, as is usual, where the paper says 4.
    """

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.scale_by_radam(self.b1, self.b2, self.eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lion(Optimizer):
    """Lion: the sign of an interpolation between momentum and gradient, with decoupled weight decay as in AdamW.

    Every coordinate moves by the learning rate, so that is some 3 to 10 times smaller than Adam's.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023, algorithm 2.

    Attributes:
      b1: share of the momentum in the interpolation.
      b2: decay of the momentum.
      weight_decay: each step takes learning_rate * weight_decay off every decayed weight, relative to its size.
    """

    learning_rate: NonNegativeNumber | Schedule = 1e-4
    b1: FractionNumber = 0.9
    b2: FractionNumber = 0.99
    weight_decay: NonNegativeNumber = 1e-1

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.chain(optax.scale_by_lion(self.b1, self.b2), decay_weights(self.weight_decay))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaGrad(Optimizer):
    """AdaGrad: the gradient over the root of the sum of all its squares so far.

    Source: Duchi, Hazan & Singer, "Adaptive Subgradient Methods for Online Learning", JMLR 2011,
    with a diagonal matrix.

    Attributes:
      initial_sum: what the sum of squares begins with; above 0, the first steps are smaller.
      eps: added under the root.
    """

    learning_rate: NonNegativeNumber | Schedule = 1e-2
    initial_sum: NonNegativeNumber = 0.0
    eps: PositiveNumber = 1e-10

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.scale_by_rss(self.initial_sum, self.eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaDelta(Optimizer):
    """AdaDelta: the gradient times the root mean square of past updates over that of past gradients.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1 (there, the learning rate is 1).

    Attributes:
      decay: of both mean squares.
      eps: added under both roots; it also sets the size of the first steps.
    """

    learning_rate: NonNegativeNumber | Schedule = 1.0
    decay: FractionNumber = 0.95
    eps: PositiveNumber = 1e-6

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        return optax.scale_by_adadelta(self.decay, self.eps)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMSprop(Optimizer):
    """RMSprop: the gradient over the root of the running mean of its square, then momentum.

    Source: Tieleman & Hinton, "Neural Networks for Machine Learning", lecture 6.5, 2012; centred as in Graves,
    "Generating Sequences With Recurrent Neural Networks", 2013.

    Attributes:
      decay: of the mean square.
      eps: added to the denominator.
      momentum: factor of the velocity, as in SGD; None: no velocity is kept.
      centered: divide by the standard deviation instead of the root mean square.
    """

    learning_rate: NonNegativeNumber | Schedule = 1e-3
    decay: FractionNumber = 0.9
    eps: PositiveNumber = 1e-8
    momentum: FractionNumber | None = None
    centered: bool = False

    def direction(self) -> optax.GradientTransformation:
        """See `Optimizer.direction`."""
        if self.centered:
            scale = scale_by_deviation(self.decay, self.eps)
        else:
            scale = optax.scale_by_rms(self.decay, self.eps, eps_in_sqrt=False)
        # The learning rate comes after the velocity: what a schedule does counts at once.
        return scale if self.momentum is None else optax.chain(scale, optax.trace(self.momentum))


class DeviationState(NamedTuple):
    """Running means of the gradient and of its square, trees like the parameters."""

    mean: Any
    mean_square: Any


def scale_by_deviation(decay: Any, eps: Any) -> optax.GradientTransformation:
    """Returns the transformation that divides by the running standard deviation of the gradient plus `eps`.

    optax's own gives NaN where rounding makes the variance negative, as it does for a gradient that stays the same.
    """

    def init(params: Any) -> DeviationState:
        return DeviationState(optax.tree.zeros_like(params), optax.tree.zeros_like(params))

    def update(gradients: Any, state: DeviationState, params: Any = None) -> tuple[Any, DeviationState]:
        mean = optax.tree.update_moment(gradients, state.mean, decay, 1)
        mean_square = optax.tree.update_moment(gradients, state.mean_square, decay, 2)

        def scaled(gradient: jax.Array, mean: jax.Array, mean_square: jax.Array) -> jax.Array:
            return gradient / (jnp.sqrt(jnp.maximum(mean_square - mean**2, 0.0)) + eps)

        return jax.tree.map(scaled, gradients, mean, mean_square), DeviationState(mean, mean_square)

    return optax.GradientTransformation(init, update)
