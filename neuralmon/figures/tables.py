"""Examples that are no pictures: rows of numbers, and texts."""

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from neuralmon.figures import style

_ROW = 0.2  # inches
_MOST_FEATURES = 60


def heat_table(
    values: np.ndarray, captions: list[str], colours: list[str], feature_names: Sequence[str], title: str, note: str
) -> Figure:
    """Draws (examples, features) as a table; the colour says how far a number is from its column's mean.

    Numbers are written into up to 12 columns; of more than 60 the first 60 are drawn.
    """
    total = values.shape[1]
    values = values[:, :_MOST_FEATURES]
    rows, columns = values.shape
    names = list(feature_names[:columns]) or [str(index) for index in range(columns)]
    column = 0.62 if columns <= 12 else 0.2
    # Names that fit into their column stand upright.
    upright = style.widest(names) <= column - 0.05
    names = names if upright else [style.fit(name, 1.3) for name in names]
    above = 0.2 if upright else style.widest(names) + 0.1
    left = style.widest(captions) + 0.25
    width = max(left + columns * column + 1.15, 5.0)
    top = 0.5 + above + (0.2 if note else 0.0)
    height = top + rows * _ROW + 0.45
    more = f", {columns} of {total} features" if total > columns else ""
    figure = style.new_figure(width, height, title + more, constrained=False)
    if note:
        figure.text(0.1 / width, 1 - 0.36 / height, note, size=style.SMALL, color=style.GREY, va="top")
    table = (left / width, 0.45 / height, columns * column / width, rows * _ROW / height)
    axes = figure.add_axes(table)
    with np.errstate(all="ignore"):
        finite = np.where(np.isfinite(values), values, np.nan)
        counts = np.maximum(np.isfinite(finite).sum(axis=0), 1)
        mean = np.nansum(finite, axis=0) / counts
        spread = np.sqrt(np.nansum((finite - mean) ** 2, axis=0) / counts)
        scores = (finite - mean) / np.where(spread > 0, spread, 1.0)
    drawn = axes.imshow(scores, cmap="PuOr_r", norm=TwoSlopeNorm(0, -3, 3), aspect="auto")
    axes.set_yticks(range(rows), captions)
    for text, colour in zip(axes.get_yticklabels(), colours, strict=True):
        text.set_color(colour)
    axes.set_xticks(range(columns), names, rotation=0 if upright else 90)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    if columns <= 12:
        for (row, index), value in np.ndenumerate(values):
            dark = abs(scores[row, index]) > 1.8
            colour = "white" if dark else style.INK
            axes.text(index, row, f"{value:.3g}", ha="center", va="center", size=style.SMALL - 0.5, color=colour)
    if rows > 1:
        tall = min(rows * _ROW, 1.8)
        side = figure.add_axes(
            ((left + columns * column + 0.15) / width, 1 - (top + tall) / height, 0.12 / width, tall / height)
        )
        bar = figure.colorbar(drawn, cax=side, ticks=[-3, 0, 3])
        bar.outline.set_visible(False)  # type: ignore[operator]
        axes.set_xlabel("colour: standard deviations from the column's mean", size=style.SMALL, color=style.GREY)
        axes.xaxis.set_label_position("bottom")
    return figure


def text_table(texts: list[str], captions: list[str], colours: list[str], title: str, note: str) -> Figure:
    """Draws one line of text for each example, its caption before it."""
    left = style.widest(captions) + 0.35
    width, top = left + 6.0, 0.46 + (0.2 if note else 0.0)
    height = top + len(texts) * _ROW + 0.1
    figure = style.new_figure(width, height, title, constrained=False)
    if note:
        figure.text(0.1 / width, 1 - 0.36 / height, note, size=style.SMALL, color=style.GREY, va="top")
    for row, (text, caption, colour) in enumerate(zip(texts, captions, colours, strict=True)):
        y = 1 - (top + (row + 0.5) * _ROW) / height
        figure.text(0.1 / width, y, caption, size=style.SMALL, color=colour, va="center")
        figure.text((left + 0.1) / width, y, style.fit(text, 5.8, keep_end=False), size=style.SMALL, va="center")
    return figure
