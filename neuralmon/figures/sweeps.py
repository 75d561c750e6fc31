"""The trials of a sweep: what each parameter does to the metric, which go together, and how all of them learnt.

Trials are rows `{"values": {"optimizer.learning_rate": 1e-3, "training.seed": 0}, "objective": 0.97, "curve":
[(step, value), ...]}`; the objective of one that failed is None.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from neuralmon.figures import style
from neuralmon.figures.comparison import mean_curve
from neuralmon.figures.curves import is_better_low, logarithmic, thinned

_MOST_PANELS, _MOST_NAMED, _BEST = 12, 12, 5
_SEED = "training.seed"


def trials_by_parameter(
    rows: Sequence[Mapping[str, Any]], metric: str, direction: str = "max", title: str = "What each parameter does"
) -> Figure:
    """Draws the metric against each parameter: a point per trial, a line through the medians of equal values.

    Args:
      rows: the trials, see above.
      metric: what the objective is called.
      direction: "max" or "min", which way it is better.
      title: what stands above.
    """
    parameters, scores = _compared(rows)
    across = min(len(parameters), 3)
    down = math.ceil(len(parameters) / across)
    figure = style.new_figure(max(3.4 * across, 4.6), 0.75 + 2.9 * down, title)
    panels = list(figure.subplots(down, across, squeeze=False, sharey=True).flat)
    best = int(scores.argmax() if direction == "max" else scores.argmin())
    shown = _shown_range(scores, direction)
    for (name, values), axes in zip(parameters.items(), panels, strict=False):
        x, positions = _placed(axes, values, 3.0)
        inside = (scores >= shown[0]) & (scores <= shown[1])
        axes.plot(x[inside], scores[inside], "o", color=style.TRAIN, alpha=0.45, markersize=4, mew=0)
        edge = shown[0] if direction == "max" else shown[1]
        if not inside.all():
            marker = "v" if direction == "max" else "^"
            off = {"color": style.GREY, "markersize": 4, "mew": 0, "clip_on": False}
            axes.plot(x[~inside], np.full((~inside).sum(), edge), marker, **off)
        if len(positions) <= 30 and len(x) > len(positions):
            medians = [np.median(scores[x == position]) for position in positions]
            axes.plot(positions, medians, color=style.TRAIN, linewidth=1.4)
        axes.plot(x[best], scores[best], "o", markersize=9, mfc="none", mec=style.VALIDATION, mew=1.4)
        axes.set_title(style.fit(name, 3.2, style.NORMAL))
        axes.set_ylim(*_padded(shown))
        axes.grid(visible=True, axis="y")
    for axes in panels[::across]:
        axes.set_ylabel(style.fit(metric.replace("_", " "), 1.6, style.NORMAL))
    for axes in panels[len(parameters) :]:
        axes.set_visible(False)
    note = f"circle: the best trial, {style.number(scores[best])}"
    if hidden := int(((scores < shown[0]) | (scores > shown[1])).sum()):
        note += f"; triangles: {hidden:,} of {len(scores):,} trials beyond the edge"
    figure.supxlabel(note, size=style.SMALL, color=style.GREY, x=0.99, ha="right")
    return figure


def parallel_coordinates(
    rows: Sequence[Mapping[str, Any]], metric: str, direction: str = "max", title: str = "Which values go together"
) -> Figure:
    """Draws a line per trial through its values and its metric, the better the warmer; the best one is bold.

    Args:
      rows: the trials, see above.
      metric: what the objective is called.
      direction: "max" or "min", which way it is better.
      title: what stands above.
    """
    parameters, scores = _compared(rows)
    low, high = _shown_range(scores, direction)
    columns = parameters | {metric: list(np.clip(scores, low, high))}
    figure = style.new_figure(max(1.75 * len(columns) + 0.6, 5.0), 4.2, title, constrained=False)
    axes = figure.add_axes((0.06, 0.06, 0.88, 0.74))
    heights = np.empty((len(scores), len(columns)))
    for place, (name, values) in enumerate(columns.items()):
        heights[:, place] = _column(axes, place, values)
        axes.annotate(
            style.fit(name, 1.65), (place, 1), (0, 16), textcoords="offset points", ha="center", size=style.SMALL
        )
    # Lines through the same values would hide each other.
    heights[:, :-1] += np.linspace(-0.02, 0.02, len(scores))[:, None]
    order = np.argsort(scores if direction == "max" else -scores, kind="stable")  # the best on top
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, len(scores)))
    for rank, row in enumerate(order):
        last = rank == len(order) - 1
        style_of = {"color": style.VALIDATION, "linewidth": 2.4} if last else {"color": colours[rank], "linewidth": 0.9}
        axes.plot(range(len(columns)), heights[row], alpha=1.0 if last else 0.55, **style_of)
    axes.set_xlim(-0.25, len(columns) - 0.5)
    axes.set_ylim(-0.04, 1.04)
    style.bare(axes)
    return figure


def trial_curves(
    rows: Sequence[Mapping[str, Any]], metric: str, direction: str = "max", title: str = "How the trials learnt"
) -> Figure:
    """Draws the learning curves of all configurations: the mean of its seeds, and as a band what lies between them.

    The best ones are coloured and named.

    Args:
      rows: the trials, see above.
      metric: what the curves show.
      direction: "max" or "min", which way it is better.
      title: what stands above.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if len(row["curve"]):
            values = {name: value for name, value in row["values"].items() if name != _SEED}
            groups.setdefault(", ".join(f"{_short(name)} {_text(value)}" for name, value in values.items()), []).append(
                row
            )
    if not groups:
        raise ValueError("no trial has a curve")
    sign = 1 if direction == "max" else -1

    def quality(group: Sequence[Mapping[str, Any]]) -> float:
        scores = [sign * row["objective"] for row in group if row["objective"] is not None]
        return float(np.mean(scores)) if len(scores) == len(group) else -math.inf

    ranked = sorted(groups.items(), key=lambda group: -quality(group[1]))
    figure = style.new_figure(9.6, 4.4, title)
    axes = figure.subplots()
    trends = []
    for rank, (name, group) in enumerate(ranked):
        curves = [tuple(np.array(row["curve"], float).T) for row in group]
        steps, mean = mean_curve(curves)  # type: ignore[arg-type]
        trends.append(mean[np.isfinite(mean)])
        if rank < _BEST:
            colour, count = style.COLOURS[rank], f" ({len(group)} seeds)" if len(group) > 1 else ""
            label = _wrapped(f"{name or 'all alike'}{count}", 3.0)
            marker = "o" if len(steps) <= 20 else ""
            axes.plot(
                *thinned(steps, mean), color=colour, linewidth=1.8, label=label, zorder=9 - rank, marker=marker, ms=3
            )
            if len(group) > 1:
                inner = np.array([values[np.searchsorted(own, steps)] for own, values in curves])
                axes.fill_between(steps, inner.min(axis=0), inner.max(axis=0), color=colour, alpha=0.18, linewidth=0)
        else:
            axes.plot(*thinned(steps, mean), color=style.GREY, linewidth=0.7, alpha=0.4, zorder=1)
    if len(ranked) > _BEST:
        axes.plot([], [], color=style.GREY, linewidth=0.7, alpha=0.6, label=f"{len(ranked) - _BEST:,} others")
    if is_better_low(metric):
        logarithmic(axes, np.concatenate(trends))
    else:
        axes.set_ylim(*_padded(_shown_range(np.concatenate(trends), direction)))
    style.step_axis(axes)
    axes.set_ylabel(style.fit(metric.replace("_", " "), 3, style.NORMAL))
    axes.grid(visible=True, axis="y")
    figure.legend(loc="outside right upper")
    return figure


