"""Mean and standard deviation of data that may be larger than memory, and what is done with them."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data.labelled import TableColumn


@dataclasses.dataclass(frozen=True)
class Moments:
    """What blocks of rows add up to, for each feature: `Moments.of(first) + Moments.of(second)`.

    Two sums are joined as in Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", 1979, eq. 2.1, which is stable where the sum of squares is not. Everything is float64.

    Attributes:
      count: number of rows.
      mean: (features,)
      squares: sum of the squared deviations from `mean` (features,).
      low: smallest value (features,).
      high: largest value (features,).
      rounding: the most by which a value is changed when it is stored as float32 (features,).
    """

    count: int
    mean: np.ndarray
    squares: np.ndarray
    low: np.ndarray
    high: np.ndarray
    rounding: np.ndarray

    @classmethod
    def of(cls, block: np.ndarray) -> "Moments":
        """Returns the moments of at least one row: (rows, features)."""
        values = block.astype(np.float64)
        mean = values.mean(axis=0)
        as_stored = values if block.dtype.itemsize <= 2 else values.astype(np.float32)
        return cls(
            count=len(values),
            mean=mean,
            squares=np.square(values - mean).sum(axis=0),
            low=values.min(axis=0),
            high=values.max(axis=0),
            rounding=np.abs(as_stored - values).max(axis=0),
        )

    def __add__(self, other: "Moments") -> "Moments":
        count, step = self.count + other.count, other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + step * (other.count / count),
            squares=self.squares + other.squares + np.square(step) * (self.count * other.count / count),
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
            rounding=np.maximum(self.rounding, other.rounding),
        )

    @property
    def stddev(self) -> np.ndarray:
        """The population's standard deviation of each feature; 1 where all its values are the same."""
        return np.where(self.low == self.high, 1.0, np.sqrt(self.squares / self.count))

    def too_coarse(self) -> np.ndarray:
        """Returns the features whose differences are lost in float32, such as seconds since 1970."""
        return np.flatnonzero((self.low < self.high) & (self.rounding > 0.01 * self.stddev))


def standardize(inputs: Float[Array, "batch ... width"], columns: Sequence[TableColumn]) -> Float[Array, "..."]:
    """Returns inputs with mean 0 and variance 1 over the training rows; places of words stay 0 and 1.

    The columns are those of the last axis: a column of numbers takes one place, one of words a place for each category.
    """
    mean = [value for column in columns for value in [column.mean] * (len(column.categories) or 1)]
    stddev = [value for column in columns for value in [column.stddev] * (len(column.categories) or 1)]
    return (inputs - jnp.asarray(mean, jnp.float32)) / jnp.asarray(stddev, jnp.float32)
