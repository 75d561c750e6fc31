"""What each place of a sequence attends to."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style

_CELL = 0.125  # inches
_WIDEST = 14.6  # inches of the whole figure
_LABEL = 0.7  # inches a label is shortened to
_SHOWN = {" ": "␣", "\n": "↵", "\t": "→", "": "∅"}


def attention(
    weights: np.ndarray,
    queries: Sequence[str],
    keys: Sequence[str],
    panels: Sequence[str] = (),
    columns: int = 4,
    title: str = "Attention: each row is a place, and where it looks",
) -> Figure:
    """Draws the attention weights of some heads, a panel each, all on one scale from 0 to 1.

    Args:
      weights: (heads, queries, keys), each row a distribution over the keys.
      queries: the token of each row.
      keys: the token of each column.
      panels: what stands above each head; () numbers them.
      columns: heads side by side.
      title: what stands above.
    """
    weights = np.asarray(weights, np.float32)
    if weights.ndim != 3 or weights.shape[1:] != (len(queries), len(keys)):
        what = f"{len(queries)} queries and {len(keys)} keys"
        raise ValueError(f"attention weights of shape {weights.shape} are not (heads, queries, keys) of {what}")
    names = list(panels) or [f"head {index + 1}" for index in range(len(weights))]
    rows_text, columns_text = ([style.fit(visible(label), _LABEL) for label in labels] for labels in (queries, keys))
    columns = min(columns, len(weights))
    rows = math.ceil(len(weights) / columns)
    side, top = style.widest(rows_text) + 0.12, style.widest(columns_text) + 0.3
    upright = all(len(label) <= 1 for label in columns_text)
    top = 0.42 if upright else top
    room = (_WIDEST / columns - side - 0.12) / len(keys)
    width, height = max(len(keys) * min(_CELL, room), 1.2), max(len(queries) * min(_CELL, 9 / len(queries)), 1.2)
    total = columns * (side + width + 0.12) + 0.1, rows * (top + height + 0.15) + 0.4
    figure = style.new_figure(max(total[0], 4.4), total[1], title, constrained=False)
    inches = max(total[0], 4.4), total[1]
    for index, (head, name) in enumerate(zip(weights, names, strict=True)):
        row, column = divmod(index, columns)
        x = 0.1 + column * (side + width + 0.12) + side
        y = inches[1] - 0.4 - row * (top + height + 0.15) - top - height
        axes = figure.add_axes((x / inches[0], y / inches[1], width / inches[0], height / inches[1]), label=f"{index}")
        axes.imshow(np.nan_to_num(head), cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axes.set_title(name, pad=16 if upright else top * 72 - 16)
        axes.xaxis.tick_top()
        # Narrower than a letter, labels would hide each other.
        shown = slice(None, None, math.ceil(0.1 / room))
        axes.set_xticks(range(len(keys))[shown], columns_text[shown], rotation=0 if upright else 90)
        axes.set_yticks(range(len(queries)), rows_text)
        axes.tick_params(length=0, pad=2, labelsize=style.SMALL)
        axes.spines[:].set(visible=True, color=style.PALE)
    return figure


def visible(token: str) -> str:
    """Returns a token as it can be seen: white space by signs."""
    return _SHOWN.get(token) or "".join(_SHOWN.get(sign, sign) if sign.isspace() else sign for sign in token)
