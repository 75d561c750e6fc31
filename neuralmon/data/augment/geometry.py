"""Where the pixels of an image lie: moved, flipped, cut out, turned."""

import dataclasses
from typing import Annotated, ClassVar, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuralmon.data.augment.base import Augmentation, Images, images_of
from neuralmon.data.dataset import Batch
from neuralmon.fields import FractionNumber, NonNegativeNumber, NumberMark, PositiveNumber, Range

PositiveFractionNumber: TypeAlias = Annotated[float, NumberMark(), Range(0, 1, above=True)]
Border: TypeAlias = Literal["zero", "reflect"]


@dataclasses.dataclass(frozen=True)
class Shift(Augmentation):
    """Moves each image by whole pixels, drawn evenly from -pixels ... pixels for either direction.

    Attributes:
      pixels: the largest shift; its fraction is dropped.
    """

    takes_bytes: ClassVar[bool] = True

    pixels: NonNegativeNumber = 2.0

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        return {**batch, "inputs": shift(key, images_of(self, batch, integers=True), self.pixels)}


@dataclasses.dataclass(frozen=True)
class Crop(Augmentation):
    """Adds a border all round each image and cuts the image's size out of it again, anywhere.

    Padding 4 with zeros is what is usual for CIFAR (He et al., "Deep Residual Learning for Image Recognition", CVPR
    2016, sec. 4.2), and the same as Shift(4).

    Attributes:
      padding: pixels of the border; its fraction is dropped.
      border: "zero": black; "reflect": the image mirrored in its outermost pixels, which are not repeated.
    """

    takes_bytes: ClassVar[bool] = True

    padding: NonNegativeNumber = 4.0
    border: Border = "zero"

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        return {**batch, "inputs": shift(key, images_of(self, batch, integers=True), self.padding, self.border)}


@dataclasses.dataclass(frozen=True)
class Flip(Augmentation):
    """Mirrors some of the images.

    Attributes:
      probability: how often.
      vertical: top and bottom change places, instead of left and right.
    """

    takes_bytes: ClassVar[bool] = True

    probability: FractionNumber = 0.5
    vertical: bool = False

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        images = images_of(self, batch, integers=True)
        chosen = jax.random.uniform(key, (len(images), 1, 1, 1)) < self.probability
        return {**batch, "inputs": jnp.where(chosen, jnp.flip(images, 1 if self.vertical else 2), images)}


@dataclasses.dataclass(frozen=True)
class RandomResizedCrop(Augmentation):
    """Cuts a rectangle out of each image and stretches it to the image's size, interpolating linearly.

    Area and ratio are drawn first (Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, sec. 6), the ratio
    evenly on a logarithmic scale, then the place. A rectangle wider or higher than the image is cut to the image.

    Attributes:
      min_scale: smallest area, as a fraction of the image's.
      max_scale: largest area.
      min_ratio: smallest ratio of width to height, as a multiple of the image's own.
      max_ratio: largest ratio.
    """

    min_scale: PositiveFractionNumber = 0.08
    max_scale: PositiveFractionNumber = 1.0
    min_ratio: PositiveNumber = 3 / 4
    max_ratio: PositiveNumber = 4 / 3

    def __post_init__(self) -> None:
        for name, low, high in (("scale", self.min_scale, self.max_scale), ("ratio", self.min_ratio, self.max_ratio)):
            # Within the compiled program they are traced, and were looked at before.
            if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
                raise ValueError(f"min_{name} {low:g} is above max_{name} {high:g}")

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        images = images_of(self, batch)
        random = jax.random.uniform(key, (4, len(images)))
        area = _between(self.min_scale, self.max_scale, random[0])
        ratio = jnp.exp(_between(jnp.log(self.min_ratio), jnp.log(self.max_ratio), random[1]))
        extent = jnp.minimum(jnp.sqrt(jnp.stack([area / ratio, area * ratio])), 1.0)
        return {**batch, "inputs": resized_crop(images, random[2:] * (1.0 - extent), extent)}


@dataclasses.dataclass(frozen=True)
class Rotate(Augmentation):
    """Turns each image about its centre, interpolating linearly.

    Attributes:
      degrees: the largest angle; the angles are drawn evenly from -degrees ... degrees.
    """

    degrees: NonNegativeNumber = 15.0

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        images = images_of(self, batch)
        random = jax.random.uniform(key, (len(images),), minval=-1.0)
        return {**batch, "inputs": rotate(images, random * jnp.deg2rad(jnp.asarray(self.degrees, jnp.float32)))}


