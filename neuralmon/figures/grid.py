"""Where a model of two inputs is asked what it thinks, to draw its decision regions."""

import numpy as np


def decision_grid(inputs: np.ndarray, resolution: int = 200) -> np.ndarray:
    """Returns the points of a square grid over the inputs and a margin of 8 % around them.

    Args:
      inputs: (examples, 2), as the model takes them; what is not finite is passed over.
      resolution: points along each axis.

    Returns:
      (resolution ** 2, 2) float32; the first input changes fastest.

    Raises:
      ValueError: the inputs are no finite pairs of numbers.
    """
    points = np.asarray(inputs, np.float32)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"decision regions need inputs of shape (examples, 2), not {points.shape}")
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        raise ValueError("decision regions need at least one finite input")
    low, high = points.min(axis=0), points.max(axis=0)
    margin = np.where(high > low, 0.08 * (high - low), 1.0)
    x, y = (np.linspace(low[axis] - margin[axis], high[axis] + margin[axis], resolution) for axis in (0, 1))
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2).astype(np.float32)
