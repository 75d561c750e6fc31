"""Yes or no, by the sign of a logit: the loss of such decisions, and the scores of counted ones."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num


def sigmoid_cross_entropy(
    logits: Float[Array, "..."],
    targets: Num[Array, "..."],
    label_smoothing: float | Array = 0.0,
    positive_weight: float | Array = 1.0,
) -> Float[Array, "..."]:
    """Returns -w t log s(x) - (1 - t) log s(-x) of each decision, in float32.

    s is the logistic function, x the logit, w `positive_weight`, e `label_smoothing` and t = (1 - e) target + e / 2.
    No finite logit is too large, since log s is computed in one piece.
    """
    logits = logits.astype(jnp.float32)
    smoothing = jnp.asarray(label_smoothing, jnp.float32)
    targets = (1.0 - smoothing) * targets.astype(jnp.float32) + smoothing / 2
    return -positive_weight * targets * jax.nn.log_sigmoid(logits) - (1.0 - targets) * jax.nn.log_sigmoid(-logits)


def perceptron_criterion(
    sums: Float[Array, "..."], targets: Num[Array, "..."], positive_weight: float | Array = 1.0
) -> Float[Array, "..."]:
    """Returns w max(0, -t s) of each decision, in float32: how far a weighted sum s is on the wrong side of 0.

    t is 1 for a target of 1 and -1 for 0, and w is `positive_weight` for a target of 1 and 1 for 0. A sum of exactly 0
    is a mistake: the slope there is -w t, as of all mistakes, so that training can begin with weights of zero. One step
    of gradient descent on one example is then Rosenblatt's rule (Rosenblatt 1958; as a loss: Duda & Hart, "Pattern
    Classification and Scene Analysis", 1973, sec. 5.5).
    """
    yes = targets > 0
    wrong_by = jnp.where(yes, -positive_weight, 1.0) * sums.astype(jnp.float32)
    # In this order NaN comes through, and `maximum` would halve the slope at 0.
    return jnp.where(wrong_by < 0, 0.0, wrong_by)


def says_yes(logits: Float[Array, "..."], truth: Bool[Array, "..."]) -> Bool[Array, "..."]:
    """Returns where a logit is above 0. NaN says the opposite of the truth: a diverged model is never right."""
    return jnp.where(jnp.isnan(logits), ~truth, logits > 0)


def confusion_matrices(
    truth: Bool[Array, "batch labels"], said: Bool[Array, "batch labels"], examples: Int[Array, " batch"]
) -> Int[Array, "labels 2 2"]:
    """Returns how often each label was `truth` (first index) and said to be (second), 0 for no and 1 for yes.

    `examples` is 1 for what counts and 0 for padding. In int32 counts stay exact beyond the 2^24 that float32 ends at.
    """
    labels = jnp.arange(truth.shape[1])
    zeros = jnp.zeros((truth.shape[1], 2, 2), jnp.int32)
    return zeros.at[labels, truth.astype(jnp.int32), said.astype(jnp.int32)].add(examples[:, None])


def precision_recall_f1(right: Any, predicted: Any, occurring: Any) -> tuple[Any, Any, Any]:
    """Returns the three scores of what was predicted so often, rightly so often, and occurs so often; 0 for 0 / 0."""
    right, predicted, occurring = (np.asarray(count, np.float64) for count in (right, predicted, occurring))
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(occurring, 1)
    return precision, recall, 2 * right / np.maximum(predicted + occurring, 1)
