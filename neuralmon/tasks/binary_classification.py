"""One of two classes, by one logit."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.fields import FractionNumber, PositiveNumber
from neuralmon.models.perceptron import Perceptron
from neuralmon.tasks import novikoff, ranking
from neuralmon.tasks.averages import average_of_decisions
from neuralmon.tasks.decisions import (
    confusion_matrices,
    perceptron_criterion,
    precision_recall_f1,
    says_yes,
    sigmoid_cross_entropy,
)
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import counted, mean, table, weighted_sum
from neuralmon.tasks.task import Sums
from neuralmon.tasks.trained import Findings, Trained


@dataclasses.dataclass(frozen=True)
class BinaryClassification:
    """One logit of an example, (batch,) or (batch, 1), against targets 0 or 1, (batch,).

    The logit is that of the second class, which is called the positive one. The loss, in evaluations the same, is

    - "cross_entropy": sigmoid cross-entropy. With smoothing e the positive class's target probability is 1 - e/2 where
      it is the true class and e/2 elsewhere, as in `Classification` of two classes.
    - "perceptron": how far the logit is on the wrong side of 0, so that what is right changes nothing; with batches of
      one and plain SGD it is Rosenblatt's rule (see `nm.models.Perceptron`). A class is then predicted by a step, whose
      probability is 1. "mistakes" is the share of them, sums of 0 included; with batches of one, each of which is an
      update if it is a mistake, the result of a `Perceptron` has their number in all training, and how
      many there can be at most, if a plane divides the training examples (see `neuralmon.tasks.novikoff`).

    Attributes:
      label_smoothing: probability that is taken off the true class and spread evenly over both.
      positive_weight: factor of the loss of positive examples; above 1 where they are rare.
      objective: what is minimised: "cross_entropy", of probabilities; "perceptron", of mistakes alone.
    """

    label_smoothing: FractionNumber = 0.0
    positive_weight: PositiveNumber = 1.0
    objective: Literal["cross_entropy", "perceptron"] = "cross_entropy"

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        return 1

    def loss(self, outputs: Float[Array, "batch ..."], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`."""
        targets, weights = batch["targets"], batch["weights"]
        logits = outputs.reshape(targets.shape)
        if self.objective == "perceptron":
            losses = perceptron_criterion(logits, targets, self.positive_weight)
        else:
            losses = sigmoid_cross_entropy(logits, targets, self.label_smoothing, self.positive_weight)
        loss_sum, count = weighted_sum(losses, weights), weights.sum()
        truth = targets > 0
        correct = (says_yes(logits, truth) == truth).astype(jnp.float32)
        sums = {"loss": (loss_sum, count), "accuracy": (weighted_sum(correct, weights), count)}
        if self.objective == "perceptron":
            # A sum of exactly 0 is a mistake of either class.
            wrong = (logits > 0) != truth
            sums["mistakes"] = (weighted_sum((wrong | (logits == 0)).astype(jnp.float32), weights), count)
        return (loss_sum, count), sums

    def metrics(self, outputs: Float[Array, "batch ..."], batch: Batch) -> Sums:
        """See `Task.metrics`. `confusion[i, j]` counts examples of class i that were taken for class j."""
        (_, count), sums = self.loss(outputs, batch)
        examples = counted(batch["weights"])
        logits, truth = outputs.reshape(-1, 1), (batch["targets"] > 0)[:, None]
        confusion = confusion_matrices(truth, says_yes(logits, truth), examples)[0]
        histogram = ranking.histograms(logits, truth, examples)[0]
        return {**sums, "confusion": (confusion, count), "histogram": (histogram, count)}

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns loss, accuracy and, from evaluations, scores of the positive class, those of each, and the confusion.

        `precision`, `recall` and `f1` of a class that was never predicted, or never occurs, are 0. `roc_auc` and
        `average_precision` take logits that are very close to each other for ties (see `neuralmon.tasks.ranking`); they
        are left out if only one class occurs.
        """
        result: dict[str, Any] = {name: float(mean(sums[name])) for name in ("loss", "accuracy")}
        if "mistakes" in sums:
            result["mistakes"] = float(mean(sums["mistakes"]))
        if "confusion" not in sums:
            return result
        confusion = np.asarray(sums["confusion"][0], np.int64)
        occurring, right = confusion.sum(axis=1), np.diag(confusion)
        # Exact, where the mean of float sums is only nearly so.
        result["accuracy"] = float(mean((right.sum(), confusion.sum())))
        precision, recall, f1 = precision_recall_f1(right, confusion.sum(axis=0), occurring)
        result |= {"precision": float(precision[1]), "recall": float(recall[1]), "f1": float(f1[1])}
        if occurring.all():
            histogram = sums["histogram"][0]
            result["roc_auc"] = float(ranking.roc_auc(histogram))
            result["average_precision"] = float(ranking.average_precision(histogram))
        result["per_class"] = table(spec.class_names, precision=precision, recall=recall, f1=f1, examples=occurring)
        result["confusion"] = confusion.tolist()
        return result

    def study(self, trained: Trained, split: str) -> Findings:
        """Returns the mistakes of all training and, of data that a plane divides, how many there can be at most."""
        if self.objective != "perceptron" or not isinstance(trained.model, Perceptron):
            return Findings()
        rows = [row for row in trained.history if row["split"] == "train" and "mistakes" in row]
        steps = np.diff([row["step"] for row in rows], prepend=0)
        # With batches of one the share of a chunk's examples is a number of its steps.
        mistakes = round(float(sum(row["mistakes"] * count for row, count in zip(rows, steps, strict=True))))
        metrics: dict[str, Any] = {"training_mistakes": float(mistakes)} if rows else {}
        batch = jax.device_get(trained.prepared("train"))
        inputs, targets = np.asarray(batch["inputs"]), np.asarray(batch["targets"])
        if found := novikoff.bound(inputs.reshape(len(targets), -1), targets):
            metrics |= {"most_mistakes": found.mistakes, "radius": found.radius, "margin": found.margin}
        return Findings(metrics)

    def predict(self, outputs: Float[Array, "batch ..."], spec: Spec) -> dict[str, Array]:
        """Returns `class` (batch,), 0 or 1, and `probabilities` (batch, 2) of both classes."""
        logits = outputs.reshape(-1).astype(jnp.float32)
        answer = (logits > 0).astype(jnp.int32)
        if self.objective == "perceptron":
            return {"class": answer, "probabilities": jax.nn.one_hot(answer, 2)}
        return {"class": answer, "probabilities": jax.nn.sigmoid(jnp.stack([-logits, logits], axis=-1))}

    def average(self, outputs: Float[Array, "members batch ..."]) -> Float[Array, "batch ..."]:
        """Returns what models say together: the mean of their probabilities; of perceptrons that of their sums."""
        return outputs.mean(axis=0) if self.objective == "perceptron" else average_of_decisions(outputs)

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        if self.objective == "perceptron" and self.label_smoothing:
            return "BinaryClassification(objective=perceptron) has no probabilities to smooth: use label_smoothing=0"
        targets = target_shape(spec)
        if targets:
            return f"BinaryClassification needs one class an example; this data has targets {targets}: use MultiLabel"
        if spec.num_classes is None:
            return "BinaryClassification needs data of two classes, and this data has none: use Regression for numbers"
        if spec.num_classes != 2:
            remedy = ": use Classification" if spec.num_classes > 2 else ""
            return f"BinaryClassification needs data of two classes, and this data has {spec.num_classes}{remedy}"
        shape = output_shape(outputs)
        if shape is None or shape[1:] not in ((), (1,)) or not shape:
            remedy = ", or Classification for two logits an example" if shape and shape[1:] == (2,) else ""
            needed = "outputs of shape (batch, 1) or (batch,)"
            return f"BinaryClassification needs {needed}; the model's are {said(outputs)}: use num_classes=1{remedy}"
        return None

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "accuracy", "max"
