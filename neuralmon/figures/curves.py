"""How training went: the metrics and the learning rate by step."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from neuralmon.figures import style

_MOST_PANELS = 8
_LOWER_IS_BETTER = ("loss", "error", "mse", "mae", "rmse", "perplexity", "bits", "nll")


def learning_curves(
    rows: Sequence[Mapping[str, Any]],
    learning_rate: np.ndarray | None = None,
    monitor: Sequence[str] | None = None,
    title: str = "Learning curves",
) -> Figure:
    """Draws the loss, every other number that all splits have, and the learning rate, each in a panel by step.

    Training metrics are pale, their running mean is bold. The best value of validation is marked.

    Args:
      rows: `{"step": 430, "split": "train", "loss": 0.05, ...}`, as in metrics.jsonl; tables in them are passed over.
      learning_rate: (points, 2), the steps and the learning rate there; None: it is not drawn.
      monitor: a metric's name and "max" or "min", which way is better; of other metrics their name says it.
      title: what stands above.
    """
    history = columns_of(rows)
    names = _shown(history)
    if not names and learning_rate is None:
        raise ValueError("there are no metrics to draw")
    panels = len(names) + (learning_rate is not None)
    across = min(panels, 3)
    down = math.ceil(panels / across)
    figure = style.new_figure(max(3.9 * across, 5.2), 0.55 + 2.75 * down, title)
    all_axes = list(figure.subplots(down, across, squeeze=False).flat)
    splits = [split for split in ("train", "validation") if any(name in history.get(split, {}) for name in names)]
    splits = splits or sorted(history)
    colours = dict(zip(splits, style.COLOURS, strict=False)) | {"train": style.TRAIN, "validation": style.VALIDATION}
    for name, axes in zip(names, all_axes, strict=False):
        better = monitor[1] if monitor is not None and monitor[0] == name else "min" if is_better_low(name) else "max"
        curves = {split: history[split][name] for split in splits if name in history[split]}
        _panel(axes, name, curves, colours, better)
    if learning_rate is not None:
        _learning_rate(all_axes[len(names)], np.asarray(learning_rate, float).reshape(-1, 2))
    for axes in all_axes[panels:]:
        axes.set_visible(False)
    lines = [Line2D([], [], color=colours[split], linewidth=2, label=split) for split in splits]
    if lines:
        figure.legend(handles=lines, loc="upper right", ncols=len(lines), fontsize=style.NORMAL)
    return figure


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Returns split -> metric -> (steps, values), in order of the steps; what is no number is NaN."""
    lists: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for row in rows:
        metrics = lists.setdefault(str(row.get("split", "train")), {})
        for name, value in row.items():
            number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
            if name in ("step", "split") or not (number or value is None):
                continue
            steps, values = metrics.setdefault(name, ([], []))
            steps.append(float(row["step"]))
            values.append(float("nan") if value is None else float(value))
    history: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for split, metrics in lists.items():
        for name, (steps, values) in metrics.items():
            order = np.argsort(steps, kind="stable")
            history.setdefault(split, {})[name] = np.asarray(steps)[order], np.asarray(values)[order]
    return history


def _shown(history: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns the metrics that training and validation share, or all if they share none; the loss comes first."""
    shared = [set(history[split]) for split in ("train", "validation") if split in history]
    common = set.intersection(*shared) if shared else set()
    names = [name for metrics in history.values() for name in metrics if not common or name in common]
    return sorted(dict.fromkeys(names), key=lambda name: name != "loss")[:_MOST_PANELS]


def is_better_low(name: str) -> bool:
    """Returns whether a metric of this name is better the lower it is."""
    return any(word in name.lower() for word in _LOWER_IS_BETTER)


def _panel(
    axes: Axes, name: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], colours: Mapping[str, str], better: str
) -> None:
    notes: list[str] = []
    trends: list[np.ndarray] = []
    for split, (steps, values) in curves.items():
        finite = np.isfinite(values)
        line: dict[str, Any] = {"color": colours[split], "zorder": 3 if split == "validation" else 2}
        trend = values
        if split != "validation" and len(values) >= 20:
            trend = running_mean(values, len(values) // 25)
            every = max(len(steps) // 1000, 1)
            chosen = np.unique(np.append(np.arange(0, len(steps), every), len(steps) - 1))
            axes.plot(*thinned(steps, values), **line, alpha=0.28, linewidth=0.7)
            axes.plot(steps[chosen], trend[chosen], **line, linewidth=1.9)
        else:
            marker = "o" if len(values) <= 40 else ""
            axes.plot(*thinned(steps, values), **line, linewidth=1.6, marker=marker, markersize=3)
        trends.append(trend[np.isfinite(trend)])
        if split == "validation" and finite.any():
            best = int(np.nanargmin(values) if better == "min" else np.nanargmax(values))
            axes.plot(steps[best], values[best], "o", markersize=8, mfc="none", mec=style.INK, mew=1.2, zorder=4)
            notes.insert(0, f"best validation: {values[best]:.4g} at step {steps[best]:,.0f}")
        if missing := int((~finite).sum()):
            notes.append(f"{missing:,} of {len(values):,} {split} values are not finite")
    if better == "min":
        logarithmic(axes, np.concatenate(trends))
    if not any(len(trend) for trend in trends):
        axes.set_yticks([])
    axes.set_title(style.fit(name.replace("_", " "), 3.3, style.NORMAL), pad=5 + 11 * len(notes))
    text, above = "\n".join(style.fit(note, 3.3) for note in notes), {"textcoords": "offset points"}
    axes.annotate(text, (0, 1), (0, 4), "axes fraction", **above, size=style.SMALL, color=style.GREY, va="bottom")  # type: ignore[arg-type]
    _finish(axes)


def logarithmic(axes: Axes, trend: np.ndarray) -> None:
    """Makes the vertical axis logarithmic if the curves fall so far that a linear one hides the end."""
    if not trend.size or trend.min() <= 0 or trend.max() < 20 * trend.min():
        return
    axes.set_yscale("log")
    # Single batches may be far below the mean.
    axes.set_ylim(bottom=max(axes.get_ylim()[0], trend.min() / 4))
    decades = math.log10(trend.max() / trend.min())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 3 else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _learning_rate(axes: Axes, points: np.ndarray) -> None:
    steps, values = points.T
    axes.plot(steps, values, color=style.INK, linewidth=1.4, marker="o" if len(steps) == 1 else "", markersize=4)
    axes.set_title("learning rate")
    if np.nanmin(values, initial=0.0) >= 0:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _finish(axes)


def _finish(axes: Axes) -> None:
    style.step_axis(axes)
    axes.grid(visible=True, axis="y")


def thinned(steps: np.ndarray, values: np.ndarray, points: int = 800) -> tuple[np.ndarray, np.ndarray]:
    """Returns the curve with the least and the greatest value of each of `points` stretches, if it has many more."""
    if len(steps) <= 2 * points:
        return steps, values
    starts = np.linspace(0, len(steps), points, endpoint=False).astype(int)
    extremes = np.stack([np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts)], axis=1)
    return np.repeat(steps[starts], 2), extremes.ravel()


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Returns the mean of the finite values around each; towards both ends the window narrows, to lag nowhere."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(values))
    # A quarter of the window remains at the very ends, where a single value would be no mean.
    half = np.clip(np.minimum(index, len(values) - 1 - index), window // 4, window // 2)
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    count = counts[high] - counts[low]
    return np.where(count > 0, (sums[high] - sums[low]) / np.maximum(count, 1), np.nan)
