"""The contract of an augmentation, and what it may ask of the inputs."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Num

from neuralmon.data.dataset import Batch
from neuralmon.errors import RequestError

Images = Num[Array, "batch height width channels"]


@dataclasses.dataclass(frozen=True)
class Augmentation(abc.ABC):
    """A random change of a training batch that leaves what it shows as it is."""

    # Whether it only moves pixels, so that it may do it before bytes are made four times as large floats.
    takes_bytes: ClassVar[bool] = False

    @abc.abstractmethod
    def __call__(self, key: Array, batch: Batch) -> Batch:
        """Returns the changed batch.

        Mixtures of two examples add `second_targets`, and `second_weights` (batch,), and lower `weights`: the loss of
        an example is then weights * loss(targets) + second_weights * loss(second_targets). Each target keeps the weight
        of the example it belongs to, divided among the places where it is now: the sum of `weights` and
        `second_weights` over the batch is what the sum of `weights` was.
        """


def images_of(augmentation: Augmentation, batch: Batch, integers: bool = False) -> Images:
    """Returns the inputs if they are images, else raises RequestError. `integers`: pixels may be such."""
    _require(augmentation, batch, "images, an array (batch, height, width, channels)", lambda x: x.ndim == 4)
    return jnp.asarray(batch["inputs"]) if integers else floats_of(augmentation, batch)


def floats_of(augmentation: Augmentation, batch: Batch) -> Num[Array, "batch ..."]:
    """Returns the inputs if they are one array of floating-point numbers, else raises RequestError."""
    _require(augmentation, batch, "floating-point numbers", lambda x: jnp.issubdtype(x.dtype, jnp.floating))
    return jnp.asarray(batch["inputs"])


def _require(augmentation: Augmentation, batch: Batch, needed: str, fits: Callable[[Array], bool]) -> None:
    inputs = batch["inputs"]
    several = isinstance(inputs, Mapping)
    if several or not fits(inputs):
        kind = f"several arrays, {', '.join(inputs)}" if several else f"{inputs.dtype.name} {inputs.shape}"
        raise RequestError(
            f"dataset.augment: {type(augmentation).__name__} needs inputs that are {needed}; these are {kind}: "
            "leave it out for this data"
        )
