"""Where a step stopped being finite: the step is done once more, and every layer watched.

Infinities count as not finite even where they are meant, such as -inf of a mask: the table says what is what.
"""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.data import Batch
from neuralmon.experiment import Experiment
from neuralmon.optim import freezing
from neuralmon.state import TrainState
from neuralmon.tasks import Update
from neuralmon.training.step import apply_model, batch_keys, batch_loss, model_inputs, own_update
from neuralmon.training.watching import Call, Seen, float_leaves, outputs_of, seen_leaves, watched_calls

_MAX_ROWS = 40


class _Found(Exception):  # noqa: N818 - it ends the hunt, and is no error
    """What was looked for; its text is the sentence."""


def hunt(experiment: Experiment, state: TrainState, batch: Batch) -> str:
    """Returns a sentence that names what was not finite first in a step, and a table of what every layer saw.

    In this order: the batch, the state, the prepared batch, the outputs of layers, the loss, the gradients from the
    loss backwards, the model's running statistics, the updates. It never raises: if the step cannot be done once more,
    the text says why.

    Args:
      experiment: what is run, resolved.
      state: the state just before the step.
      batch: the step's batch as stored: `inputs`, `targets`, `weights`.
    """
    rows: list[Seen] = []
    step = int(state.step)
    try:
        with np.errstate(all="ignore"):
            _replay(experiment, jax.device_get(state), jax.device_get(dict(batch)), rows)
        sentence = "done once more, all of it was finite: what the compiled step rounds differently decided, or chance"
    except _Found as found:
        sentence = str(found)
    except Exception as error:
        sentence = (
            f"it could not be done once more ({type(error).__name__}: {(str(error) or 'no text').splitlines()[0]})"
        )
    return "\n".join([f"step {step}: {sentence}", *_table(rows)])


