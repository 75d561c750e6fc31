"""A text of unknown length, read off a row of logits."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from neuralmon.data import Batch, Spec
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import mean, weighted_sum
from neuralmon.tasks.task import Sums


@dataclasses.dataclass(frozen=True)
class CTC:
    """Logits (batch, columns, classes + 1) against strings (batch, length): classes, and -1 behind a string's end.

    The last logit is the blank's: nothing is said here. A path says one class or the blank at each column; what it
    spells is the path with repeated classes made one and blanks left out, so that a class said twice in a string has a
    blank in between. The loss is -log of the sum of the probabilities of all paths that spell the target. Where a
    column looks, nobody has to say.

    Strings are decoded by the best path: the likeliest class of each column (Graves et al., sec. 3.2).

    Source: Graves, Fernandez, Gomez & Schmidhuber, "Connectionist Temporal Classification: Labelling Unsegmented
    Sequence Data with Recurrent Neural Networks", ICML 2006, eqs. 5 to 8.
    """

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`: the classes and the blank."""
        return None if spec.num_classes is None else spec.num_classes + 1

    def loss(self, outputs: Float[Array, "batch columns outputs"], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`. `exact` counts the strings that are spelt without a mistake."""
        targets, weights = batch["targets"], batch["weights"]
        padding = (targets < 0).astype(jnp.float32)
        logits = outputs.astype(jnp.float32)
        losses = optax.ctc_loss(
            logits, jnp.zeros(logits.shape[:2]), jnp.maximum(targets, 0), padding, blank_id=logits.shape[-1] - 1
        )
        loss_sum, count = weighted_sum(losses, weights), weights.sum()
        exact = (edit_distance(best_path(outputs), targets) == 0).astype(jnp.float32)
        return (loss_sum, count), {"loss": (loss_sum, count), "exact": (weighted_sum(exact, weights), count)}

    def metrics(self, outputs: Float[Array, "batch columns outputs"], batch: Batch) -> Sums:
        """See `Task.metrics`. `character_errors` are edits against characters."""
        _, sums = self.loss(outputs, batch)
        targets, weights = batch["targets"], batch["weights"]
        edits = edit_distance(best_path(outputs), targets).astype(jnp.float32)
        characters = (targets >= 0).sum(axis=1).astype(jnp.float32)
        return {**sums, "character_errors": (weighted_sum(edits, weights), weighted_sum(characters, weights))}

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns loss, exact and, from evaluations, character_error_rate.

        `exact` is the fraction of strings without a mistake; the character error rate is the number of characters that
        have to be put in, taken out or replaced, over the number of characters in the targets.
        """
        result = {name: float(mean(sums[name])) for name in ("loss", "exact")}
        if "character_errors" in sums:
            result["character_error_rate"] = float(mean(sums["character_errors"]))
        return result

    def predict(self, outputs: Float[Array, "batch columns outputs"], spec: Spec) -> dict[str, Array]:
        """Returns `string` (batch, columns), classes and behind them -1, and the best path's `probability` (batch,)."""
        best = jax.nn.log_softmax(outputs.astype(jnp.float32)).max(axis=-1)
        return {"string": best_path(outputs), "probability": jnp.exp(best.sum(axis=-1))}

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        targets, classes = target_shape(spec), spec.num_classes
        if classes is None or targets is None or len(targets) != 1:
            return f"CTC needs strings of classes as targets, (length,); this data has {targets or 'none'}"
        shape = output_shape(outputs)
        if shape is None or len(shape) != 3 or shape[2] != classes + 1:
            what = f"CTC of {classes} classes and a blank needs outputs of shape (batch, columns, {classes + 1})"
            return f"{what}; the model's are {said(outputs)}"
        if shape[1] < (needed := 2 * targets[0] - 1):
            what = f"{shape[1]} columns cannot spell all strings of {targets[0]} characters"
            return f"{what}, which take up to {needed} with the blanks between equal ones: let the model pool less"
        return None

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "exact", "max"


def best_path(logits: Float[Array, "batch columns outputs"]) -> Int[Array, "batch columns"]:
    """Returns what the likeliest class of each column spells, and behind it -1; the last output is the blank."""
    said = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    before = jnp.pad(said, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    kept = (said != before) & (said != logits.shape[-1] - 1)
    # Each kept one goes to the place that as many kept ones are before; the others beyond the end, where they are lost.
    places = jnp.where(kept, jnp.cumsum(kept, axis=1) - 1, said.shape[1])
    rows = jnp.arange(len(said))[:, None]
    return jnp.full_like(said, -1).at[rows, places].set(said, mode="drop")


def edit_distance(found: Int[Array, "batch m"], wanted: Int[Array, "batch n"]) -> Int[Array, " batch"]:
    """Returns how many characters have to be put in, taken out or replaced; -1 is behind a string's end.

    Source: Levenshtein, "Binary codes capable of correcting deletions, insertions and reversals", 1966.
    """
    index = jnp.arange(wanted.shape[1] + 1)

    def read(row: Int[Array, "batch n+1"], character: Int[Array, " batch"]) -> tuple[Array, None]:
        replaced = row[:, :-1] + (wanted != character[:, None])
        best = jnp.concatenate([row[:, :1] + 1, jnp.minimum(row[:, 1:] + 1, replaced)], axis=1)
        # Putting in what is missing costs 1 from left to right: a running minimum of what is left of it.
        best = jax.lax.cummin(best - index, axis=1) + index
        return jnp.where(character[:, None] < 0, row, best), None

    first = jnp.broadcast_to(index, (len(wanted), len(index)))
    last, _ = jax.lax.scan(read, first, found.T)
    length = (wanted >= 0).sum(axis=1, keepdims=True)
    return jnp.take_along_axis(last, length, axis=1)[:, 0]
