"""What the first layer looks for."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style

_MOST = 64
_GAP, _TOP = 0.06, 0.62  # inches


def first_layer_filters(
    kernel: np.ndarray, image_shape: Sequence[int] = (), title: str = "Filters of the first layer"
) -> Figure:
    """Draws the first 64 filters as small pictures.

    Filters of 3 or 4 channels are in colour, each brightened by itself, grey standing for 0. Others are drawn by their
    mean over the channels, all on one scale around 0.

    Args:
      kernel: (height, width, in, out) or (width, in, out) of a convolution; (inputs, out) of a dense layer.
      image_shape: (height, width, channels) of the images before a dense layer.
      title: what stands above.
    """
    kernel = np.asarray(kernel, np.float32)
    total = kernel.shape[-1]
    if kernel.ndim == 2:
        if math.prod(image_shape) != len(kernel) or len(image_shape) != 3:
            raise ValueError(f"columns of {len(kernel)} weights are no images of shape {tuple(image_shape)}")
        kernel = kernel.reshape(*image_shape, total)
    elif kernel.ndim == 3:  # Channels lie below each other.
        kernel = kernel.transpose(1, 0, 2)[:, :, None]
    if kernel.ndim != 4:
        raise ValueError(f"a kernel of shape {kernel.shape} is neither of a dense layer nor of a convolution")
    kernel = np.nan_to_num(kernel[..., :_MOST])
    height, width, channels, count = kernel.shape
    columns = min(count, 8)
    rows = math.ceil(count / columns)
    panel = 0.75
    panel_height = panel * float(np.clip(height / width, 0.25, 3.0))
    shown = f", {count} of {total:,}" if total > count else ""
    total_width = max(columns * (panel + _GAP) + 0.2, 4.4)
    in_colour = channels in (3, 4)
    total_height = _TOP + rows * (panel_height + _GAP) + (0.1 if in_colour else 0.5)
    figure = style.new_figure(total_width, total_height, title + shown, constrained=False)
    if in_colour:
        scale = np.maximum(np.abs(kernel[:, :, :3]).max(axis=(0, 1, 2)), 1e-12)
        pictures, limit = 0.5 + kernel[:, :, :3] / (2 * scale), 1.0
        what = "each filter in colour on its own scale; grey is 0"
    else:
        pictures = kernel.mean(axis=2)
        # A single large weight would leave all others pale.
        limit = float(np.quantile(np.abs(pictures), 0.995)) or float(np.abs(pictures).max()) or 1.0
        what = "weights" if channels == 1 else f"weights, mean over {channels:,} input channels"
    size = f"{height} by {width}: {what}"
    figure.text(0.1 / total_width, 1 - 0.38 / total_height, size, size=style.SMALL, color=style.GREY, va="top")
    drawn = None
    for index in range(count):
        row, column = divmod(index, columns)
        x, y = 0.1 + column * (panel + _GAP), total_height - _TOP - row * (panel_height + _GAP) - panel_height
        axes = figure.add_axes(
            (x / total_width, y / total_height, panel / total_width, panel_height / total_height), label=f"{index}"
        )
        style.bare(axes)
        axes.spines[:].set(visible=True, color=style.PALE)  # a white filter has an edge too
        picture = pictures[..., index]
        drawn = axes.imshow(picture, cmap="PuOr_r", vmin=-limit, vmax=limit, aspect="auto", interpolation="nearest")
    if not in_colour and drawn is not None:
        side = figure.add_axes((0.35 / total_width, 0.3 / total_height, 1.8 / total_width, 0.09 / total_height))
        bar = figure.colorbar(drawn, cax=side, orientation="horizontal", ticks=[-limit, 0, limit])
        bar.ax.set_xticklabels([f"{-limit:.2g}", "0", f"{limit:.2g}"])
        bar.outline.set_visible(False)  # type: ignore[operator]
    return figure
