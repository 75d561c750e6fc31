"""Two half circles, drawn by ourselves: the smallest data that no straight line divides."""

import dataclasses
from typing import Annotated

import numpy as np

from neuralmon.data.labelled import Facts, LabelledDataset, TableColumn
from neuralmon.data.splits import RandomSplit, Split
from neuralmon.fields import NonNegativeInt, Range


@dataclasses.dataclass(frozen=True, kw_only=True)
class Moons(LabelledDataset):
    """Points on two half circles of radius 1 that reach into each other, plus noise: (2,) float32.

    The upper one, class 0, is (cos a, sin a), the lower one is (1 - cos a, 1/2 - sin a), with a even in [0, pi]. Points
    are not standardised, so that figures of decision regions have the data's own axes.

    Attributes:
      size: number of points of all splits together, half of either moon.
      noise: standard deviation of what is added to each coordinate.
      seed: of the points.
      split: how the points are cut into training, validation and test examples.
    """

    size: Annotated[int, Range(2, 10_000_000)] = 2_000
    noise: Annotated[float, Range(0, 10)] = 0.1
    seed: NonNegativeInt = 0
    split: Split = dataclasses.field(default_factory=RandomSplit)

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        rows = self.split.rows(self.size)
        return Facts(
            sizes={name: len(part) for name, part in rows.items()},
            shape=(2,),
            dtype="float32",
            class_names=("upper", "lower"),
            class_counts=tuple(np.bincount(rows["train"] % 2, minlength=2).tolist()),
            columns=(TableColumn(name="x"), TableColumn(name="y")),
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        random = np.random.Generator(np.random.PCG64(self.seed))
        moon = np.arange(self.size) % 2
        angle = random.uniform(0, np.pi, self.size)
        upper = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        points = np.where(moon[:, None] == 0, upper, np.array([1.0, 0.5]) - upper)
        points = (points + self.noise * random.standard_normal((self.size, 2))).astype(np.float32)
        targets = moon.astype(np.int32)
        return {
            name: {"inputs": points[part], "targets": targets[part]}
            for name, part in self.split.rows(self.size).items()
        }
