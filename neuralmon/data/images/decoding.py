"""Decoding: an image file becomes uint8 (height, width, channels), with 1 (grey), 3 (RGB) or 4 (RGBA) channels.

- The first frame is taken of an animation, and the orientation in the file's EXIF data is applied.
- 16-bit greys are scaled to 8 bits: 65535 becomes 255. Colours become grey by ITU-R 601 (0.299 R + 0.587 G + 0.114 B).
- Where no alpha channel is wanted, transparent images lie on white, for which most of them were drawn.
- Images are resampled bilinearly over all pixels they come from. JPEGs that are to become much smaller are decoded at
  1/2, 1/4 or 1/8 of their size, never below twice the wanted one.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, TypeAlias

import numpy as np

from neuralmon.errors import RunError

if TYPE_CHECKING:
    from PIL import Image

# What becomes of other aspect ratios: sides scaled apart; the middle cut out; all of it, between black borders.
Resize: TypeAlias = Literal["stretch", "crop", "pad"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".bmp", ".webp")
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # EXIF tag; from 5 on, height and width are exchanged


def printable(path: str) -> str:
    """Returns a path as it can be printed and recorded: bytes that are no UTF-8 as backslash escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def opened(path: str, content: BinaryIO | None = None) -> Iterator["Image.Image"]:
    """Opens an image; whatever is wrong with it inside the context becomes a RunError that names it.

    `content` is what the file holds, if `path` is only what it is called.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(content or path, formats=_FORMATS) as image:
            if min(image.size) < 1:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            yield image
    except Exception as error:  # damaged files make decoders fail in every way there is
        match error:
            case FileNotFoundError():
                why = "the file is gone, or a link that leads nowhere"
            case UnidentifiedImageError():
                empty = not (Path(path).stat().st_size if content is None else content.seek(0, os.SEEK_END))
                why = "the file is empty" if empty else "it is no PNG, JPEG, GIF, BMP or WebP, whatever it is called"
            case _:
                why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        message = f"{printable(path)} cannot be read as an image: {why}; replace or remove it"
        raise RunError(message) from error


def native_size(path: str) -> tuple[int, int]:
    """Returns (height, width) of an image as it is to be seen, which is decoded wholly; else RunError."""
    with opened(path) as image:
        image.load()
        size = (image.height, image.width)
        return size[::-1] if _orientation(image) >= 5 else size


def native_channels(path: str) -> int:
    """Returns what an image needs according to its header: 1, 3 or 4 channels, 4 where it may be transparent."""
    with opened(path) as image:
        if image.has_transparency_data:
            return 4
        if image.mode == "P":
            palette = np.reshape(image.getpalette("RGB") or [0] * 3, (-1, 3))
            return 1 if (palette == palette[:, :1]).all() else 3
        return 1 if image.mode in ("1", "L") or image.mode.startswith("I") else 3


def read_image(path: str, shape: tuple[int, ...], resize: Resize = "stretch") -> np.ndarray:
    """Returns the image in a file as uint8 of the given (height, width, channels); RunError if it cannot be read."""
    height, width, channels = shape
    with opened(path) as image:
        orientation = _orientation(image)
        if image.format in ("JPEG", "MPO"):
            across, down = (height, width) if orientation >= 5 else (width, height)
            scaled = _scaled(image.size, (across, down), resize)
            image.draft(_MODES[channels], (2 * scaled[0], 2 * scaled[1]))  # type: ignore[attr-defined]
        image.load()
        if orientation != 1:
            from PIL import ImageOps

            image = ImageOps.exif_transpose(image)
        return np.asarray(_resized(_converted(image, _MODES[channels]), (width, height), resize)).reshape(shape)


def _orientation(image: "Image.Image") -> int:
    """Returns how an image is to be turned, as EXIF numbers it; 1, as it is, also where the EXIF data is damaged."""
    if image.format not in ("JPEG", "MPO"):
        image.load()  # PNG may have its EXIF data behind the pixels
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # the pixels are sound
        return 1
    return value if value in range(1, 9) else 1


def _converted(image: "Image.Image", mode: str) -> "Image.Image":
    """Returns a loaded image in the mode "L", "RGB" or "RGBA"."""
    from PIL import Image

    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        image = Image.fromarray(((values * 255 + 32767) // 65535).clip(0, 255).astype(np.uint8))
    if mode != "RGBA" and image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def _scaled(size: tuple[int, int], target: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """Returns the (width, height) that the whole image is scaled to."""
    if resize == "stretch":
        return target
    factors = [wanted / given for wanted, given in zip(target, size, strict=True)]
    factor = max(factors) if resize == "crop" else min(factors)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _resized(image: "Image.Image", target: tuple[int, int], resize: Resize) -> "Image.Image":
    """Returns an image of the (width, height) `target`."""
    from PIL import Image

    if image.size == target:
        return image
    bilinear = Image.Resampling.BILINEAR
    if resize == "stretch":
        return image.resize(target, bilinear)
    if resize == "crop":
        factor = max(wanted / given for wanted, given in zip(target, image.size, strict=True))
        margins = [(given - wanted / factor) / 2 for wanted, given in zip(target, image.size, strict=True)]
        left, top = (max(margin, 0.0) for margin in margins)
        return image.resize(target, bilinear, (left, top, image.width - left, image.height - top))
    scaled = _scaled(image.size, target, resize)
    canvas = Image.new(image.mode, target)
    canvas.paste(image.resize(scaled, bilinear), ((target[0] - scaled[0]) // 2, (target[1] - scaled[1]) // 2))
    return canvas
