"""The colours of an image."""

import dataclasses
from typing import Annotated, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.data.augment.base import Augmentation, images_of
from neuralmon.data.dataset import Batch
from neuralmon.errors import RequestError
from neuralmon.fields import FractionNumber, NumberMark, Range

HalfTurnNumber: TypeAlias = Annotated[float, NumberMark(), Range(0, 0.5)]
Colours = Float[Array, "batch height width channels"]  # 3 channels: red, green, blue; or 1: grey
Factors = Float[Array, "batch 1 1 1"]

# Brightness of red, green and blue to the eye: ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class Colour(Augmentation):
    """Changes brightness, contrast, saturation and hue of each image, in this order, within 0 ... 1.

    The first three multiply distances by factors drawn evenly from 1 - strength ... 1 + strength: that of each pixel
    to black, to the image's mean grey, and to the grey that is as bright as the pixel. Saturation and hue change
    nothing in grey images; an alpha channel, the second or the fourth, stays as it is. In other places this is called
    colour jitter (Chen et al., "A Simple Framework for Contrastive Learning", ICML 2020, appendix A).

    Attributes:
      brightness: strength, 0 to 1.
      contrast: strength, 0 to 1.
      saturation: strength, 0 to 1.
      hue: the largest turn of the colour circle, as a fraction of a whole one, up to 0.5.
    """

    brightness: FractionNumber = 0.0
    contrast: FractionNumber = 0.0
    saturation: FractionNumber = 0.0
    hue: HalfTurnNumber = 0.0

    def __call__(self, key: Array, batch: Batch) -> Batch:
        """See `Augmentation`."""
        images = images_of(self, batch)
        channels = images.shape[-1]
        if channels > 4:
            raise RequestError(
                "dataset.augment: Colour needs grey or RGB images, 1 or 3 channels, and one more with alpha; "
                f"these have {channels}: leave it out for this data"
            )
        strengths = jnp.stack([self.brightness, self.contrast, self.saturation, self.hue]).astype(jnp.float32)
        random = jax.random.uniform(key, (4, len(images), 1, 1, 1), minval=-1.0) * strengths.reshape(4, 1, 1, 1, 1)
        colours, alpha = jnp.split(images, [3 if channels > 2 else 1], axis=-1)
        changed = contrast(brightness(colours, 1 + random[0]), 1 + random[1])
        if channels > 2:
            changed = turn_hue(saturation(changed, 1 + random[2]), random[3])
        # The way to hues and back would cost the last bit.
        changed = jnp.where(jnp.any(strengths > 0), changed, colours).astype(images.dtype)
        return {**batch, "inputs": jnp.concatenate([changed, alpha], axis=-1)}


def brightness(colours: Colours, factor: Factors) -> Colours:
    """Multiplies all colours."""
    return jnp.clip(colours * factor, 0, 1)


def contrast(colours: Colours, factor: Factors) -> Colours:
    """Multiplies the distances to the image's mean grey."""
    return _away_from(_grey(colours).mean(axis=(1, 2), keepdims=True), colours, factor)


def saturation(colours: Colours, factor: Factors) -> Colours:
    """Multiplies the distances of RGB colours to the grey that is as bright."""
    return _away_from(_grey(colours), colours, factor)


def turn_hue(colours: Colours, turn: Factors) -> Colours:
    """Turns the hue of RGB colours by a fraction of the circle; value and saturation (HSV) stay."""
    red, green, blue = jnp.moveaxis(colours, -1, 0)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
    divisor = jnp.where(chroma > 0, chroma, 1.0)
    of_green_or_blue = jnp.where(value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor)
    hue = jnp.where(value == red, (green - blue) / divisor, of_green_or_blue)  # in sixths of the circle

    def channel(opposite: float) -> Array:
        """A channel has its largest value, `chroma` above the smallest, from one sixth to the other of its colour."""
        sixth = hue + 6 * turn[..., 0] + opposite
        sixth = sixth - 6 * jnp.floor(sixth / 6)
        return value - chroma * jnp.clip(jnp.minimum(sixth, 4 - sixth), 0, 1)

    return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def _grey(colours: Colours) -> Colours:
    return (colours * jnp.asarray(_LUMA, colours.dtype)).sum(-1, keepdims=True) if colours.shape[-1] == 3 else colours


def _away_from(grey: Array, colours: Colours, factor: Factors) -> Colours:
    return jnp.clip(colours * factor + grey * (1 - factor), 0, 1)
