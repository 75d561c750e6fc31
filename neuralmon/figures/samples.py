"""Pictures that a model has made, in rows."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style

_CELL = 48  # pixels of a picture's height, about


def samples(images: np.ndarray, row_names: Sequence[str] = (), title: str = "Samples") -> Figure:
    """Draws pictures close to each other, each of their pixels as a square of whole pixels.

    Args:
      images: (rows, columns, height, width, channels), with 1, 3 or 4 channels, black 0 and white 1.
      row_names: what each row shows; (): nothing is written beside them.
      title: what stands above.
    """
    picture = mosaic(np.asarray(images), max(1, round(_CELL / images.shape[2])))
    height, width = (size / style.DPI for size in picture.shape[:2])
    left = 0.12 + (style.widest(list(row_names)) + 0.08 if row_names else 0.0)
    top, total_width = 0.36, max(left + width + 0.12, 3.0)
    total_height = top + height + 0.12
    figure = style.new_figure(total_width, total_height, title, constrained=False)
    # Whole pixels of the file, or the picture would be drawn anew.
    x, y = (round(inches * style.DPI) / style.DPI for inches in (left, total_height - top - height))
    axes = figure.add_axes((x / total_width, y / total_height, width / total_width, height / total_height))
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    style.bare(axes)
    for row, name in enumerate(row_names):
        place = 1 - (row + 0.5) / len(row_names)
        axes.text(-0.06 / width, place, name, size=style.SMALL, ha="right", va="center", transform=axes.transAxes)
    return figure


def mosaic(images: np.ndarray, scale: int = 1) -> np.ndarray:
    """Returns one picture of many, a pixel of white between them: (height, width), or with 3 or 4 channels behind."""
    rows, columns, height, width, channels = images.shape
    clipped = np.nan_to_num(np.clip(images, 0, 1)).repeat(scale, axis=2).repeat(scale, axis=3)
    framed = np.ones((rows, columns, height * scale + 1, width * scale + 1, channels), np.float32)
    framed[:, :, :-1, :-1] = clipped
    whole = framed.swapaxes(1, 2).reshape(rows * (height * scale + 1), columns * (width * scale + 1), channels)
    return whole[:-1, :-1, 0] if channels == 1 else whole[:-1, :-1]
