"""A series, and how it was thought to go on."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neuralmon.figures import style

_PATHS = 6  # forecasts over the horizon that are drawn in full


def forecast(
    actual: np.ndarray,
    forecasts: Mapping[str, Sequence[Sequence[float]]],
    rmse: Mapping[str, Sequence[float]],
    context: np.ndarray | None = None,
    title: str = "Forecasts of test data",
) -> Figure:
    """Draws the series with each step's forecast, and the error by the number of steps ahead.

    Args:
      actual: (steps,) the true numbers, in the data's own units.
      forecasts: by name, the model's first: (starts, horizon), where row n begins at step n.
      rmse: by the same names (horizon,).
      context: the steps before the first, or None.
      title: what stands above.
    """
    paths = {name: np.asarray(rows, float) for name, rows in forecasts.items()}
    actual = np.asarray(actual, float).reshape(-1)
    before = np.asarray([] if context is None else context, float).reshape(-1)[-len(actual) :]
    starts, horizon = next(iter(paths.values())).shape
    colours = dict(zip(paths, (style.VALIDATION, *style.COLOURS[2:]), strict=False))
    figure = style.new_figure(10.4 if horizon > 1 else 8.4, 3.9, title)
    grid = figure.add_gridspec(1, 2, width_ratios=(2.4, 1)) if horizon > 1 else figure.add_gridspec(1, 1)
    left = figure.add_subplot(grid[0])
    whole = np.concatenate([before, actual])
    left.plot(np.arange(len(whole)) - len(before), whole, color=style.INK, linewidth=1.3, label="true", zorder=2)
    name, rows = next(iter(paths.items()))
    left.plot(np.arange(starts), rows[:, 0], color=colours[name], linewidth=1.5, label=f"{name}, one step ahead")
    if horizon > 1:
        for index, start in enumerate(np.unique(np.linspace(0, starts - 1, min(_PATHS, starts)).astype(int))):
            label = f"{name}, {horizon} steps ahead" if index == 0 else None
            line = {"linestyle": "--", "linewidth": 1.1, "marker": "o", "markersize": 2.5}
            left.plot(start + np.arange(horizon), rows[start], color=style.TRAIN, label=label, **line)  # type: ignore[arg-type]
    left.axvline(-0.5, color=style.GREY, linewidth=0.8, linestyle=":")
    left.set_xlabel("step; 0 is the first to be forecast")
    left.set_title("; ".join(f"{key} RMSE {style.number(values[0])}" for key, values in rmse.items()), color=style.GREY)
    left.legend(loc="best")
    left.grid(visible=True, axis="y")
    if horizon > 1:
        right = figure.add_subplot(grid[1])
        for key, values in rmse.items():
            right.plot(np.arange(1, horizon + 1), values, color=colours[key], marker="o", markersize=3, label=key)
        right.set_ylim(bottom=0)
        right.set_title("RMSE by steps ahead", color=style.GREY)
        right.set_xlabel("steps ahead")
        right.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        right.legend(loc="best")
        right.grid(visible=True, axis="y")
    return figure
