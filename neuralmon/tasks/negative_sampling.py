"""A true context among noise."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.data.text.reading import read_text
from neuralmon.errors import RequestError
from neuralmon.tasks.shapes import output_shape, said
from neuralmon.tasks.sums import mean, weighted_sum
from neuralmon.tasks.task import Sums
from neuralmon.tasks.trained import Findings, Trained
from neuralmon.tasks.word_vectors import WordVectors

_NEAREST = 8


@dataclasses.dataclass(frozen=True)
class NegativeSampling:
    """Tells what was seen from what was drawn at random: logits (batch, 1 + k), of which the first is the true one's.

    With the logistic function s, an example's loss is

        - log s(x_0) - sum over i = 1 ... k of log s(-x_i)

    Source: Mikolov et al., "Distributed Representations of Words and Phrases and their Compositionality",
    arXiv:1310.4546, eq. 4, which is maximised there. Where all logits are 0 the loss is (1 + k) log 2.

    Attributes:
      neighbours_of: words whose nearest words are listed after training, in the run's `samples/`.
    """

    neighbours_of: tuple[str, ...] = ()

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        return None

    def loss(self, outputs: Float[Array, "batch contexts"], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`. `accuracy` is how often the true context's logit is above all the others."""
        weights, outputs = batch["weights"], outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))
        seen, drawn = jax.nn.log_sigmoid(outputs[:, 0]), jax.nn.log_sigmoid(-outputs[:, 1:])
        losses = -seen - drawn.sum(axis=-1)
        first = (outputs[:, :1] > outputs[:, 1:]).all(axis=-1).astype(jnp.float32)
        loss_sum, count = weighted_sum(losses, weights), weights.sum()
        return (loss_sum, count), {"loss": (loss_sum, count), "accuracy": (weighted_sum(first, weights), count)}

    def metrics(self, outputs: Float[Array, "batch contexts"], batch: Batch) -> Sums:
        """See `Task.metrics`."""
        return self.loss(outputs, batch)[1]

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns loss and accuracy; at random the accuracy is 1 / (1 + k)."""
        return {name: float(mean(pair)) for name, pair in sums.items() if name in ("loss", "accuracy")}

    def predict(self, outputs: Float[Array, "batch contexts"], spec: Spec) -> dict[str, Array]:
        """Returns the `probabilities` (batch, 1 + k) that each was seen."""
        return {"probabilities": jax.nn.sigmoid(outputs.astype(jnp.float32))}

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        shape = output_shape(outputs)
        if shape is None or len(shape) != 2 or shape[1] < 2:
            what = "a true context and at least one of noise: outputs of shape (batch, 2 or more)"
            return f"NegativeSampling needs {what}; the model's are {said(outputs)}"
        return None

    def study(self, trained: Trained, split: str) -> Findings:
        """Returns a list of `neighbours_of` with the words that are nearest to each."""
        if not self.neighbours_of:
            return Findings()
        vectors = WordVectors.of(trained)
        width = max(map(len, self.neighbours_of))
        known = {word: _listed(vectors, word) for word in self.neighbours_of if word in vectors.words}
        lines = [f"{word:<{width}}  {known.get(word, '(too rare to have a vector)')}\n" for word in self.neighbours_of]
        return Findings(texts={"neighbours": "".join(lines)})

    def answers(self, trained: Trained, path: str) -> Sequence[dict[str, Any]] | None:
        """Returns the nearest words of each word in a file, and the cosine of the nearest one.

        Raises:
          RequestError: the file cannot be read, or has a word that has no vector.
        """
        if not hasattr(trained.dataset, "words"):
            return None
        vectors, rows = WordVectors.of(trained), []
        for number, line in enumerate(read_text(path, "--input").splitlines(), 1):
            for word in line.lower().split():
                try:
                    found = vectors.nearest(word, _NEAREST)
                except RequestError as error:
                    raise RequestError(f"{Path(path)}, line {number}: {error}") from None
                rows.append({"input": word, "nearest": [near for near, _ in found], "cosine": found[0][1]})
        return rows

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "loss", "min"


def _listed(vectors: WordVectors, word: str) -> str:
    return ", ".join(near for near, _ in vectors.nearest(word, _NEAREST))
