"""How alike a word's vectors are from sentence to sentence."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style

_CELL = 0.36  # inches
_SENTENCE = 4.2  # inches a sentence is shortened to


def contexts(
    sentences: Sequence[str], cosines: Mapping[str, np.ndarray], title: str = "A word in several sentences"
) -> Figure:
    """Draws a square of cosines for each kind of vector, all on one scale, beside the numbered sentences.

    The scale ends at 1, and begins a little below the least of them.

    Args:
      sentences: what the word stands in.
      cosines: by kind, (sentences, sentences).
      title: what stands above.
    """
    count = len(sentences)
    if wrong := [kind for kind, square in cosines.items() if np.shape(square) != (count, count)]:
        raise ValueError(f"cosines of {wrong[0]!r} are no square of the {count} sentences")
    least = min((float(np.nanmin(square)) for square in cosines.values() if np.isfinite(square).any()), default=0.0)
    low = max(-1.0, min(0.9, np.floor(10 * least) / 10))
    side = max(_CELL * count, 1.6)
    texts = [style.fit(f"{number}  {text}", _SENTENCE) for number, text in enumerate(sentences, 1)]
    left = style.widest(texts) + 0.25
    width, height = left + len(cosines) * (side + 0.35) + 0.45, side + 1.15
    figure = style.new_figure(width, height, title, constrained=False)
    for index, (kind, square) in enumerate(cosines.items()):
        x = left + index * (side + 0.35)
        axes = figure.add_axes((x / width, 0.25 / height, side / width, side / height), label=f"{index}")
        shown = axes.imshow(np.nan_to_num(square), cmap="Blues", vmin=low, vmax=1, aspect="auto")
        for row, column in np.ndindex(count, count) if count <= 12 else ():
            value = square[row, column]
            colour = "white" if value > 0.4 * low + 0.6 else style.INK
            axes.text(column, row, f"{value:.2f}"[-5:], size=6, color=colour, ha="center", va="center")
        # The kind may need more than one line.
        axes.set_title(_wrapped(kind, side + 0.25), size=style.SMALL, pad=16)
        axes.xaxis.tick_top()
        axes.set_xticks(range(count), [str(number) for number in range(1, count + 1)])
        axes.set_yticks(range(count), texts if index == 0 else [""] * count)
        axes.tick_params(length=0, pad=3, labelsize=style.SMALL)
        axes.spines[:].set_visible(False)
    x = (width - 0.4) / width
    bar = figure.add_axes((x, 0.25 / height, 0.1 / width, side / height), label="scale")
    figure.colorbar(shown, cax=bar, ticks=(low, 1))
    bar.tick_params(length=0, pad=2, labelsize=style.SMALL)
    return figure


def _wrapped(text: str, inches: float) -> str:
    """Returns a text in two lines at most, each no wider than so many inches."""
    words = text.split(" ")
    for count in range(len(words), 0, -1):
        if style.widest([first := " ".join(words[:count])]) <= inches:
            rest = " ".join(words[count:])
            return f"{first}\n{style.fit(rest, inches)}" if rest else first
    return style.fit(text, inches)
