"""Which classes are taken for which, and how well each one is found."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuralmon.figures import style

_MOST_CLASSES = 200
_MOST_ROWS = 100


def confusion_matrix(
    counts: Sequence[Sequence[int]] | np.ndarray, class_names: Sequence[str] = (), title: str = "Confusion matrix"
) -> Figure:
    """Draws how many examples of each class (a row) were taken for each class (a column).

    The colour is the fraction of the row, on a scale of square roots that shows rare mistakes too. Up to 20 classes
    have their counts written in.

    Args:
      counts: (classes, classes); at most 200 classes.
      class_names: their names; (): their numbers.
      title: what stands above, before the accuracy.
    """
    table = np.asarray(counts)
    size = len(table)
    if table.shape != (size, size) or not 1 <= size <= _MOST_CLASSES:
        raise ValueError(f"a confusion matrix needs 1 to {_MOST_CLASSES} classes, and shape {table.shape} has not")
    names = [style.fit(name, 1.5) for name in class_names or range(size)]
    totals = table.sum(axis=1, keepdims=True)
    fractions = np.where(totals > 0, table / np.maximum(totals, 1), np.nan)
    right, everything = int(np.trace(table)), int(table.sum())
    cell = min(0.5, 7.5 / size) if size > 4 else 0.75
    side = max(cell * size, 2.2)
    upright = style.widest(names) <= side / size - 0.04
    left, below = style.widest(names) + 0.55, (0.2 if upright else style.widest(names)) + 0.45
    figure = style.new_figure(max(side + left + 1.15, 4.6), side + below + 0.8, title)
    axes = figure.subplots()
    palette = colormaps["Blues"].with_extremes(bad=style.PALE)
    drawn = axes.imshow(fractions, cmap=palette, norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    axes.set_title(f"{right:,} of {everything:,} right ({right / max(everything, 1):.2%})", color=style.GREY)
    # So many names that they do not run into each other.
    every = max(1, math.ceil(0.125 * size / side))
    shown = range(0, size, every)
    axes.set_xticks(shown, [names[index] for index in shown], rotation=0 if upright else 90)
    axes.set_yticks(shown, [names[index] for index in shown])
    axes.tick_params(length=0 if every == 1 else 2)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted class" if every == 1 else f"predicted class (1 of {every} is named)")
    axes.set_ylabel("true class")
    if size <= 20:
        texts = {index: f"{int(count):,}" for index, count in np.ndenumerate(table)}
        widest = style.widest(list(texts.values()), style.SMALL)
        font = style.SMALL * min(1.0, (side / size - 0.06) / widest)
        for (row, column), text in texts.items():
            fraction = fractions[row, column]
            colour = "white" if fraction > 0.4 else style.INK if table[row, column] else "#a0a0a0"
            axes.text(column, row, text, ha="center", va="center", size=font, color=colour)
    ticks = [0, 0.01, 0.05, 0.2, 0.5, 1]
    bar = figure.colorbar(drawn, ax=axes, ticks=ticks, shrink=min(0.8, 2.6 / side), aspect=14)
    bar.ax.set_yticklabels([f"{tick:.0%}" for tick in ticks])
    bar.set_label("of the true class", size=style.SMALL)
    bar.outline.set_visible(False)  # type: ignore[operator]
    return figure


def per_class(
    table: Mapping[str, Mapping[str, float]], title: str = "Precision, recall and F1 of each class"
) -> Figure:
    """Draws precision, recall and F1 of each class, the best class first, with the number of its examples.

    Args:
      table: class name -> {"precision": ..., "recall": ..., "f1": ..., "examples": ...}, as in a run's result. Of more
        than 100 classes those with the lowest F1 are drawn.
      title: what stands above.
    """
    if not table:
        raise ValueError("there are no classes to draw")
    ranked = sorted(table.items(), key=lambda item: -item[1]["f1"])
    if len(ranked) > _MOST_ROWS:
        title = f"{title} ({_MOST_ROWS} worst of {len(ranked):,})"
        ranked = ranked[-_MOST_ROWS:]
    names = [style.fit(name, 2.2) for name, _ in ranked]
    marks = {"precision": (">", style.COLOURS[0]), "recall": ("<", style.COLOURS[1]), "f1": ("o", style.INK)}
    values = {name: np.array([row[name] for _, row in ranked], float) for name in marks}
    y = np.arange(len(ranked))
    row = 0.24 if len(ranked) <= 40 else 0.165
    width = 4.6 + style.widest(names)
    figure = style.new_figure(max(width, 5.6), 1.45 + row * len(ranked), title)
    axes = figure.subplots()
    axes.hlines(y, values["precision"], values["recall"], color=style.PALE, linewidth=2.5, zorder=1)
    for name, (marker, colour) in marks.items():
        axes.scatter(values[name], y, s=20 if row > 0.2 else 12, marker=marker, color=colour, linewidth=0, zorder=2)
    smallest = min(float(np.nanmin(value, initial=1.0)) for value in values.values())
    low = max(0.0, math.floor(smallest * 20 - 0.5) / 20) if smallest > 0.5 else 0.0
    axes.set_xlim(low - 0.02 * (1 - low), 1 + 0.02 * (1 - low))
    axes.set_ylim(len(ranked) - 0.4, -0.6)
    axes.set_yticks(y, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="both")
    axes.set_xlabel("fraction")
    counts = axes.twinx()
    counts.set_ylim(axes.get_ylim())
    counts.set_yticks(y, [f"{int(row['examples']):,}" for _, row in ranked])
    counts.tick_params(axis="y", length=0, labelcolor=style.GREY)
    counts.set_ylabel("examples", color=style.GREY)
    for each in (axes, counts):
        each.spines[:].set_visible(False)
    lines = [
        Line2D([], [], linestyle="", marker=marker, color=colour, label="F1" if name == "f1" else name)
        for name, (marker, colour) in marks.items()
    ]
    axes.legend(handles=lines, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2, handletextpad=0.1)
    return figure