def shift(key: Array, images: Images, max_pixels: float | Array, border: Border = "zero") -> Images:
    """See `Shift` and `Crop`. `max_pixels` may be traced."""
    images = jnp.asarray(images)  # NumPy's arrays take no traced indices
    batch, height, width, _ = images.shape
    reach = jnp.floor(jnp.asarray(max_pixels, jnp.float32))
    uniform = jax.random.uniform(key, (2, batch, 1))
    offsets = jnp.clip(jnp.floor(uniform * (2 * reach + 1)) - reach, -reach, reach).astype(jnp.int32)
    rows, columns = jnp.arange(height) - offsets[0], jnp.arange(width) - offsets[1]
    moved = images[
        jnp.arange(batch)[:, None, None],
        _within(rows, height, border)[:, :, None],
        _within(columns, width, border)[:, None, :],
    ]
    if border == "reflect":
        return moved
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    return jnp.where(inside[..., None], moved, jnp.zeros((), images.dtype))


def resized_crop(images: Images, start: Float[Array, "2 batch"], extent: Float[Array, "2 batch"]) -> Images:
    """Stretches a rectangle of each image to the image's size.

    `start` says where its upper and its left side are, `extent` its height and its width, as fractions of the image's.
    """
    for axis, size in enumerate(images.shape[1:3]):
        centres = start[axis, :, None] * size + (jnp.arange(size) + 0.5) * extent[axis, :, None] - 0.5
        centres = jnp.clip(centres, 0, size - 1)
        below = jnp.floor(centres).astype(jnp.int32)
        share = _along(axis, centres - below).astype(images.dtype)
        first = jnp.take_along_axis(images, _along(axis, below), axis + 1, mode="clip")
        second = jnp.take_along_axis(images, _along(axis, below + 1), axis + 1, mode="clip")
        images = first * (1 - share) + second * share
    return images


def rotate(images: Images, angles: Float[Array, " batch"]) -> Images:
    """Turns each image about its centre, anticlockwise by `angles` in radians; what comes in from outside is 0."""
    batch, height, width, channels = images.shape
    sin, cos = jnp.sin(angles)[:, None, None], jnp.cos(angles)[:, None, None]
    down, right = jnp.arange(height)[:, None] - (height - 1) / 2, jnp.arange(width) - (width - 1) / 2
    # Where each pixel comes from, in the image with a border of one zero; what is farther out reads that border.
    rows = jnp.clip(cos * down + sin * right + (height + 1) / 2, 0, height + 1)
    columns = jnp.clip(cos * right - sin * down + (width + 1) / 2, 0, width + 1)
    above = jnp.minimum(rows.astype(jnp.int32), height)
    left = jnp.minimum(columns.astype(jnp.int32), width)
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Each pixel beside its three neighbours, so that one gather reads all four: twice as fast as four gathers.
    neighbours = [padded[:, i : i + height + 1, j : j + width + 1] for i in (0, 1) for j in (0, 1)]
    found = jnp.concatenate(neighbours, -1)[jnp.arange(batch)[:, None, None], above, left]
    low, near = rows - above, columns - left
    shares = jnp.stack([(1 - low) * (1 - near), (1 - low) * near, low * (1 - near), low * near], axis=-1)[..., None]
    return (found.reshape(batch, height, width, 4, channels) * shares.astype(images.dtype)).sum(axis=3)


def _between(low: float | Array, high: float | Array, random: Array) -> Array:
    return low + (high - low) * random


def _within(index: Int[Array, "batch size"], size: int, border: Border) -> Int[Array, "batch size"]:
    if border == "zero":
        return jnp.clip(index, 0, size - 1)
    period = max(2 * (size - 1), 1)
    index = jnp.abs(index) % period
    return jnp.minimum(index, period - index)


def _along(axis: int, values: Array) -> Array:
    """Returns (batch, size) values as they stand in images, along the rows' axis 0 or the columns' axis 1."""
    return values[:, :, None, None] if axis == 0 else values[:, None, :, None]
