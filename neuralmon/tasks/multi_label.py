"""Any number of labels at once."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.fields import FractionNumber, PositiveNumber
from neuralmon.tasks import ranking
from neuralmon.tasks.averages import average_of_decisions
from neuralmon.tasks.decisions import confusion_matrices, precision_recall_f1, says_yes, sigmoid_cross_entropy
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import counted, mean, table, weighted_sum
from neuralmon.tasks.task import Sums


@dataclasses.dataclass(frozen=True)
class MultiLabel:
    """Sigmoid cross-entropy between logits (batch, labels) and targets of that shape: 1 where a label applies, else 0.

    An example's loss is the mean over the labels, so that a learning rate means the same for few and many labels. With
    smoothing e a target is 1 - e/2 or e/2. The loss in evaluations is the same. A label is predicted where its logit is
    above 0, that is, its probability above 1/2.

    Attributes:
      label_smoothing: how far targets move towards 1/2: 0 not at all, 1 all the way.
      positive_weight: factor of the loss where a label applies; above 1 where most labels are rare.
    """

    label_smoothing: FractionNumber = 0.0
    positive_weight: PositiveNumber = 1.0

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        return spec.num_classes

    def loss(self, outputs: Float[Array, "batch labels"], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`."""
        targets, weights = batch["targets"], batch["weights"]
        # Without it one column of targets would silently be spread over all outputs.
        if outputs.shape != targets.shape:
            raise ValueError(f"outputs {outputs.shape} and targets {targets.shape} differ in shape")
        losses = sigmoid_cross_entropy(outputs, targets, self.label_smoothing, self.positive_weight).mean(axis=-1)
        loss_sum, count = weighted_sum(losses, weights), weights.sum()
        truth = targets > 0.5
        correct = says_yes(outputs, truth) == truth
        label_accuracy = weighted_sum(correct.mean(axis=-1, dtype=jnp.float32), weights)
        exact_match = weighted_sum(correct.all(axis=-1).astype(jnp.float32), weights)
        return (loss_sum, count), {
            "loss": (loss_sum, count),
            "label_accuracy": (label_accuracy, count),
            "exact_match": (exact_match, count),
        }

    def metrics(self, outputs: Float[Array, "batch labels"], batch: Batch) -> Sums:
        """See `Task.metrics`. `confusions[l, i, j]` counts how often label l was i and was predicted to be j."""
        (_, count), sums = self.loss(outputs, batch)
        examples, truth = counted(batch["weights"]), batch["targets"] > 0.5
        confusions = confusion_matrices(truth, says_yes(outputs, truth), examples)
        histograms = ranking.histograms(outputs, truth, examples)
        return {**sums, "confusions": (confusions, count), "histograms": (histograms, count)}

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns loss, share of right decisions and of examples with all labels right; from evaluations more.

        `label_accuracy` is 1 - Hamming loss. `micro_f1` is that of all decisions taken together, `macro_f1` the mean of
        the labels' own, which are 0 for a label that is never predicted or never applies. `mean_average_precision` is
        the mean over the labels that apply to any example, 0 if none does, and so is in the table the
        `average_precision` of a label that never applies; logits that are very close to each other are ties (see
        `neuralmon.tasks.ranking`).
        """
        result: dict[str, Any] = {name: float(mean(sums[name])) for name in ("loss", "label_accuracy", "exact_match")}
        if "confusions" not in sums:
            return result
        confusions = np.asarray(sums["confusions"][0], np.int64)
        right, predicted, applying = confusions[:, 1, 1], confusions[:, :, 1].sum(axis=1), confusions[:, 1].sum(axis=1)
        # Exact, where the mean of float sums is only nearly so.
        result["label_accuracy"] = float(mean((right.sum() + confusions[:, 0, 0].sum(), confusions.sum())))
        precision, recall, f1 = precision_recall_f1(right, predicted, applying)
        micro_f1 = precision_recall_f1(right.sum(), predicted.sum(), applying.sum())[2]
        average_precision = np.nan_to_num(ranking.average_precision(sums["histograms"][0]))
        occurring = average_precision[applying > 0]
        result |= {
            "mean_average_precision": float(occurring.mean()) if occurring.size else 0.0,
            "micro_f1": float(micro_f1),
            "macro_f1": float(f1.mean()),
        }
        columns = {"precision": precision, "recall": recall, "f1": f1, "average_precision": average_precision}
        result["per_class"] = table(spec.class_names, **columns, examples=applying)
        return result

    def predict(self, outputs: Float[Array, "batch labels"], spec: Spec) -> dict[str, Array]:
        """Returns `labels` (batch, labels), 1 where a label is predicted, else 0, and their `probabilities`."""
        return {"labels": (outputs > 0).astype(jnp.int32), "probabilities": jax.nn.sigmoid(outputs.astype(jnp.float32))}

    def average(self, outputs: Float[Array, "members batch labels"]) -> Float[Array, "batch labels"]:
        """Returns what models say together: the mean of their probabilities."""
        return average_of_decisions(outputs)

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        labels, targets = spec.num_classes, target_shape(spec)
        if labels is None:
            return (
                "MultiLabel needs data with labels, and this data's targets have no names: use Regression for numbers"
            )
        if targets == ():
            return "MultiLabel needs targets for each label; this data has one class an example: use Classification"
        if targets not in ((labels,), None):
            return (
                f"MultiLabel needs a target for each of the {labels} labels; this data's targets have shape {targets}"
            )
        if output_shape(outputs) is None or outputs.shape[1:] != (labels,):
            needed = f"outputs of shape (batch, {labels})"
            return f"MultiLabel of {labels} labels needs {needed}; the model's are {said(outputs)}"
        return None

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "mean_average_precision", "max"
