"""Several runs in one figure: which learns what, how fast."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style
from neuralmon.figures.curves import columns_of, is_better_low, logarithmic, thinned


def comparison(
    runs: Sequence[Mapping[str, Any]], metric: str = "loss", split: str = "validation", title: str = ""
) -> Figure:
    """Draws one metric of several runs by step. Runs of the same label, such as other seeds, have one bold mean.

    Args:
      runs: {"label": "LSTM", "rows": [{"step": 430, "split": "validation", "loss": 0.05}, ...]}, as in metrics.jsonl.
      metric: the metric.
      split: of which split.
      title: what stands above; "": metric and split.
    """
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        history = columns_of(run["rows"]).get(split, {})
        if metric not in history:
            known = ", ".join(sorted(history)) or "nothing"
            raise ValueError(f"run {run['label']!r} has no {metric!r} of {split!r}; it has {known}")
        curves.setdefault(str(run["label"]), []).append(history[metric])
    if not curves:
        raise ValueError("there are no runs to compare")
    figure = style.new_figure(7.2, 4.2, title or f"{metric.replace('_', ' ')} ({split})")
    axes = figure.subplots()
    trends = []
    for (label, group), colour in zip(curves.items(), style.class_colours(len(curves)), strict=True):
        steps, mean = mean_curve(group)
        trends.append(mean[np.isfinite(mean)])
        best = np.nanmin(mean) if is_better_low(metric) else np.nanmax(mean)
        count = f", {len(group)} runs" if len(group) > 1 else ""
        name = style.fit(f"{label} (best {style.number(float(best))}{count})", 3.2)
        axes.plot(*thinned(steps, mean), color=colour, linewidth=1.9, label=name, zorder=3)
        for each in group if len(group) > 1 else ():
            axes.plot(*thinned(*each), color=colour, linewidth=0.7, alpha=0.4, zorder=2)
    if is_better_low(metric):
        logarithmic(axes, np.concatenate(trends))
    style.step_axis(axes)
    axes.set_ylabel(style.fit(metric.replace("_", " "), 3, style.NORMAL))
    axes.grid(visible=True, axis="y")
    axes.legend(loc="best")
    return figure


def mean_curve(group: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the mean of curves (steps, values) at the steps at which each of them has a value."""
    steps = group[0][0]
    for other, _ in group[1:]:
        steps = np.intersect1d(steps, other)
    if not steps.size:
        raise ValueError("runs of one label have no step in common: give them labels of their own")
    return steps, np.mean([values[np.searchsorted(own, steps)] for own, values in group], axis=0)
