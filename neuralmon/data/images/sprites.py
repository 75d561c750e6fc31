"""Sprites: small pictures of one thing each, found on their background, centred, and made equally large."""

import io
from typing import Literal, TypeAlias

import numpy as np

from neuralmon.data.images.decoding import opened, printable
from neuralmon.errors import RunError

Colour: TypeAlias = Literal["hsv", "rgb"]

# Alpha below this is background.
_OPAQUE = 128


def read_sprite(path: str, size: int, colour: Colour = "hsv", content: bytes | None = None) -> np.ndarray:
    """Returns the sprite in a file as uint8 (size, size, 3): its bounding box, made square, is the whole picture.

    The background becomes 0 in all channels, which is also what augmentations bring in from outside.

    Args:
      path: of the file.
      size: height and width of what comes out.
      colour: its channels: hue (255 is nearly once round), saturation and value, or red, green and blue.
      content: what the file holds, if it is part of an archive; `path` is what errors call it.

    Raises:
      RunError: it cannot be read, or there is nothing but background in it.
    """
    from PIL import Image

    with opened(path, None if content is None else io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGBA"))
    shown = foreground(pixels)
    if not shown.any():
        raise RunError(f"{printable(path)}: there is no sprite in it, only background; replace or remove it")
    (top, bottom), (left, right) = (np.flatnonzero(shown.any(axis=axis))[[0, -1]] for axis in (1, 0))
    height, width = bottom - top + 1, right - left + 1
    side = max(height, width)
    square = np.zeros((side, side, 4), np.uint8)
    y, x = (side - height) // 2, (side - width) // 2
    opaque = np.where(shown[..., None], pixels | np.array([0, 0, 0, 255], np.uint8), 0)
    square[y : y + height, x : x + width] = opaque[top : bottom + 1, left : right + 1]
    # Bilinear with premultiplied alpha: at the edge a pixel is as dark as its share of the background is large.
    scaled = Image.fromarray(square).convert("RGBa").resize((size, size), Image.Resampling.BILINEAR)
    visible = np.asarray(scaled)[..., :3]
    return np.asarray(Image.fromarray(visible).convert("HSV")) if colour == "hsv" else visible


def foreground(pixels: np.ndarray) -> np.ndarray:
    """Returns which pixels of an RGBA image (height, width, 4) are the sprite's, bool (height, width).

    If no pixel is transparent, the background is what has the colour that is most frequent along the border, and is
    connected with the border: so white eyes stay on a white ground.
    """
    opaque = pixels[..., 3] >= _OPAQUE
    if not opaque.all():
        return opaque
    edge = np.ones(opaque.shape, bool)
    edge[1:-1, 1:-1] = False
    codes = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
    colours, counts = np.unique(codes[edge], return_counts=True)
    alike = codes == colours[counts.argmax()]
    ground, grown = np.zeros_like(alike), alike & edge
    while (grown != ground).any():
        ground, grown = grown, grown.copy()
        grown[1:] |= ground[:-1]
        grown[:-1] |= ground[1:]
        grown[:, 1:] |= ground[:, :-1]
        grown[:, :-1] |= ground[:, 1:]
        grown &= alike
    return ~ground
