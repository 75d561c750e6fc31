"""How well logits rank: area under the ROC curve and average precision, from counts that add up over batches.

Both depend on the order of all examples, which no sum knows; but they can be computed from how many positive and
negative examples fall into each of many narrow bins of the logit. Examples in one bin count as ties, so the scores are
exact up to the bins' width: 2 (1 + |x|)^2 / bins at a logit of x. For one label that is 0.000008 around 0 and 0.0009 at
10; ties of a positive and a negative example matter only where there are few of them.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def num_bins(labels: int) -> int:
    """Returns how many bins each of so many labels has: 2^19 shared among all, but 1,024 to 2^18 for each."""
    return min(max(2**19 // labels, 1_024), 2**18)


def histograms(
    logits: Float[Array, "batch labels"], truth: Bool[Array, "batch labels"], examples: Int[Array, " batch"]
) -> Int[Array, "labels 2 bins"]:
    """Returns each label's counts of negative (0) and positive (1) examples by the bin of their logit, ascending.

    A logit x falls into one of `num_bins` equal parts of -1 ... 1 by x / (1 + |x|). `examples` is 1 for what counts and
    0 for padding. NaN is ranked the wrong way round, so that a diverged model has the worst scores, not middling ones.
    """
    labels = logits.shape[1]
    bins, largest = num_bins(labels), jnp.finfo(jnp.float32).max
    logits = jnp.clip(logits.astype(jnp.float32), -largest, largest)
    position = (logits / (1.0 + jnp.abs(logits)) + 1.0) * (bins / 2)
    index = jnp.clip(jnp.floor(position), 0, bins - 1)
    index = jnp.where(jnp.isnan(logits), jnp.where(truth, 0, bins - 1), index).astype(jnp.int32)
    zeros = jnp.zeros((labels, 2, bins), jnp.int32)
    return zeros.at[jnp.arange(labels), truth.astype(jnp.int32), index].add(examples[:, None])


def roc_auc(counts: np.ndarray) -> np.ndarray:
    """Returns the probability that a positive example has a higher logit than a negative one; ties count one half.

    `counts` (..., 2, bins) as in `histograms`. NaN where there is no positive or no negative example.

    Source: Hanley & McNeil, "The meaning and use of the area under a ROC curve", Radiology 143, 1982.
    """
    negative, positive = np.moveaxis(np.asarray(counts, np.float64), -2, 0)
    below = np.cumsum(negative, axis=-1) - negative
    pairs = negative.sum(axis=-1) * positive.sum(axis=-1)
    ordered = (positive * (below + negative / 2)).sum(axis=-1)
    return np.divide(ordered, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)


def average_precision(counts: np.ndarray) -> np.ndarray:
    """Returns the sum over thresholds of precision times the gain in recall, from the highest logit down.

    `counts` (..., 2, bins) as in `histograms`. NaN where there is no positive example.

    Source: Zhu, "Recall, Precision and Average Precision", University of Waterloo, 2004; no interpolation.
    """
    negative, positive = np.moveaxis(np.asarray(counts, np.float64)[..., ::-1], -2, 0)
    right, said = np.cumsum(positive, axis=-1), np.cumsum(positive + negative, axis=-1)
    total = positive.sum(axis=-1)
    gained = (positive * right / np.maximum(said, 1)).sum(axis=-1)
    return np.divide(gained, total, out=np.full(total.shape, np.nan), where=total > 0)
