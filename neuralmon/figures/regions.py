"""Where a classifier of two inputs draws its borders."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuralmon.figures import style

_MOST_CLASSES = 24
_MOST_POINTS = 1500
# How the examples of a split are marked: the marker, its size, and width and colour of its edge.
_MARKS = {"training": ("o", 15, 0.4, "white"), "validation": ("D", 19, 0.9, style.INK), "test": ("o", 15, 0.4, "white")}


def decision_regions(
    grid: np.ndarray,
    probabilities: np.ndarray,
    inputs: np.ndarray,
    targets: np.ndarray,
    validation_inputs: np.ndarray | None = None,
    validation_targets: np.ndarray | None = None,
    class_names: Sequence[str] = (),
    feature_names: Sequence[str] = (),
    title: str = "Decision regions",
) -> Figure:
    """Draws the class probabilities over the plane, their borders, and the examples on top.

    The colour of a place is the mean of the classes' colours by their probabilities.

    Args:
      grid: (resolution ** 2, 2), as `decision_grid` gives it.
      probabilities: (resolution ** 2, classes) of the model at these points.
      inputs: (examples, 2) of the training data; the first 1,500 are drawn.
      targets: (examples,) their classes, as integers.
      validation_inputs: the same of the validation data; None: none.
      validation_targets: their classes.
      class_names: names of the classes; (): their numbers.
      feature_names: names of the two inputs; (): none.
      title: what stands above.
    """
    classes = probabilities.shape[1]
    names, colours = _classes(class_names, classes)
    figure = style.new_figure(6.0 + style.widest(names), 5.0, title)
    axes = figure.subplots()
    _plane(axes, grid, probabilities, colours)
    sets = {"training": (inputs, targets)}
    if validation_inputs is not None and validation_targets is not None:
        sets["validation"] = validation_inputs, validation_targets
    for name, (points, wanted) in sets.items():
        _points(axes, points, wanted, colours, name)
    _named(axes, feature_names)
    _legend(figure, names, colours, list(sets))
    return figure


def compared_regions(
    grid: np.ndarray,
    probabilities: Mapping[str, np.ndarray],
    inputs: np.ndarray,
    targets: np.ndarray,
    class_names: Sequence[str] = (),
    feature_names: Sequence[str] = (),
    title: str = "Decision regions on the same points",
) -> Figure:
    """Draws the decision regions of several models side by side, with the same examples on top.

    Args:
      grid: as in `decision_regions`.
      probabilities: by what stands above each plane, (resolution ** 2, classes).
      inputs: (examples, 2) of the test data.
      targets: their classes.
      class_names: names of the classes; (): their numbers.
      feature_names: names of the two inputs; (): none.
      title: what stands above all.
    """
    if not probabilities:
        raise ValueError("there are no models whose regions could be compared")
    names, colours = _classes(class_names, next(iter(probabilities.values())).shape[1])
    figure = style.new_figure(0.6 + 3.6 * len(probabilities) + style.widest(names), 3.7, title)
    panels = figure.subplots(1, len(probabilities), sharex=True, sharey=True, squeeze=False)[0]
    for axes, (name, own) in zip(panels, probabilities.items(), strict=True):
        _plane(axes, grid, own, colours)
        _points(axes, inputs, targets, colours, "test")
        axes.set_title(style.fit(name, 3.4, style.NORMAL))
        _named(axes, feature_names)
        axes.label_outer()
    _legend(figure, names, colours, ["test"])
    return figure


def _classes(class_names: Sequence[str], count: int) -> tuple[list[str], list[Any]]:
    """Returns the names of the classes, and a colour for each."""
    if count > _MOST_CLASSES:
        raise ValueError(f"decision regions of {count} classes cannot be told apart (at most {_MOST_CLASSES})")
    return [style.fit(name, 1.5) for name in class_names or range(count)], style.class_colours(count)


def _plane(axes: Axes, grid: np.ndarray, probabilities: np.ndarray, colours: Sequence[Any]) -> None:
    """Draws what a model says of each place, and where its classes meet."""
    resolution = math.isqrt(len(grid))
    classes = probabilities.shape[1]
    if resolution**2 != len(grid) or len(grid) != len(probabilities):
        raise ValueError(f"a grid of {len(grid)} points and {len(probabilities)} predictions make no square")
    plane = np.nan_to_num(probabilities).reshape(resolution, resolution, classes)
    mixed = plane @ np.array([to_rgb(colour) for colour in colours])
    x, y = grid[:resolution, 0], grid[::resolution, 1]
    # Pixels lie around their points.
    dx, dy = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    extent = (x[0] - dx, x[-1] + dx, y[0] - dy, y[-1] + dy)
    axes.imshow(1 - 0.38 * (1 - np.clip(mixed, 0, 1)), extent=extent, origin="lower", aspect="auto")
    winners = np.unique(plane.argmax(axis=-1))
    for index in winners if len(winners) > 1 else ():
        lead = plane[..., index] - np.delete(plane, index, axis=-1).max(axis=-1)
        axes.contour(x, y, lead, levels=[0.0], colors=[style.GREY], linewidths=0.8)
    axes.set_xlim(*extent[:2])
    axes.set_ylim(*extent[2:])


def _points(axes: Axes, points: np.ndarray, targets: np.ndarray, colours: Sequence[Any], split: str) -> None:
    """Draws the first examples of a split in the colours of their classes."""
    marker, size, width, edge = _MARKS[split]
    points, targets = points[:_MOST_POINTS], np.asarray(targets[:_MOST_POINTS], int)
    for index in np.unique(targets):
        x, y = points[targets == index].T
        axes.scatter(x, y, s=size, marker=marker, color=colours[index], ec=edge, lw=width)


def _named(axes: Axes, feature_names: Sequence[str]) -> None:
    labels = [*feature_names, *("input 1", "input 2")[len(feature_names) :]]
    axes.set_xlabel(style.fit(labels[0], 4.5, style.NORMAL))
    axes.set_ylabel(style.fit(labels[1], 4.0, style.NORMAL))


def _legend(figure: Figure, names: Sequence[str], colours: Sequence[Any], splits: Sequence[str]) -> None:
    handles = [
        Line2D([], [], linestyle="", marker="s", markersize=7, color=colour, label=name)
        for name, colour in zip(names, colours, strict=True)
    ] + [
        Line2D([], [], linestyle="", marker=_MARKS[split][0], color=style.INK, mfc="white", markersize=5, label=split)
        for split in splits
    ]
    figure.legend(handles=handles, loc="outside right upper")
