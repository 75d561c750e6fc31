"""One of several classes."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from neuralmon.data import Batch, Spec
from neuralmon.fields import FractionNumber
from neuralmon.tasks.averages import average_of_classes
from neuralmon.tasks.decisions import perceptron_criterion, precision_recall_f1
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import counted, mean, table, weighted_sum
from neuralmon.tasks.task import Sums


@dataclasses.dataclass(frozen=True)
class Classification:
    """Logits (batch, classes) against integer targets (batch,): the class of the largest logit is predicted.

    The loss, in evaluations the same, is

    - "cross_entropy": softmax cross-entropy. With smoothing e and K classes the target distribution is 1 - e + e/K on
      the true class and e/K on each other one (Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016, sec.
      7).
    - "perceptron": one against the rest: the sum, over the classes, of how far a logit is on the wrong side of 0, above
      it for the true class and below it for all others; with batches of one and plain SGD each class learns by
      Rosenblatt's rule (see `nm.models.Perceptron`). The probability of the predicted class is then 1.

    Attributes:
      label_smoothing: probability that is taken off the true class and spread evenly over all.
      objective: what is minimised: "cross_entropy", of probabilities; "perceptron", of mistakes alone.
    """

    label_smoothing: FractionNumber = 0.0
    objective: Literal["cross_entropy", "perceptron"] = "cross_entropy"

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        return spec.num_classes

    def loss(self, outputs: Float[Array, "batch classes"], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`."""
        targets, weights = batch["targets"], batch["weights"]
        if self.objective == "perceptron":
            losses = perceptron_criterion(outputs, jax.nn.one_hot(targets, outputs.shape[-1])).sum(axis=-1)
        else:
            losses = softmax_cross_entropy(outputs, targets, self.label_smoothing)
        loss_sum, count = weighted_sum(losses, weights), weights.sum()
        correct = (jnp.argmax(outputs, axis=-1) == targets).astype(jnp.float32)
        return (loss_sum, count), {"loss": (loss_sum, count), "accuracy": (weighted_sum(correct, weights), count)}

    def metrics(self, outputs: Float[Array, "batch classes"], batch: Batch) -> Sums:
        """See `Task.metrics`. `confusion[i, j]` counts examples of class i that were taken for class j."""
        targets, weights = batch["targets"], batch["weights"]
        classes = outputs.shape[-1]
        (_, count), sums = self.loss(outputs, batch)
        # Rank of the true class. Of tied classes the one with the smaller index comes first, as in argmax, and
        # NaN is ahead of all: a diverged model has no top-5.
        true_logit = jnp.take_along_axis(outputs, targets[:, None], axis=-1)
        ahead = ~(outputs <= true_logit) | ((outputs == true_logit) & (jnp.arange(classes) < targets[:, None]))
        in_top5 = (ahead.sum(axis=-1) < 5).astype(jnp.float32)
        taken_for = jnp.argmax(outputs, axis=-1)
        # Counts in int32 stay exact beyond the 2^24 that float32 ends at.
        confusion = jnp.zeros((classes, classes), jnp.int32).at[targets, taken_for].add(counted(weights))
        return {**sums, "top5": (weighted_sum(in_top5, weights), count), "confusion": (confusion, count)}

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns loss, accuracy and, from evaluations, top5 (if there are over 5 classes), macro averages and tables.

        Precision, recall and F1 of a class that was never predicted, or never occurs, are 0.
        """
        result: dict[str, Any] = {
            name: float(mean(sums[name])) for name in ("loss", "accuracy", "top5") if name in sums
        }
        if "confusion" not in sums:
            return result
        confusion = np.asarray(sums["confusion"][0], np.int64)
        if len(confusion) <= 5:
            result.pop("top5")
        right, occurring = np.diag(confusion), confusion.sum(axis=1)
        # Exact, where the mean of float sums is only nearly so.
        result["accuracy"] = float(mean((right.sum(), confusion.sum())))
        precision, recall, f1 = precision_recall_f1(right, confusion.sum(axis=0), occurring)
        result |= {"precision": float(precision.mean()), "recall": float(recall.mean()), "f1": float(f1.mean())}
        result["per_class"] = table(spec.class_names, precision=precision, recall=recall, f1=f1, examples=occurring)
        result["confusion"] = confusion.tolist()
        return result

    def predict(self, outputs: Float[Array, "batch classes"], spec: Spec) -> dict[str, Array]:
        """Returns `class` (batch,) and `probabilities` (batch, classes)."""
        answer = jnp.argmax(outputs, axis=-1)
        if self.objective == "perceptron":
            return {"class": answer, "probabilities": jax.nn.one_hot(answer, outputs.shape[-1])}
        return {"class": answer, "probabilities": jax.nn.softmax(outputs.astype(jnp.float32))}

    def average(self, outputs: Float[Array, "members batch classes"]) -> Float[Array, "batch classes"]:
        """Returns what models say together: the mean of their probabilities; of perceptrons that of their sums."""
        return outputs.mean(axis=0) if self.objective == "perceptron" else average_of_classes(outputs)

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        if self.objective == "perceptron" and self.label_smoothing:
            return "Classification(objective=perceptron) has no probabilities to smooth: use label_smoothing=0"
        if spec.num_classes is None:
            return "Classification needs data with classes, and this data has none: use Regression"
        if targets := target_shape(spec):
            return f"Classification needs one class an example; this data has targets {targets}: use MultiLabel"
        shape = output_shape(outputs)
        if shape is None or shape[1:] != (spec.num_classes,):
            return (
                f"Classification of {spec.num_classes} classes needs outputs of shape (batch, {spec.num_classes}); "
                f"the model's are {said(outputs)}"
            )
        return None

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "accuracy", "max"


def softmax_cross_entropy(
    logits: Float[Array, "*batch classes"], targets: Int[Array, "*batch"], label_smoothing: float | Array = 0.0
) -> Float[Array, "*batch"]:
    """Returns -sum_k q_k log softmax(logits)_k of each example, in float32, for the smoothed distribution q."""
    log_probabilities = jax.nn.log_softmax(logits.astype(jnp.float32))
    true_class = jnp.take_along_axis(log_probabilities, targets[..., None], axis=-1)[..., 0]
    smoothing = jnp.asarray(label_smoothing, jnp.float32)
    # A class masked by a logit of -inf is no harm without smoothing, but 0 * -inf is NaN.
    evenly = jnp.where(smoothing > 0, log_probabilities, 0.0).mean(axis=-1)
    return -(1.0 - smoothing) * true_class - smoothing * evenly
