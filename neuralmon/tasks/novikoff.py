"""How many mistakes a perceptron can make at most before it makes none."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

_SECONDS_OF_WORK = 10**9  # multiplications


@dataclasses.dataclass(frozen=True)
class Bound:
    """Novikoff's bound.

    Attributes:
      radius: R, the length of the longest example.
      margin: how far from a plane through the origin that divides the classes the nearest example lies; the plane is
        the one for which that is largest, as far as it was found.
      mistakes: (R / margin) ** 2.
    """

    radius: float
    margin: float

    @property
    def mistakes(self) -> float:
        """See the class."""
        return (self.radius / self.margin) ** 2


def bound(inputs: Float[np.ndarray, "examples inputs"], targets: Int[np.ndarray, " examples"]) -> Bound | None:
    """Returns the bound for two classes, targets 0 or 1, with a bias: an input that is 1; None: no plane was found.

    With weights that begin at zero and batches of one, Rosenblatt's rule makes at most (R / margin)^2 mistakes, in
    whatever order and however often the examples come. Every plane that divides them gives such a bound. The best one
    is normal to the point nearest to the origin of the convex hull of all examples times their signs (+1 or -1), which
    is found by moving weight from its farthest support to the nearest example (Mitchell, Dem'yanov & Malozemov 1974).

    Source: Novikoff, "On convergence proofs for perceptrons", Symposium on the Mathematical Theory of Automata, 1962.
    """
    signs = np.where(targets > 0, 1.0, -1.0)[:, None]
    points = signs * np.concatenate([inputs.astype(np.float64), np.ones((len(inputs), 1))], axis=1)
    shares = np.zeros(len(points))
    shares[0], nearest = 1.0, points[0].copy()
    for _ in range(min(100_000, _SECONDS_OF_WORK // points.size)):
        along = points @ nearest
        low = int(along.argmin())
        high = int(np.where(shares > 0, along, -np.inf).argmax())
        gap = along[high] - along[low]
        if gap <= 1e-9 * (nearest @ nearest):
            break
        direction = points[low] - points[high]
        step = min(gap / (direction @ direction), shares[high])
        shares[low] += step
        shares[high] = 0.0 if step == shares[high] else shares[high] - step
        nearest += step * direction
    length = float(np.linalg.norm(nearest))
    margin = float((points @ nearest).min()) / length if length > 0 else 0.0
    radius = float(np.linalg.norm(points, axis=1).max())
    return Bound(radius, margin) if margin > 1e-9 * radius else None
