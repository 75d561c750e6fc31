"""What a trained language model expects, place by place, while it reads a text."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from neuralmon.inspection import with_train
from neuralmon.tasks.trained import Trained

_AT_ONCE = 2**24  # logits that are in memory at a time


def expectations(trained: Trained, path: str) -> Iterator[dict[str, Any]]:
    """Yields a row for each token of a text file.

    - `input`: which token it is, from 1 on;
    - `token`: its text;
    - `likeliest_next`: the text of the token that the model expects behind it, and `probability`, how surely;
    - `true_next_probability`: what the token that does follow has; None behind the last one.

    As in evaluations, each window of the text begins anew.
    """
    dataset: Any = trained.dataset
    vocabulary = dataset.vocabulary
    _, windows = dataset.read_inputs(path)
    size = max(1, _AT_ONCE // (dataset.context_length * vocabulary.size))
    place = 0
    for start in range(0, len(windows), size):
        part = windows[start : start + size]
        # The last part is filled up: another size would be compiled again.
        filled = part if len(windows) <= size else np.resize(part, (size, *part.shape[1:]))
        batch = dataset.prepare(jax.random.key(0), {"inputs": filled, "weights": np.ones(len(filled))}, False)
        inputs, targets = (np.asarray(batch[name])[: len(part)] for name in ("inputs", "targets"))
        found = jax.device_get(_read(trained.model, trained.variables, batch["inputs"], batch["targets"]))
        for row in range(len(part)):
            # Behind the end of the text there is nothing to follow.
            for column in range(1 + int((targets[row, :-1] >= 0).sum())):
                place += 1
                likeliest, probability, true = (values[row, column].item() for values in found)
                yield {
                    "input": place,
                    "token": vocabulary.label(inputs[row, column]),
                    "likeliest_next": vocabulary.label(likeliest),
                    "probability": probability,
                    "true_next_probability": true if targets[row, column] >= 0 else None,
                }


@partial(jax.jit, static_argnums=0)
def _read(
    model: nn.Module, variables: Any, inputs: Int[Array, "batch time"], targets: Int[Array, "batch time"]
) -> tuple[Int[Array, "batch time"], Float[Array, "batch time"], Float[Array, "batch time"]]:
    """Returns the likeliest token at each place, its probability and that of the target."""
    logits: Any = model.apply(variables, inputs, **with_train(model, {}, False))
    probabilities = jax.nn.softmax(logits.astype(jnp.float32))
    true = jnp.take_along_axis(probabilities, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return jnp.argmax(logits, axis=-1), probabilities.max(axis=-1), true
