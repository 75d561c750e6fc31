"""Initialisers with a name and a value: equal when they do the same, readable in a record.

`jax.nn.initializers.he_normal() != jax.nn.initializers.he_normal()`, and neither knows its name; the ones here are
frozen dataclasses over the same functions.
"""

import dataclasses
import math
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax.nn import initializers as jax_initializers
from jaxtyping import Array

from neuralmon.fields import Number, PositiveInt, PositiveNumber


@runtime_checkable
class Initializer(Protocol):
    """Anything called as `initializer(key, shape, dtype)` to make an array."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """Returns an array of this shape and type."""
        ...


@dataclasses.dataclass(frozen=True)
class VarianceScaling:
    """Zero-mean weights with variance `scale` / fan.

    Attributes:
      scale: 2 for layers followed by ReLU (He et al. 2015), 1 for linear ones (Glorot 2010, LeCun 1998).
      mode: fan: the inputs of a unit, its outputs, or their mean.
      distribution: the shape of the distribution.
    """

    scale: PositiveNumber = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_in"
    distribution: Literal["truncated_normal", "normal", "uniform"] = "truncated_normal"

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """See `Initializer`."""
        # jax compares the scale in Python; scaling afterwards lets it be a traced number.
        unit = jax_initializers.variance_scaling(1.0, self.mode, self.distribution)
        return unit(key, shape, dtype) * jnp.sqrt(jnp.asarray(self.scale)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Normal:
    """Normal weights with mean 0.

    Attributes:
      stddev: standard deviation.
    """

    stddev: PositiveNumber = 0.01

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """See `Initializer`."""
        return jax.random.normal(key, shape, dtype) * jnp.asarray(self.stddev, dtype)


@dataclasses.dataclass(frozen=True)
class ScaledResidual:
    """Normal weights with mean 0 for the layers whose outputs are added to a residual stream.

    A Transformer of L layers adds 2 L branches to its stream. With the factor 1 / sqrt(2 L) on the standard deviation
    of each branch's last weights, what they add up to has the same variance at any depth.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), 2019, sec. 2.3.

    Attributes:
      stddev: standard deviation before the factor.
      num_layers: number of layers L, each with two residual branches.
    """

    stddev: PositiveNumber = 0.02
    num_layers: PositiveInt = 12

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """See `Initializer`."""
        return Normal(self.stddev / math.sqrt(2 * self.num_layers))(key, shape, dtype)


@dataclasses.dataclass(frozen=True)
class Orthogonal:
    """A (semi-)orthogonal matrix times `scale` (Saxe et al. 2014).

    Attributes:
      scale: factor; sqrt(2) keeps variances through ReLU.
    """

    scale: PositiveNumber = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """See `Initializer`."""
        # There is no QR decomposition in half precision.
        matrix = jax_initializers.orthogonal(1.0)(key, shape, jnp.promote_types(dtype, jnp.float32))
        return (matrix * jnp.asarray(self.scale, matrix.dtype)).astype(dtype)


@dataclasses.dataclass(frozen=True)
class Constant:
    """Every element is `value`.

    Attributes:
      value: the value.
    """

    value: Number = 0.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        """See `Initializer`."""
        return jnp.full(shape, self.value, dtype)


he_normal = VarianceScaling(2.0, "fan_in", "truncated_normal")
he_uniform = VarianceScaling(2.0, "fan_in", "uniform")
glorot_normal = VarianceScaling(1.0, "fan_avg", "truncated_normal")
glorot_uniform = VarianceScaling(1.0, "fan_avg", "uniform")
lecun_normal = VarianceScaling(1.0, "fan_in", "truncated_normal")
lecun_uniform = VarianceScaling(1.0, "fan_in", "uniform")
orthogonal = Orthogonal()
zeros = Constant(0.0)
ones = Constant(1.0)
