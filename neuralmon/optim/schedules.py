"""Schedules: a number as a function of the step.

optax's own schedules compare their numbers in Python, so those fail as arguments of a compiled program; these are jnp
throughout. Lengths are fractions of the run, so a schedule keeps its shape when the run gets longer.
"""

import abc
import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuralmon.fields import FractionNumber, NonNegativeNumber

Scalar = Float[Array, ""]


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
class Linear(Schedule):
    """Falls on a straight line from `peak` to `end`, after the warm-up.

    Attributes:
      end: the value at the end of the run.
    """

    end: NonNegativeNumber = 0.0

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        return self.end + (self.peak - self.end) * (1.0 - progress)


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """Falls from `peak` to `end` on half a cosine, after the warm-up.

    Source: Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, eq. 5, one period.

    Attributes:
      end: the value at the end of the run.
    """

    end: NonNegativeNumber = 0.0

    def after_warmup(self, progress: Scalar) -> Scalar:
        """See `Schedule.after_warmup`."""
        return self.end + (self.peak - self.end) * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))
