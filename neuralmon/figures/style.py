"""One look for all figures: colours that colour-blind readers tell apart, and texts that fit."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

DPI = 120
SIZE_LIMIT = 300_000  # bytes of a file above which it gets a palette of 256 colours
INK, GREY, PALE = "#222222", "#767676", "#d9d9d9"
TRAIN, VALIDATION = "#0072b2", "#d55e00"
# The palette of Okabe and Ito ("Color Universal Design", 2008), the pale yellow last.
COLOURS = (TRAIN, VALIDATION, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
MARKERS = "os^DvPX*"
SMALL, NORMAL, LARGE = 7.5, 9.0, 11.0  # font sizes in points

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so figures are the same everywhere
    "font.size": NORMAL,
    "axes.titlesize": NORMAL,
    "axes.titlelocation": "left",
    "axes.labelsize": NORMAL,
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "grid.color": "#ebebeb",
    "grid.linewidth": 0.7,
    "text.parse_math": False,  # a class may be called "$5 to $10"
}


def applied() -> contextlib.AbstractContextManager[None]:
    """Returns a context in which matplotlib draws in this style, whatever the user's own settings are."""
    defaults: dict[Any, Any] = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
    return matplotlib.rc_context({**defaults, **_SETTINGS})


def new_figure(width: float, height: float, title: str, *, constrained: bool = True) -> Figure:
    """Returns an empty figure of a size in inches; `constrained`: matplotlib makes room for all texts."""
    room = (0, 0, 1, 1 - 0.36 / height)
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06, rect=room) if constrained else None
    figure = Figure(figsize=(width, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)  # draws into memory, whatever windows there are
    text = fit(title, width - 0.3, LARGE)
    figure.suptitle(text, x=0.1 / width, y=1 - 0.1 / height, ha="left", va="top", size=LARGE, weight="bold")
    return figure


def png(figure: Figure) -> bytes:
    """Returns the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white")
    if buffer.tell() > SIZE_LIMIT:
        from PIL import Image

        image = Image.open(buffer).convert("RGB")
        # Colours from the whole range, and errors spread: a palette of the most frequent ones shows rings. Finding
        # them among 32 levels of each channel, white among these, takes a hundredth of the time.
        coarse = image.point([level // 8 * 8 + level // 32 for level in range(256)] * 3)
        palette = coarse.quantize(256, Image.Quantize.MAXCOVERAGE)
        image = image.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def class_colours(count: int) -> list[Any]:
    """Returns a colour for each of `count` classes."""
    if count <= len(COLOURS):
        return list(COLOURS[:count])
    return list(matplotlib.colormaps["viridis"](np.linspace(0, 1, count)))


def fit(text: object, inches: float, size: float = SMALL, *, keep_end: bool = True) -> str:
    """Returns `text` in one line, its middle left out if it is wider than `inches` in a font of `size` points.

    The middle, since names of one family often begin alike and differ at the end; without `keep_end`, the end.
    """
    line = " ".join(str(text).split())
    if _inches(line, size) <= inches:
        return line
    fits, too_long = 0, len(line)
    while too_long - fits > 1:
        keep = (fits + too_long) // 2
        fitting = _inches(_shortened(line, keep, keep_end), size) <= inches
        fits, too_long = (keep, too_long) if fitting else (fits, keep)
    return _shortened(line, fits, keep_end)


def widest(texts: Sequence[str], size: float = SMALL) -> float:
    """Returns the width in inches of the widest of the texts."""
    return max((_inches(text, size) for text in texts), default=0.0)


def _shortened(line: str, keep: int, keep_end: bool) -> str:
    tail = keep // 2 if keep_end else 0
    return f"{line[: keep - tail].rstrip()}…{line[len(line) - tail :].lstrip()}"


def _inches(line: str, size: float) -> float:
    width = text_to_path.get_text_width_height_descent(line, FontProperties(size=size), ismath=False)[0] / 72
    return 1.04 * width  # letters are drawn at whole pixels, which widens them


def number(value: float) -> str:
    """Returns a number for a person: 4 digits, and thousands set apart."""
    if value == int(value) if np.isfinite(value) else False:
        return f"{value:,.0f}" if abs(value) < 1e7 else f"{value:.3g}"
    return f"{value:.4g}"


def step_axis(axes: Axes) -> None:
    """Makes the horizontal axis one of training steps."""
    axes.set_xlabel("step")
    axes.margins(x=0.02)
    low, high = axes.dataLim.intervalx
    few = [] if low > high else [low]
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True) if low < high else FixedLocator(few))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def bare(axes: Axes) -> None:
    """Takes ticks and frame off."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