def _replay(experiment: Experiment, state: TrainState, batch: Mapping[str, Any], rows: list[Seen]) -> None:
    """Does the step, fills `rows`, and raises `_Found` at the first thing that is not finite."""
    _check_batch("the data", "batch", batch, rows)
    before = {"parameter": state.params, "model state": state.model_state, "optimizer state": state.optimizer_state}
    for kind, tree in before.items():
        for seen in seen_leaves(kind, tree):
            if seen.bad:
                rows.append(seen)
                raise _Found(f"before the step, the {kind} '{seen.name}' was not finite already: {seen.count}")

    prepare_key, model_key = batch_keys(experiment.training.seed, state.step)
    prepared = jax.device_get(jax.jit(partial(experiment.dataset.prepare, train=True))(prepare_key, batch))
    _check_batch("what the dataset's `prepare` made", "prepared", prepared, rows)
    if (own := own_update(experiment)) is not None:
        _replay_own(own, experiment, state, prepared, model_key, rows)
        return
    trainable, frozen = freezing.partition(state.params, experiment.optimizer.frozen)
    model_state = state.model_state

    count = getattr(experiment.training, "micro_batches", 1)
    parts = jax.tree.map(lambda leaf: leaf.reshape(count, leaf.shape[0] // count, *leaf.shape[1:]), dict(prepared))
    total, weight = jax.tree.map(np.zeros_like, trainable), np.float32(0)
    gradient = jax.jit(jax.grad(partial(_loss, experiment), has_aux=True))
    for index in range(count):
        part = jax.tree.map(lambda leaf, index=index: leaf[index], parts)
        key = model_key if count == 1 else jax.random.fold_in(model_key, index)
        forward = partial(_forward, experiment)
        calls, (outputs, _) = watched_calls(forward, state.params, model_state, part, key)
        shown = list(outputs_of(calls))
        rows.extend(shown)
        _check_calls(calls)
        _check_loss(experiment, outputs, part, rows)
        gradients, (model_state, part_weight) = jax.device_get(gradient(trainable, frozen, model_state, part, key))
        _check_gradients(gradients, [seen.name for seen in shown], rows)
        for seen in seen_leaves("model state", model_state):
            if seen.bad:
                rows.append(seen)
                raise _Found(f"the model's new '{seen.name}' is the first that is not finite: {seen.count}")
        total = jax.tree.map(lambda total, gradient, w=part_weight: total + w * gradient, total, gradients)
        weight += part_weight

    gradients = jax.tree.map(lambda total: total / np.maximum(weight, np.float32(1e-8)), total)
    num_steps = experiment.training.num_steps(experiment.dataset.spec().sizes["train"])
    update = jax.jit(experiment.optimizer.transform(num_steps).update)
    updates, optimizer_state = jax.device_get(update(gradients, state.optimizer_state, trainable))
    params = jax.tree.map(np.add, trainable, updates)
    after = {"update": updates, "optimizer state": optimizer_state, "new parameter": params}
    for kind, tree in after.items():
        for seen in seen_leaves(kind, tree):
            if seen.bad:
                rows.append(seen)
                finite = "batch, outputs, loss and gradients are finite, but"
                raise _Found(f"{finite} the {kind} of '{seen.name}' is not: {seen.count}")


def _replay_own(
    update: Update, experiment: Experiment, state: TrainState, batch: Batch, key: Array, rows: list[Seen]
) -> None:
    """Does a step of a task with an update of its own: the model is watched, and what the update makes is looked at."""
    calls, (outputs, _) = watched_calls(partial(_forward, experiment), state.params, state.model_state, batch, key)
    rows.extend(outputs_of(calls))
    _check_calls(calls)
    _check_loss(experiment, outputs, batch, rows)
    done = jax.device_get(jax.jit(update.apply)(state.params, state.model_state, state.optimizer_state, key, batch))
    for kind, tree in zip(("new parameter", "model state", "optimizer state", "sum"), done, strict=True):
        for seen in seen_leaves(kind, tree):
            if seen.bad:
                rows.append(seen)
                finite = "batch, outputs and loss are finite before the update, but"
                raise _Found(f"{finite} the {kind} '{seen.name}' after it is not: {seen.count}")


def _loss(experiment: Experiment, trainable: Any, frozen: Any, model_state: Any, batch: Batch, key: Array) -> Any:
    """Returns the loss as the step does (see `make_step`), and (new model state, weight)."""
    params = freezing.combine(trainable, frozen)
    outputs, new_state = _forward(experiment, params, model_state, batch, key)
    (loss_sum, count), _ = batch_loss(experiment, outputs, batch)
    return loss_sum / jnp.maximum(count, 1e-8), (dict(new_state), count)


def _forward(experiment: Experiment, params: Any, model_state: Any, batch: Batch, key: Array) -> Any:
    variables = {"params": params, **model_state}
    options: dict[str, Any] = {"rngs": {"dropout": key}, "mutable": list(model_state)}
    inputs = model_inputs(experiment, batch, key)
    return apply_model(experiment.model, variables, inputs, train=True, **options)


def _check_calls(calls: list[Call]) -> None:
    """A module whose inputs are the first that is not finite is not to blame, but the one that called it."""
    kinds = {call.path: call.kind for call in calls}
    entered: dict[str, Seen] = {}
    for call in calls:
        if call.entering:
            entered[call.path] = call.seen
        if not call.seen.bad:
            continue
        culprit = call.within if call.entering else call.path
        name = f"'{culprit}' ({kinds.get(culprit, '?')})" if culprit else f"the model itself ({kinds.get('', '?')})"
        took = f", from inputs {entered[culprit].range}" if culprit in entered else ""
        if call.entering:
            what = f"what {name} computed before it called '{call.path}' ({call.kind}) is the first that is not finite"
        else:
            what = f"the output of {name} is the first that is not finite"
        others = f", the finite ones {call.seen.range}" if call.seen.bad < call.seen.size else ""
        raise _Found(f"{what}: {call.seen.count}{others}{took}")


def _check_batch(what: str, kind: str, batch: Mapping[str, Any], rows: list[Seen]) -> None:
    for name, feature in batch.items():
        for seen in seen_leaves(kind, {name: feature}):
            rows.append(seen)
            if seen.bad:
                bad = next(leaf for leaf in map(np.asarray, float_leaves(feature)) if not np.isfinite(leaf).all())
                examples = np.flatnonzero(~np.isfinite(bad.reshape(bad.shape[0], -1)).all(axis=1))
                raise _Found(f"{what} is not finite: '{seen.name}' of {_positions(examples)}, {seen.count}")


def _check_loss(experiment: Experiment, outputs: Any, batch: Batch, rows: list[Seen]) -> None:
    (loss_sum, count), _ = jax.jit(partial(batch_loss, experiment))(outputs, batch)
    (seen,) = seen_leaves("loss", {"loss": loss_sum})
    rows.append(seen)
    if not seen.bad:
        return

    def alone(output: Any, example: Any) -> Array:
        single = jax.tree.map(lambda leaf: leaf[None], (output, example))
        return batch_loss(experiment, *single)[0][0]

    text = "the model's outputs are finite, but the loss of them is not"
    with contextlib.suppress(Exception):  # not every task's loss is one of single examples
        bad = np.flatnonzero(~np.isfinite(jax.vmap(alone)(outputs, dict(batch))))
        targets = np.asarray(batch["targets"])[bad[:5]]
        said = f" (targets {targets.tolist()})" if targets.ndim == 1 else ""
        text += f": that of {_positions(bad)}{said}" if len(bad) else f": {float(loss_sum)} of weight {float(count)}"
    raise _Found(text)


def _check_gradients(gradients: Any, order: list[str], rows: list[Seen]) -> None:
    """Blames the gradient nearest to the loss: that of the module that was called last."""
    place = {name: index for index, name in enumerate(order)}

    def called(seen: Seen) -> int:
        return place.get(seen.name.rpartition("/")[0] or "(model)", -1)

    every = sorted(seen_leaves("gradient", gradients), key=called, reverse=True)
    rows.extend(every)
    first = next((seen for seen in every if seen.bad), None)
    if first is None:
        return
    nearer = [seen for seen in every if called(seen) > called(first)]
    between = f"; that of '{nearer[-1].name}', nearer to the loss, still is" if nearer else ""
    raise _Found(
        f"outputs and loss are finite, but the gradient of '{first.name}' is not: {first.count}{between}. "
        "What follows that layer has an infinite derivative here, such as a root or a norm at 0, or overflows backwards"
    )


def _positions(examples: np.ndarray) -> str:
    shown = ", ".join(map(str, examples[:5].tolist()))
    more = f" and {len(examples) - 5} more" if len(examples) > 5 else ""
    return f"example{'s' if len(examples) > 1 else ''} {shown}{more} of the batch (counted from 0)"


def _table(rows: list[Seen]) -> Iterator[str]:
    """Yields the lines of the table; of long ones, those around the first row that is not finite."""
    if not rows:
        return
    first = next((index for index, seen in enumerate(rows) if seen.bad), len(rows))
    start = max(0, min(first - _MAX_ROWS // 2, len(rows) - _MAX_ROWS))
    cells = [("", "what", "smallest", "largest", "not finite")]
    for seen in rows[start : start + _MAX_ROWS]:
        low, high = (f"{seen.low:.4g}", f"{seen.high:.4g}") if seen.low <= seen.high else ("-", "-")
        cells.append((seen.name, seen.kind, low, high, f"{seen.bad:,} of {seen.size:,}" if seen.bad else "0"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    yield ""
    for row in cells:
        yield "  ".join(
            f"{text:{side}{width}}" for text, width, side in zip(row, widths, "<<>>>", strict=True)
        ).rstrip()
    if len(rows) > _MAX_ROWS:
        yield f"({_MAX_ROWS} of {len(rows)} rows)"
