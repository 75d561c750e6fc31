"""Examples side by side: pictures or curves, each below its caption."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style

_PANEL = 1.12  # inches
_LINE = 0.145  # height of a line of small text in inches

# The lines of a caption, each a text that may be shortened and an end that may not.
Caption = list[tuple[str, str]]


def picture_panels(images: np.ndarray, captions: list[Caption], colours: list[str], title: str, note: str) -> Figure:
    """Draws (examples, height, width) of grey or (examples, height, width, 3 or 4), within 0 and 1."""
    height = _PANEL * float(np.clip(images.shape[1] / images.shape[2], 0.25, 2.0))
    lines = _lines(captions, _PANEL)
    figure, panels = _panels(len(images), 8, _PANEL, height, lines, title, note)
    for axes, image, caption, colour in zip(panels, images, captions, colours, strict=True):
        style.bare(axes)
        axes.set_facecolor(style.PALE)  # seen through transparent pixels
        # A strip that is much longer than wide is stretched rather than made invisible.
        extreme = not 0.25 <= image.shape[0] / image.shape[1] <= 2.0
        axes.imshow(image, cmap="gray", vmin=0, vmax=1, aspect="auto" if extreme else "equal")
        axes.set_anchor("NW")
        _caption(axes, caption, _PANEL, lines, colour)
    return figure


def curve_panels(series: np.ndarray, captions: list[Caption], colours: list[str], title: str, note: str) -> Figure:
    """Draws (examples, time) or (examples, time, features), a line for each feature, all on one scale."""
    series = series.reshape(*series.shape[:2], -1)
    finite = series[np.isfinite(series)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 1.0
    width, height = 2.3, 0.9
    lines = _lines(captions, width)
    extent = f"{series.shape[1]:,} positions, values {style.number(low)} to {style.number(high)}"
    figure, panels = _panels(len(series), 4, width, height, lines, title, f"{note}; {extent}" if note else extent)
    for axes, lines_of_features, caption, colour in zip(panels, series, captions, colours, strict=True):
        for feature, line_colour in zip(lines_of_features.T, style.COLOURS, strict=False):
            axes.plot(feature, color=line_colour, linewidth=0.9)
        axes.set_ylim(low - margin, high + margin)
        axes.set_xlim(0, max(series.shape[1] - 1, 1))
        axes.set_facecolor("#f7f7f7")
        style.bare(axes)
        _caption(axes, caption, width, lines, colour)
    return figure


def caption_row(caption: Caption, width: float) -> str:
    """Returns the caption in one line; each of its texts is shortened, so that all of them are seen."""
    line = _joined(caption)
    if style.widest([line]) <= width:
        return line
    room = width / len(caption) - 0.05
    return " ".join(style.fit(text, room - style.widest([end])) + end for text, end in caption)


def _panels(
    count: int, columns: int, width: float, height: float, lines: int, title: str, note: str
) -> tuple[Figure, list[Any]]:
    """Returns a figure and its axes, each `width` x `height` inches below `lines` of text."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    gap, left, top = 0.1, 0.12, 0.36 + (0.2 if note else 0.0)
    cell = height + lines * _LINE + 0.12
    total_width = max(left + columns * (width + gap) + 0.02, 4.6)
    total_height = top + rows * cell + 0.08
    figure = style.new_figure(total_width, total_height, title, constrained=False)
    if note:
        note = style.fit(note, total_width - 0.3, style.SMALL)
        figure.text(0.1 / total_width, 1 - 0.36 / total_height, note, size=style.SMALL, color=style.GREY, va="top")
    axes = []
    for index in range(count):
        row, column = divmod(index, columns)
        x, y = left + column * (width + gap), total_height - top - row * cell - cell + 0.08
        axes.append(figure.add_axes((x / total_width, y / total_height, width / total_width, height / total_height)))
    return figure, axes


def _joined(caption: Caption) -> str:
    return " ".join(text + end for text, end in caption)


def _caption(axes: Any, caption: Caption, width: float, lines: int, colour: str) -> None:
    shown = caption if lines > 1 else [(_joined(caption), "")]
    text = "\n".join(caption_row([line], width) for line in shown)
    axes.set_title(text, size=style.SMALL, color=colour, pad=2, loc="left")


def _lines(captions: list[Caption], width: float) -> int:
    """Returns how many lines the captions need."""
    return max(map(len, captions)) if style.widest([_joined(caption) for caption in captions]) > width else 1
