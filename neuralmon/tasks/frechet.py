"""How far two clouds of points are from each other."""

import numpy as np
from jaxtyping import Float


def frechet_distance(one: Float[np.ndarray, "points features"], other: Float[np.ndarray, "others features"]) -> float:
    """Returns the squared Frechet distance of the normal distributions with the clouds' means and covariances.

        |m - m'|^2 + trace(C + C' - 2 (C C')^(1/2))

    It is 0 for equal means and covariances. The estimate is too large by about 1 / points: compare only distances that
    were measured with as many. All is computed in float64.

    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS
    2017, eq. 6; the distance itself is that of Dowson & Landau 1982.

    Raises:
      ValueError: a cloud has fewer than two points, or not the other's number of features.
    """
    clouds = [np.asarray(cloud, np.float64) for cloud in (one, other)]
    if any(cloud.ndim != 2 or len(cloud) < 2 for cloud in clouds) or clouds[0].shape[1] != clouds[1].shape[1]:
        raise ValueError(f"two clouds (points, features) of two points or more, not {one.shape} and {other.shape}")
    means = [cloud.mean(axis=0) for cloud in clouds]
    covariances = [
        np.cov(cloud, rowvar=False).reshape(len(mean), -1) for cloud, mean in zip(clouds, means, strict=True)
    ]
    # C C' has the eigenvalues of the symmetric C^(1/2) C' C^(1/2), whose root can be had without complex numbers.
    root = _root(covariances[0])
    product = np.linalg.eigvalsh(root @ covariances[1] @ root)
    overlap = np.sqrt(np.maximum(product, 0.0)).sum()
    traces = sum(np.trace(covariance) for covariance in covariances)
    return float(np.square(means[0] - means[1]).sum() + traces - 2 * overlap)


def _root(covariance: np.ndarray) -> np.ndarray:
    """Returns the square root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
