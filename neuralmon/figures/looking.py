"""Where in an image a model looks, while it writes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style
from neuralmon.figures.attention import visible

_MOST = 48
_WIDEST = 10.0  # inches of all panels of a row


def looking(
    image: np.ndarray, weights: np.ndarray, tokens: Sequence[str], title: str = "Where it looks, while it writes"
) -> Figure:
    """Draws an image once for each token that is written, the brighter the more it is looked at.

    Args:
      image: (height, width, channels), bytes, or black 0 and white 1.
      weights: (tokens, rows, columns) of a coarser map of the image; those of each token add up to 1.
      tokens: what is written; the first 48 are drawn.
      title: what stands above.
    """
    if weights.ndim != 3 or len(weights) != len(tokens) or not len(tokens):
        raise ValueError(f"weights of shape {weights.shape} are not (tokens, rows, columns) of {len(tokens)} tokens")
    height, width = image.shape[:2]
    grey = image.mean(axis=-1) / (255.0 if image.dtype == np.uint8 else 1.0)
    panel = (1.5, 1.5 * height / width) if width >= height else (1.0, 1.0 * height / width)
    columns = max(1, min(len(tokens), int(_WIDEST / (panel[0] + 0.1))))
    rows = -(-min(len(tokens), _MOST) // columns)
    total = max(columns * (panel[0] + 0.1) + 0.2, 3.0), rows * (panel[1] + 0.25) + 0.5
    figure = style.new_figure(*total, title, constrained=False)
    for index, (token, seen) in enumerate(list(zip(tokens, weights, strict=True))[:_MOST]):
        row, column = divmod(index, columns)
        x, y = 0.15 + column * (panel[0] + 0.1), total[1] - 0.4 - (row + 1) * (panel[1] + 0.25)
        place = (x / total[0], y / total[1], panel[0] / total[0], panel[1] / total[1])
        axes = figure.add_axes(place, label=f"{index}")
        extent = (0, width, height, 0)
        axes.imshow(grey, cmap="gray_r", vmin=0, vmax=1, extent=extent, aspect="auto")
        seen = np.nan_to_num(seen)
        alpha = seen / max(float(seen.max()), 1e-12)
        axes.imshow(np.ones_like(seen), cmap="autumn", vmin=0, vmax=2, alpha=0.75 * alpha, extent=extent, aspect="auto")
        style.bare(axes)
        axes.spines[:].set(visible=True, color=style.PALE)
        axes.set_title(style.fit(visible(token), panel[0]), size=style.SMALL, pad=2)
    return figure