def _compared(rows: Sequence[Mapping[str, Any]]) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Returns, of trials with an objective, the parameters that differ, the seed last, and the objectives.

    Raises:
      ValueError: there is nothing to compare.
    """
    rows = [row for row in rows if row["objective"] is not None and math.isfinite(row["objective"])]
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    columns = {name: [row["values"].get(name) for row in rows] for name in names}
    different = [name for name, values in columns.items() if len({_text(value) for value in values}) > 1]
    if not different:
        raise ValueError("no parameter has different values in the trials that came to an end")
    shown = sorted(different, key=lambda name: name == _SEED)[:_MOST_PANELS]
    return {name: columns[name] for name in shown}, np.array([row["objective"] for row in rows], float)


def _shown_range(scores: np.ndarray, direction: str) -> tuple[float, float]:
    """Returns the range to show: all scores, unless a few bad ones would press all others together."""
    low, high = float(scores.min()), float(scores.max())
    spread = 5 * abs(float(np.median(scores)) - (high if direction == "max" else low))
    if not spread:
        return low, high
    if direction == "max":
        return float(scores[scores >= high - spread].min()), high
    return low, float(scores[scores <= low + spread].max())


def _padded(shown: tuple[float, float]) -> tuple[float, float]:
    margin = 0.05 * (shown[1] - shown[0]) or 0.05 * abs(shown[0]) or 0.05
    return shown[0] - margin, shown[1] + margin


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _is_logarithmic(values: np.ndarray) -> bool:
    return bool(values.min() > 0 and values.max() >= 30 * values.min())


def _placed(axes: Axes, values: Sequence[Any], width: float) -> tuple[np.ndarray, np.ndarray]:
    """Prepares the horizontal axis; returns where each value lies, and the different places."""
    if all(map(_is_number, values)):
        x = np.array(values, float)
        places = np.unique(x)
        if _is_logarithmic(x):
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(numticks=5))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if len(places) <= 5:
            axes.xaxis.set_major_locator(FixedLocator(list(places)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
        return x, places
    texts = list(dict.fromkeys(map(_text, values)))
    x = np.array([texts.index(_text(value)) for value in values], float)
    shown = range(0, len(texts), math.ceil(len(texts) / _MOST_NAMED))
    room = width / len(shown)
    steep = style.widest([texts[index] for index in shown]) > 0.95 * room
    labels = [style.fit(texts[index], 0.9 if steep else room) for index in shown]
    axes.set_xticks(list(shown), labels, rotation=90 if steep else 0)
    axes.set_xlim(-0.5, len(texts) - 0.5)
    return x, np.unique(x)


def _column(axes: Axes, place: int, values: Sequence[Any]) -> np.ndarray:
    """Draws one of the parallel axes with its labels; returns the height of each value."""
    if all(map(_is_number, values)):
        raw = np.array(values, float)
        scaled = np.log(raw) if _is_logarithmic(raw) else raw
        span = float(np.ptp(scaled)) or 1.0
        heights = (scaled - scaled.min()) / span
        different = np.unique(raw)
        marks = different if len(different) <= 8 else different[[0, -1]]
        labelled = {float(heights[list(raw).index(value)]): f"{value:.4g}" for value in marks}
    else:
        texts = list(dict.fromkeys(map(_text, values)))
        heights = np.array([texts.index(_text(value)) for value in values], float) / max(len(texts) - 1, 1)
        labelled = {index / max(len(texts) - 1, 1): text for index, text in enumerate(texts[:_MOST_NAMED])}
    axes.axvline(place, color=style.GREY, linewidth=0.8, zorder=5)
    box = {"facecolor": "white", "alpha": 0.75, "linewidth": 0, "pad": 0.6}
    for height, text in labelled.items():
        at = {"textcoords": "offset points", "size": style.SMALL, "va": "center", "zorder": 6, "bbox": box}
        axes.annotate(style.fit(text, 1.2), (place, height), (4, 0), **at)  # type: ignore[arg-type]
    return heights


def _wrapped(text: str, inches: float) -> str:
    """Returns a text in lines of a width, cut between its values."""
    lines = [""]
    for part in text.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        lines = [*lines[:-1], longer] if style.widest([longer]) <= inches else [*lines, part]
    return "\n".join(style.fit(line, inches) for line in lines if line)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
