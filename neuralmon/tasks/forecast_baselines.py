"""Forecasts that need no network: the last number again, and a linear function of the last few. Plain NumPy."""

import numpy as np


def persistence(windows: np.ndarray, steps: int) -> np.ndarray:
    """Returns the last step of each window, `steps` times: windows (n, window, columns) -> (n, steps, columns)."""
    return np.repeat(windows[:, -1:].astype(np.float64), steps, axis=1)


class Autoregression:
    """AR(order): each column's next number is a constant plus a linear function of its last `order` ones.

    The coefficients are those of ordinary least squares over all steps of the training series.

    Args:
      windows: (n, window, columns), each one step later than the one before.
      following: the step after each window (n, columns).
      order: how many numbers a forecast is made of; at most `window`.
    """

    def __init__(self, windows: np.ndarray, following: np.ndarray, order: int) -> None:
        self.order = min(order, windows.shape[1])
        series = np.concatenate([windows[0], following]).astype(np.float64)
        rows = np.lib.stride_tricks.sliding_window_view(series, self.order + 1, axis=0)
        # (columns, order + 1): the factors from the oldest number to the latest one, and the constant.
        self.coefficients = np.stack(
            [
                np.linalg.lstsq(np.append(one[:, :-1], np.ones((len(one), 1)), axis=1), one[:, -1], rcond=None)[0]
                for one in rows.swapaxes(0, 1)
            ]
        )

    def forecast(self, windows: np.ndarray, steps: int) -> np.ndarray:
        """Returns (n, steps, columns), each step made of the windows' numbers and of the forecasts before it."""
        known = windows[:, -self.order :].astype(np.float64)
        for _ in range(steps):
            latest = known[:, -self.order :]
            following = np.einsum("npk,kp->nk", latest, self.coefficients[:, :-1]) + self.coefficients[:, -1]
            known = np.concatenate([known, following[:, None]], axis=1)
        return known[:, self.order :]
