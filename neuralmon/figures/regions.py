"""Where a classifier of two inputs draws its borders."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neuralmon.figures import style

_MOST_CLASSES = 24
_MOST_POINTS = 1500


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
    resolution = math.isqrt(len(grid))
    classes = probabilities.shape[1]
    if resolution**2 != len(grid) or len(grid) != len(probabilities):
        raise ValueError(f"a grid of {len(grid)} points and {len(probabilities)} predictions make no square")
    if classes > _MOST_CLASSES:
        raise ValueError(f"decision regions of {classes} classes cannot be told apart (at most {_MOST_CLASSES})")
    names = [style.fit(name, 1.5) for name in class_names or range(classes)]
    colours = style.class_colours(classes)
    plane = np.nan_to_num(probabilities).reshape(resolution, resolution, classes)
    mixed = plane @ np.array([to_rgb(colour) for colour in colours])
    x, y = grid[:resolution, 0], grid[::resolution, 1]
    # Pixels lie around their points.
    dx, dy = (x[1] - x[0]) / 2, (y[1] - y[0]) / 2
    figure = style.new_figure(6.0 + style.widest(names), 5.0, title)
    axes = figure.subplots()
    extent = (x[0] - dx, x[-1] + dx, y[0] - dy, y[-1] + dy)
    axes.imshow(1 - 0.38 * (1 - np.clip(mixed, 0, 1)), extent=extent, origin="lower", aspect="auto")
    winners = np.unique(plane.argmax(axis=-1))
    for index in winners if len(winners) > 1 else ():
        lead = plane[..., index] - np.delete(plane, index, axis=-1).max(axis=-1)
        axes.contour(x, y, lead, levels=[0.0], colors=[style.GREY], linewidths=0.8)
    sets = [("training", inputs, targets, "o", 15, 0.4)]
    if validation_inputs is not None and validation_targets is not None:
        sets.append(("validation", validation_inputs, validation_targets, "D", 19, 0.9))
    for _, points, wanted, marker, size, edge in sets:
        points, wanted = points[:_MOST_POINTS], np.asarray(wanted[:_MOST_POINTS], int)
        edge_colour = "white" if marker == "o" else style.INK
        for index in np.unique(wanted):
            chosen = points[wanted == index]
            axes.scatter(
                chosen[:, 0], chosen[:, 1], s=size, marker=marker, color=colours[index], ec=edge_colour, lw=edge
            )
    axes.set_xlim(*extent[:2])
    axes.set_ylim(*extent[2:])
    labels = [*feature_names, *("input 1", "input 2")[len(feature_names) :]]
    axes.set_xlabel(style.fit(labels[0], 4.5, style.NORMAL))
    axes.set_ylabel(style.fit(labels[1], 4.0, style.NORMAL))
    handles = [
        Line2D([], [], linestyle="", marker="s", markersize=7, color=colour, label=name)
        for name, colour in zip(names, colours, strict=True)
    ] + [
        Line2D([], [], linestyle="", marker=marker, color=style.INK, mfc="white", markersize=5, label=name)
        for name, _, _, marker, _, _ in sets
    ]
    figure.legend(handles=handles, loc="outside right upper")
    return figure
