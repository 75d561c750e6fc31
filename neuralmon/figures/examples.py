"""Examples as one sees them: a batch of the training data, and the worst mistakes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import panels, style
from neuralmon.figures.panels import Caption
from neuralmon.figures.tables import heat_table, text_table

_MOST = 32

Inputs = np.ndarray | Sequence[str]


def data(
    inputs: Inputs,
    labels: Sequence[str] | np.ndarray,
    class_names: Sequence[str] = (),
    feature_names: Sequence[str] = (),
    value_range: Any = None,
    title: str = "The first training batch, as the model sees it",
) -> Figure:
    """Draws examples with their labels: pictures, curves, a table, texts, or a scatter plot of pairs of numbers.

    Args:
      inputs: (examples, height, width, channels), (examples, time, features), (examples, features), or texts. Of all
        but pairs of numbers the first 32 are drawn.
      labels: what each example is: texts, such as "3" or "3 0.7 + 5 0.3", or numbers.
      class_names: the order of the classes, for colours that agree with other figures; (): that of the labels.
      feature_names: names of the features; (): none.
      value_range: what is black and what is white of images, each a number or one for each channel; None: 0 to 255 of
        integers, 0 to 1 of floats within it, else the least and the greatest value.
      title: what stands above.
    """
    kind = _kind(inputs, feature_names)
    if kind == "points":
        return _scatter(np.asarray(inputs), labels, class_names, feature_names, title)
    captions = [_caption(label) for label in list(labels)[:_MOST]]
    colours = [style.INK] * len(captions)
    return _draw(kind, inputs, captions, colours, feature_names, value_range, title)


def worst_mistakes(
    inputs: Inputs,
    true: Sequence[str],
    predicted: Sequence[str],
    probabilities: Sequence[float],
    losses: Sequence[float],
    feature_names: Sequence[str] = (),
    value_range: Any = None,
    title: str = "Validation examples with the highest loss",
) -> Figure:
    """Draws examples from the highest loss down, with what they are, what they were taken for, and how surely.

    Args:
      inputs: as in `data`; the 32 with the highest loss are drawn.
      true: what each example is.
      predicted: what the model takes it for.
      probabilities: the probability it gives that prediction.
      losses: the loss of each example.
      feature_names: names of the features; (): none.
      value_range: as in `data`.
      title: what stands above.
    """
    # NaN is the worst of all.
    order = np.argsort(-np.nan_to_num(np.asarray(losses, float), nan=np.inf), kind="stable")[:_MOST]
    chosen = [inputs[i] for i in order] if isinstance(inputs, Sequence) else np.asarray(inputs)[order]
    captions = [[(true[i], ""), (f"→ {predicted[i]}", f" ({probabilities[i]:.2f})")] for i in order]
    # Few mistakes leave room for examples that were right, but barely.
    colours = [style.INK if true[i] == predicted[i] else style.VALIDATION for i in order]
    kind = _kind(chosen, feature_names)
    kind = "table" if kind == "points" else kind
    note = "true → predicted (probability of the prediction); mistakes in orange"
    return _draw(kind, chosen, captions, colours, feature_names, value_range, title, note)


def _caption(label: Any) -> Caption:
    """Returns the caption of "3", of "3 0.7 + 5 0.3", of a number, or of several numbers."""
    if not isinstance(label, str):
        return [(", ".join(style.number(value) for value in np.ravel(label)), "")]
    first, plus, second = label.partition(" + ")
    if not plus:
        return [(label, "")]
    parts = [part.rpartition(" ") for part in (first, f"+ {second}")]
    return [(name, f" {weight}") for name, _, weight in parts]


def _kind(inputs: Inputs, feature_names: Sequence[str]) -> str:
    if not isinstance(inputs, np.ndarray):
        return "texts"
    shape = inputs.shape[1:]
    if len(shape) == 3:
        return "images"
    if len(shape) == 2:
        return "series" if shape[1] <= 8 else "images"
    if len(shape) == 1:
        if shape[0] in (1, 2):
            return "points"
        return "table" if shape[0] <= 30 or feature_names else "series"
    raise ValueError(f"examples of shape {shape} cannot be drawn; at most 3 axes can")


def _draw(
    kind: str,
    inputs: Inputs,
    captions: list[Caption],
    colours: list[str],
    feature_names: Sequence[str],
    value_range: Any,
    title: str,
    note: str = "",
) -> Figure:
    if not captions:
        raise ValueError("there are no examples to draw")
    inputs = inputs[: len(captions)]
    if kind == "images":
        return panels.picture_panels(_displayable(np.asarray(inputs), value_range), captions, colours, title, note)
    if kind == "series":
        return panels.curve_panels(np.asarray(inputs, float), captions, colours, title, note)
    rows = [panels.caption_row(caption, 2.8) for caption in captions]
    if kind == "texts":
        return text_table([str(text) for text in inputs], rows, colours, title, note)
    return heat_table(np.asarray(inputs, float), rows, colours, feature_names, title, note)


def _displayable(images: np.ndarray, value_range: Any) -> np.ndarray:
    """Returns (examples, height, width) of grey or (examples, height, width, 3 or 4), all within 0 and 1."""
    values = images.astype(np.float32)
    finite = values[np.isfinite(values)]
    if value_range is None and images.dtype.kind in "iu":
        value_range = 0, 255
    elif value_range is None:
        within = not finite.size or (finite.min() >= 0 and finite.max() <= 1)
        value_range = (0, 1) if within else (finite.min(), finite.max())
    low, high = (np.asarray(bound, np.float32) for bound in value_range)
    shown = np.clip(np.nan_to_num((values - low) / np.maximum(high - low, 1e-12)), 0, 1)
    return shown.mean(axis=-1) if shown.ndim == 4 and shown.shape[-1] not in (3, 4) else shown


def _scatter(
    points: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    class_names: Sequence[str],
    feature_names: Sequence[str],
    title: str,
) -> Figure:
    numeric = np.ndim(labels) == 1 and len(labels) > 0 and not isinstance(labels[0], str)
    names = [*feature_names, *("input 1", "input 2")[len(feature_names) :]]
    figure = style.new_figure(6.2, 4.6, title)
    axes = figure.subplots()
    axes.set_xlabel(style.fit(names[0], 4.5, style.NORMAL))
    if numeric:
        values = np.asarray(labels, float)
        if points.shape[1] == 1:
            axes.scatter(points[:, 0], values, s=14, color=style.TRAIN, alpha=0.7, linewidth=0)
            axes.set_ylabel("label")
            return figure
        drawn = axes.scatter(points[:, 0], points[:, 1], s=16, c=values, cmap="viridis", linewidth=0)
        figure.colorbar(drawn, ax=axes, label="label", shrink=0.8).outline.set_visible(False)  # type: ignore[operator]
        axes.set_ylabel(style.fit(names[1], 3.5, style.NORMAL))
        return figure
    texts = [" ".join(text + end for text, end in _caption(label)) for label in labels]
    classes = [*class_names, *sorted(set(texts) - set(class_names))]
    for index, (name, colour) in enumerate(zip(classes, style.class_colours(len(classes)), strict=True)):
        chosen = points[[text == name for text in texts]]
        y = chosen[:, 1] if points.shape[1] == 2 else np.full(len(chosen), index)
        marker = style.MARKERS[index % len(style.MARKERS)]
        axes.scatter(chosen[:, 0], y, s=18, color=colour, marker=marker, linewidth=0, label=style.fit(name, 1.3))
    axes.set_ylabel(style.fit(names[1], 3.5, style.NORMAL) if points.shape[1] == 2 else "class")
    if len(classes) <= 24:
        figure.legend(loc="outside right upper")
    return figure
