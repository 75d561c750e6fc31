"""The figures of a run: PNG files, drawn by a process of their own so that training never waits.

This room knows arrays, lists and dicts, and nothing of experiments: whoever trains says what to draw.

    with figures.Drawing(workdir / "figures") as drawing:
        drawing.draw("data", inputs=batch, labels=["3", "5 0.7 + 8 0.3"])
        ...  # train
        drawing.draw("learning_curves", rows=workdir / "metrics.jsonl")
        notices = drawing.finish(timeout=60)

`figure(name, **data)` gives the same picture as a matplotlib Figure, for a notebook or a paper.
"""

import importlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from neuralmon.figures.grid import decision_grid
from neuralmon.figures.worker import Drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "Drawing", "decision_grid", "drawable", "figure"]

# The file of this room that draws each figure; it is read, and matplotlib with it, when the first one is drawn.
FIGURES = {
    "attention": "attention",
    "by_length": "lengths",
    "contexts": "contexts",
    "data": "examples",
    "learning_curves": "curves",
    "looking": "looking",
    "confusion_matrix": "classes",
    "per_class": "classes",
    "worst_mistakes": "examples",
    "regression": "regression",
    "first_layer_filters": "filters",
    "forecast": "forecast",
    "decision_regions": "regions",
    "compared_regions": "regions",
    "samples": "samples",
    "comparison": "comparison",
    "trials_by_parameter": "sweeps",
    "parallel_coordinates": "sweeps",
    "trial_curves": "sweeps",
}


def figure(name: str, **data: Any) -> "Figure":
    """Returns a figure by its name; `data` are the arguments of the function of that name.

    Raises:
      KeyError: there is no such figure.
      ValueError: the data cannot be drawn; the message says why.
      ImportError: matplotlib is not installed.
    """
    module = importlib.import_module(f"neuralmon.figures.{FIGURES[name]}")
    from neuralmon.figures import style

    with style.applied():
        return getattr(module, name)(**data)


def drawable(
    inputs: Sequence[int] | None,
    num_classes: int | None = None,
    numeric_target: bool = False,
    kernel: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Returns the names of the figures that make sense for a run, in the order in which one looks at them.

    Args:
      inputs: shape of one example as the model takes it, `()` for a text; None: several inputs, or none.
      num_classes: how many classes the targets have; None: they are no classes.
      numeric_target: whether the target is one number.
      kernel: shape of the first layer's kernel, as Flax has it; None: the first layer has none.
    """
    shape = None if inputs is None else tuple(inputs)
    is_image = shape is not None and len(shape) == 3
    examples = shape is not None and len(shape) <= 3
    convolution = kernel is not None and len(kernel) in (3, 4)
    # A dense layer's columns are pictures only if its inputs are.
    dense = kernel is not None and is_image and len(kernel) == 2 and kernel[0] == math.prod(shape or ())
    possible = {
        "data": examples,
        "learning_curves": True,
        "confusion_matrix": num_classes is not None and 2 <= num_classes <= 200,
        "per_class": num_classes is not None,
        "worst_mistakes": num_classes is not None and examples,
        "regression": numeric_target,
        "first_layer_filters": convolution or dense,
        "decision_regions": shape == (2,) and num_classes is not None and num_classes <= 20,
    }
    return tuple(name for name in FIGURES if possible.get(name))
