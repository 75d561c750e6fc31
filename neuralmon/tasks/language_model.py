"""The next token of a text."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.fields import FractionNumber, NonNegativeInt
from neuralmon.models.gpt import GPT
from neuralmon.sampling import SampleRequest
from neuralmon.tasks.averages import average_of_classes
from neuralmon.tasks.classification import softmax_cross_entropy
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import mean
from neuralmon.tasks.task import Sums
from neuralmon.tasks.text_reading import expectations
from neuralmon.tasks.text_sampling import attention_figure, cannot_write, sample_text, write
from neuralmon.tasks.trained import Findings, Trained


@dataclasses.dataclass(frozen=True)
class LanguageModel:
    """Logits (batch, time, vocab_size) against tokens (batch, time), the one that follows at each place.

    The loss is the softmax cross-entropy of a token, averaged over all tokens that are no padding, whatever the lengths
    of the texts they are in. Its exponential is the perplexity: how many tokens, all as likely, would be as uncertain.
    A negative target is none and does not count. Where the batch says in "characters" (batch, time) how many characters
    each target stands for, evaluations report bits a character, by which different vocabularies can be compared.

    Attributes:
      label_smoothing: probability that is taken off the true token and spread evenly over all (see `Classification`).
      pad_id: the token that is padding where it is a target, and not counted; None: there is none.
    """

    label_smoothing: FractionNumber = 0.0
    pad_id: NonNegativeInt | None = None

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        return spec.vocab_size

    def loss(self, outputs: Float[Array, "batch time vocab_size"], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`."""
        targets = batch["targets"]
        weights = self._weights(batch)
        losses = softmax_cross_entropy(outputs, jnp.maximum(targets, 0), self.label_smoothing)
        loss_sum, count = (losses * weights).sum(), weights.sum()
        correct = ((jnp.argmax(outputs, axis=-1) == targets) * weights).sum()
        return (loss_sum, count), {"loss": (loss_sum, count), "accuracy": (correct, count)}

    def metrics(self, outputs: Float[Array, "batch time vocab_size"], batch: Batch) -> Sums:
        """See `Task.metrics`. "nats" is the loss without smoothing, which the perplexity is made of."""
        (_, count), sums = self.loss(outputs, batch)
        plain = dataclasses.replace(self, label_smoothing=0.0).loss(outputs, batch)[0]
        sums = {**sums, "nats": (plain[0], count)}
        if "characters" in batch:
            sums["characters"] = ((batch["characters"] * self._weights(batch)).sum(), count)
        return sums

    def _weights(self, batch: Batch) -> Float[Array, "batch time"]:
        targets = batch["targets"]
        counts = targets >= 0 if self.pad_id is None else (targets >= 0) & (targets != self.pad_id)
        return jnp.where(counts, batch["weights"][:, None], 0.0)

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns loss, accuracy and, from evaluations, perplexity, bits a token and, if known, bits a character."""
        result = {name: float(mean(sums[name])) for name in ("loss", "accuracy")}
        if "nats" not in sums:
            return result
        nats = float(mean(sums["nats"]))
        # Beyond what a float can hold it is a diverged model, not an error.
        perplexity = math.exp(nats) if nats < 700 else math.inf
        result |= {"perplexity": perplexity, "bits_per_token": nats / math.log(2)}
        if "characters" in sums:
            result["bits_per_character"] = result["bits_per_token"] / float(mean(sums["characters"]))
        return result

    def predict(self, outputs: Float[Array, "batch time vocab_size"], spec: Spec) -> dict[str, Array]:
        """Returns `token` (batch, time), the likeliest at each place, and `probability` (batch, time), what it has."""
        probabilities = jax.nn.softmax(outputs.astype(jnp.float32))
        return {"token": jnp.argmax(outputs, axis=-1), "probability": probabilities.max(axis=-1)}

    def average(self, outputs: Float[Array, "members batch time vocab_size"]) -> Float[Array, "batch time vocab_size"]:
        """Returns what models say together: the mean of their probabilities."""
        return average_of_classes(outputs)

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        shape, targets = output_shape(outputs), target_shape(spec)
        if spec.vocab_size is None or (targets is not None and len(targets) != 1):
            return f"LanguageModel needs data made of tokens, with targets (time,); this data has {targets}"
        time = "time" if targets is None else targets[0]
        fits = shape is not None and len(shape) == 3 and shape[2] == spec.vocab_size
        if not fits or shape is None or time not in ("time", shape[1]):
            return (
                f"LanguageModel of {spec.vocab_size} tokens needs outputs of shape (batch, {time}, {spec.vocab_size}); "
                f"the model's are {said(outputs)}"
            )
        return None

    def study(self, trained: Trained, split: str) -> Findings:
        """Returns a text that the model writes, and of a GPT the attention to a passage of the split."""
        if cannot_write(trained):
            return Findings()
        gpt = isinstance(trained.model, GPT)
        return Findings(
            figures={"attention": partial(attention_figure, trained, split)} if gpt else {},
            texts={"sample": partial(sample_text, trained, split)},
        )

    def answers(self, trained: Trained, path: str) -> Iterable[dict[str, Any]] | None:
        """Returns what is expected behind each token of a text file (see `neuralmon.tasks.text_reading`)."""
        readable = all(hasattr(trained.dataset, name) for name in ("vocabulary", "read_inputs"))
        return expectations(trained, path) if readable else None

    def sample(self, trained: Trained, request: SampleRequest) -> Iterator[str]:
        """Yields texts as they are written (see `neuralmon.tasks.text_sampling.write`)."""
        return write(trained, request)

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "loss", "min"
