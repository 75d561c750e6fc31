"""Schedules: a number as a function of the step.

optax's own schedules compare their numbers in Python, so those fail as arguments of a compiled program; these are jnp
throughout. Lengths are fractions of the run, so a schedule keeps its shape when the run gets longer.
"""

import abc
import dataclasses
from typing import Annotated, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuralmon.fields import FractionNumber, NonNegativeNumber, NumberMark, PositiveInt, PositiveNumber, Range

Scalar = Float[Array, ""]
Fraction: TypeAlias = Annotated[float, Range(0, 1)]
PositiveFractionNumber: TypeAlias = Annotated[float, NumberMark(), Range(0, 1, above=True)]

# So close before a place counts as there: rounding must not put a fall or a restart off by an update.
_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """A number that changes while training: a linear warm-up to `peak`, then what the subclass says.

    Attributes:
      peak: the largest value.
      warmup: fraction of the run in which it rises linearly to `peak`.
    """

    peak: NonNegativeNumber
    warmup: FractionNumber = 0.0

    @abc.abstractmethod
    def after_warmup(self, progress: Scalar) -> Scalar:
        """Returns the value at `progress`, which goes from 0 (end of the warm-up) to 1 (end of the run)."""

    def value(self, step: Int[Array, ""], num_steps: int) -> Scalar:
        """Returns the value for the update from `step` (counted from 0) in a run of `num_steps`."""
        position = jnp.asarray(step, jnp.float32)
        warmup_steps = jnp.asarray(self.warmup, jnp.float32) * num_steps
        progress = jnp.clip((position - warmup_steps) / jnp.maximum(num_steps - warmup_steps, 1.0), 0.0, 1.0)
        # The first update already has a rate above zero: an update with none would be wasted.
        factor = jnp.minimum(1.0, (position + 1.0) / jnp.maximum(warmup_steps, 1.0))
        return factor * self.after_warmup(progress)


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """`peak` throughout, after the warm-up."""

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        return jnp.full_like(progress, self.peak)


@dataclasses.dataclass(frozen=True)
class Falling(Schedule):
    """Falls from `peak` to `end` after the warm-up, on the curve that the subclass says.

    Attributes:
      end: the value at the end of the run.
    """

    end: NonNegativeNumber = 0.0

    @abc.abstractmethod
    def curve(self, progress: Scalar) -> Scalar:
        """Returns the height between `end` (0) and `peak` (1)."""

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        return self.end + (self.peak - self.end) * self.curve(progress)


@dataclasses.dataclass(frozen=True)
class Linear(Falling):
    """Falls on a straight line from `peak` to `end`, after the warm-up."""

    def curve(self, progress: Scalar) -> Scalar:
        """See `Falling.curve`."""
        return 1.0 - progress


@dataclasses.dataclass(frozen=True)
class Polynomial(Falling):
    """Falls from `peak` to `end` as a power of what is left of the run, after the warm-up.

    Source: Chen et al., "DeepLab", IEEE PAMI 2018 (the "poly" policy, there with a power of 0.9).

    Attributes:
      power: 1 is a straight line; above 1 it falls fast at first.
    """

    power: PositiveNumber = 2.0

    def curve(self, progress: Scalar) -> Scalar:
        """See `Falling.curve`."""
        return (1.0 - progress) ** self.power


@dataclasses.dataclass(frozen=True)
class Cosine(Falling):
    """Falls from `peak` to `end` on half a cosine, after the warm-up.

    Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, eq. 5, one period.
    """

    def curve(self, progress: Scalar) -> Scalar:
        """See `Falling.curve`."""
        return _half_cosine(progress)


@dataclasses.dataclass(frozen=True)
class CosineRestarts(Falling):
    """Falls from `peak` to `end` on half a cosine several times, each time longer; the last one ends with the run.

    Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, eq. 5.

    Attributes:
      cycles: how many times it falls.
      growth: length of a fall over that of the one before (T_mult in the paper).
    """

    cycles: PositiveInt = 3
    growth: PositiveNumber = 2.0

    def curve(self, progress: Scalar) -> Scalar:
        """See `Falling.curve`."""
        lengths = jnp.asarray(self.growth, jnp.float32) ** jnp.arange(self.cycles)
        lengths = lengths / lengths.sum()
        starts = jnp.cumsum(lengths) - lengths
        cycle = jnp.sum(progress + _ROUNDING >= starts[1:])
        return _half_cosine(jnp.clip((progress - starts[cycle]) / lengths[cycle], 0.0, 1.0))


@dataclasses.dataclass(frozen=True)
class OneCycle(Schedule):
    """Rises on half a cosine to `peak`, then falls on another to almost nothing; it needs no other warm-up.

    Source: Smith & Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018,
    with cosines for the paper's straight lines, as became usual.

    Attributes:
      rise: fraction of the run in which it rises.
      start_factor: where it begins, relative to `peak`.
      end_factor: where it ends, relative to `peak`.
    """

    rise: FractionNumber = 0.3
    start_factor: FractionNumber = 0.04
    end_factor: FractionNumber = 4e-6

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        risen = progress / jnp.maximum(self.rise, _ROUNDING)
        fallen = (progress - self.rise) / jnp.maximum(1.0 - self.rise, _ROUNDING)
        rising = 1.0 + (self.start_factor - 1.0) * _half_cosine(jnp.clip(risen, 0.0, 1.0))
        falling = self.end_factor + (1.0 - self.end_factor) * _half_cosine(jnp.clip(fallen, 0.0, 1.0))
        return self.peak * jnp.where(progress < self.rise, rising, falling)


@dataclasses.dataclass(frozen=True)
class Step(Schedule):
    """Falls by the same factor at each of some places of the run.

    Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2: a tenth at 1/2 and 3/4.

    Attributes:
      factor: what each fall multiplies the value by.
      at: where it falls, in fractions of the run after the warm-up.
    """

    factor: FractionNumber = 0.1
    at: tuple[Fraction, ...] = (0.5, 0.75)

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        falls = jnp.sum(progress + _ROUNDING >= jnp.asarray(self.at, jnp.float32))
        return self.peak * jnp.asarray(self.factor, jnp.float32) ** falls


@dataclasses.dataclass(frozen=True)
class Exponential(Schedule):
    """Falls by the same factor at every update, after the warm-up.

    Attributes:
      end_factor: what is left of `peak` at the end of the run.
    """

    end_factor: PositiveFractionNumber = 0.01

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        return self.peak * jnp.asarray(self.end_factor, jnp.float32) ** progress


@dataclasses.dataclass(frozen=True)
class InverseSquareRoot(Schedule):
    """Falls with the root of the time since the beginning of the run, after the warm-up.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, eq. 3. Where the paper scales by the model's
    width, this has `peak`, reached at the end of the warm-up; that is peak = (width * warm-up updates)^-0.5.
    """

    warmup: PositiveFractionNumber = 0.1

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        return self.peak * jnp.sqrt(self.warmup / (self.warmup + progress * (1.0 - self.warmup)))


def _half_cosine(progress: Scalar) -> Scalar:
    """Returns the cosine's fall from 1 to 0."""
    return 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
