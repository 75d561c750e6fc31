"""How well numbers are predicted."""

import numpy as np
from matplotlib.figure import Figure

from neuralmon.figures import style


def regression(
    predicted: np.ndarray,
    targets: np.ndarray,
    target_name: str = "target",
    title: str = "Predictions of validation data",
) -> Figure:
    """Draws predicted against true numbers, and how the residuals are spread.

    Args:
      predicted: (examples,) or (examples, 1), in the data's own units.
      targets: the true numbers, likewise.
      target_name: what they are, with the unit, such as "price in EUR".
      title: what stands above.
    """
    predicted, targets = (np.asarray(values, float).reshape(-1) for values in (predicted, targets))
    if len(predicted) != len(targets) or not len(targets):
        raise ValueError(f"{len(predicted)} predictions and {len(targets)} targets make no pairs")
    finite = np.isfinite(predicted) & np.isfinite(targets)
    if not finite.any():
        raise ValueError("no prediction is finite")
    missing = int((~finite).sum())
    predicted, targets = predicted[finite], targets[finite]
    residuals = predicted - targets
    rmse, mean = float(np.sqrt((residuals**2).mean())), float(residuals.mean())
    variance = float(targets.var())
    explained = f", R² {1 - rmse**2 / variance:.3f}" if variance > 0 else ""
    figure = style.new_figure(8.4, 4.3, title)
    left, right = figure.subplots(1, 2)
    both = np.concatenate([predicted, targets])
    low, high = both.min(), both.max()
    margin = 0.04 * (high - low) or 1.0
    ends = [low - margin, high + margin]
    left.plot(ends, ends, color=style.GREY, linewidth=1, zorder=1)
    alpha = float(np.clip(60 / np.sqrt(len(targets)) / 4, 0.12, 0.8))
    left.scatter(targets, predicted, s=14, color=style.TRAIN, alpha=alpha, linewidth=0, zorder=2)
    left.set(xlim=ends, ylim=ends, aspect="equal")
    name = style.fit(target_name, 2.4, style.NORMAL)
    left.set_xlabel(f"true {name}")
    left.set_ylabel(f"predicted {name}")
    left.locator_params(nbins=5)
    ignored = f", {missing:,} not finite" if missing else ""
    left.set_title(f"RMSE {style.number(rmse)}{explained} ({len(targets):,} examples{ignored})", color=style.GREY)
    right.hist(residuals, bins=int(np.clip(np.sqrt(len(residuals)), 5, 40)), color=style.TRAIN, alpha=0.8)
    right.axvline(0, color=style.GREY, linewidth=1)
    right.axvline(mean, color=style.VALIDATION, linewidth=1.5, linestyle="--")
    right.set_title(f"residuals; dashed: their mean, {mean:.3g}", color=style.GREY)
    right.set_xlabel("residual: predicted minus true")
    right.set_ylabel("examples")
    right.locator_params(nbins=5)
    right.grid(visible=True, axis="y")
    return figure
