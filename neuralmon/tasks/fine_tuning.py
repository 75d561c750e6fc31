"""Classification by a language model that goes on predicting the next token."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.data import Batch, Spec
from neuralmon.fields import NonNegativeNumber
from neuralmon.tasks.classification import Classification, softmax_cross_entropy
from neuralmon.tasks.sums import mean, weighted_sum
from neuralmon.tasks.task import Sums


@dataclasses.dataclass(frozen=True)
class FineTuning(Classification):
    """{"classes": logits (batch, classes), "tokens": (batch, time, vocab_size)} against targets (batch,) and inputs.

    The loss of a text is that of its class (see `Classification`) + `language_weight` x the mean cross-entropy of its
    tokens, each predicted from those before it: L3 = L2 + lambda L1. It is for `GPTClassifier(next_tokens=True)` and
    data whose inputs are {"sequence": ..., "lengths": ...}.

    Source: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, eq. 5 (lambda = 0.5).

    Attributes:
      language_weight: lambda, the factor of the auxiliary loss.
    """

    language_weight: NonNegativeNumber = 0.5

    def loss(self, outputs: Any, batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`. "language_loss" is the auxiliary one, without its factor."""
        (loss_sum, count), sums = super().loss(outputs["classes"], batch)
        tokens, lengths = batch["inputs"]["sequence"], batch["inputs"]["lengths"]
        predicted = jnp.arange(tokens.shape[1] - 1) < lengths[:, None] - 1
        losses = softmax_cross_entropy(outputs["tokens"][:, :-1], tokens[:, 1:])
        of_text = jnp.where(predicted, losses, 0).sum(axis=1) / jnp.maximum(predicted.sum(axis=1), 1)
        language = weighted_sum(of_text, batch["weights"])
        total = (loss_sum + self.language_weight * language, count)
        return total, {**sums, "loss": total, "language_loss": (language, count)}

    def metrics(self, outputs: Any, batch: Batch) -> Sums:
        """See `Task.metrics`."""
        return {**self._plain.metrics(outputs["classes"], batch), **self.loss(outputs, batch)[1]}

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns what `Classification` reports, and the language model's loss in nats a token."""
        return {**super().report(sums, spec), "language_loss": float(mean(sums["language_loss"]))}

    def predict(self, outputs: Any, spec: Spec) -> dict[str, Array]:
        """See `Classification.predict`."""
        return super().predict(outputs["classes"], spec)

    def check(self, outputs: Any, spec: Spec) -> str | None:
        """See `Task.check`."""
        if not isinstance(outputs, Mapping) or outputs.keys() != {"classes", "tokens"}:
            return "FineTuning needs the logits of classes and of tokens: use a GPTClassifier(next_tokens=True)"
        tokens: jax.ShapeDtypeStruct = outputs["tokens"]
        if spec.vocab_size is None or tokens.shape[2:] != (spec.vocab_size,):
            return (
                f"FineTuning needs data made of tokens; this data has {spec.vocab_size}, the model {tokens.shape[2:]}"
            )
        return super().check(outputs["classes"], spec)

    @property
    def _plain(self) -> Classification:
        return Classification(self.label_smoothing, self.objective)
