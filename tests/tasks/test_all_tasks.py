"""What every task keeps to."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.data import Spec
from neuralmon.tasks import (
    BinaryClassification,
    Classification,
    LanguageModel,
    MultiLabel,
    Regression,
    SequenceToSequence,
    Task,
)

GENERATOR = np.random.default_rng(0)
SIZE = 60


def spec_of(shape, names=(), dtype=np.int32):
    features = {"targets": jax.ShapeDtypeStruct(shape, dtype)}
    return Spec(
        features=features, sizes={}, class_names=tuple(f"name {index}" for index in range(names)) if names else ()
    )


def normal(*shape):
    return GENERATOR.normal(size=shape).astype(np.float32)


# A task, the data's spec, outputs, targets, and the numbers among its fields.
TASKS = {
    "classification": (
        Classification(label_smoothing=0.1), spec_of((), 7), normal(SIZE, 7), GENERATOR.integers(0, 7, SIZE)
    ),
    "binary": (
        BinaryClassification(label_smoothing=0.1, positive_weight=2.0),
        spec_of((), 2), normal(SIZE), GENERATOR.integers(0, 2, SIZE),
    ),
    "binary with an axis": (
        BinaryClassification(), spec_of((), 2), normal(SIZE, 1), GENERATOR.integers(0, 2, SIZE)
    ),
    "perceptrons": (
        Classification(objective="perceptron"), spec_of((), 7), normal(SIZE, 7), GENERATOR.integers(0, 7, SIZE)
    ),
    "one perceptron": (
        BinaryClassification(positive_weight=2.0, objective="perceptron"),
        spec_of((), 2), normal(SIZE, 1), GENERATOR.integers(0, 2, SIZE),
    ),
    "multi-label": (
        MultiLabel(label_smoothing=0.1, positive_weight=2.0),
        spec_of((5,), 5), normal(SIZE, 5), GENERATOR.integers(0, 2, (SIZE, 5)),
    ),
    "regression": (
        Regression(), dataclasses.replace(spec_of((), dtype=np.float32), target_mean=(3.0,), target_stddev=(2.0,)),
        normal(SIZE, 1), normal(SIZE),
    ),
    "regression of three": (
        Regression(objective="mae"), spec_of((3,), dtype=np.float32), normal(SIZE, 3), normal(SIZE, 3)
    ),
    "language model": (
        LanguageModel(label_smoothing=0.1, pad_id=0), dataclasses.replace(spec_of((4,)), vocab_size=5),
        normal(SIZE, 4, 5), GENERATOR.integers(0, 5, (SIZE, 4)),
    ),
    "sequence to sequence": (
        SequenceToSequence(), dataclasses.replace(spec_of((4,)), vocab_size=5),
        normal(SIZE, 4, 5), GENERATOR.integers(0, 5, (SIZE, 4)),
    ),
    "huber": (Regression(objective="huber", delta=0.5), spec_of((), dtype=np.float32), normal(SIZE), normal(SIZE)),
}  # fmt: skip
tasks = pytest.mark.parametrize("name", TASKS)


def batch_of(name, weights=None):
    return {"targets": TASKS[name][3], "weights": np.ones(SIZE, np.float32) if weights is None else np.float32(weights)}


def rows_of(batch, rows):
    return {name: array[rows] for name, array in batch.items()}


# Compiled once for all tests.
METRICS = {name: jax.jit(task.metrics) for name, (task, *_) in TASKS.items()}
LOSS = {name: jax.jit(task.loss) for name, (task, *_) in TASKS.items()}


def evaluate(name, outputs, batch):
    task, spec, *_ = TASKS[name]
    return task.report(jax.device_get(METRICS[name](outputs, batch)), spec)


def flat(report):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(report)}


@tasks
def test_tasks_keep_the_protocol_and_fit_their_data(name):
    task, spec, outputs, _ = TASKS[name]
    assert isinstance(task, Task)
    assert dataclasses.replace(task) == task
    assert task.check(jax.ShapeDtypeStruct(outputs.shape, outputs.dtype), spec) is None
    assert task.num_outputs(spec) == (outputs.shape[-1] if outputs.ndim > 1 else 1)
    monitored, direction = task.monitor()
    assert isinstance(evaluate(name, outputs, batch_of(name))[monitored], float)
    assert direction == ("min" if isinstance(task, Regression | LanguageModel | SequenceToSequence) else "max")


@tasks
def test_reports_are_json_of_floats_and_tables(name):
    report = evaluate(name, TASKS[name][2], batch_of(name))
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert next(iter(report)) == "loss"
    for value in report.values():
        if isinstance(value, dict):
            columns = [list(row) for row in value.values()]
            assert all(row == columns[0] for row in columns)
            assert all(isinstance(cell, int | float) for row in value.values() for cell in row.values())
        else:
            assert isinstance(value, float | list)


@tasks
@pytest.mark.parametrize("batch_size", [7, 25, 59])
def test_however_the_data_is_cut_and_padded_the_report_is_the_same(name, batch_size):
    """As `evaluation_batch` does it: a padded example repeats the last one."""
    task, spec, outputs, _ = TASKS[name]
    whole = flat(evaluate(name, outputs, batch_of(name)))
    totals = None
    for start in range(0, SIZE, batch_size):
        positions = start + np.arange(batch_size)
        rows = np.minimum(positions, SIZE - 1)
        batch = {**rows_of(batch_of(name), rows), "weights": (positions < SIZE).astype(np.float32)}
        sums = jax.device_get(METRICS[name](outputs[rows], batch))
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    assert flat(task.report(totals, spec)) == pytest.approx(whole, rel=2e-6)


@tasks
def test_padding_counts_for_nothing_whatever_it_holds(name):
    _, _, outputs, targets = TASKS[name]
    weights = np.arange(SIZE) % 3 > 0
    column = weights.reshape(-1, *[1] * (outputs.ndim - 1))
    others = np.where(column, outputs, 1e4).astype(np.float32)
    other_targets = np.where(weights.reshape(-1, *[1] * (targets.ndim - 1)), targets, 1).astype(targets.dtype)
    batch = batch_of(name, weights)
    expected = METRICS[name](outputs, batch)
    sums = METRICS[name](others, {**batch, "targets": other_targets})
    jax.tree.map(np.testing.assert_array_equal, sums, expected)


@tasks
def test_fractional_weights_weigh_losses_and_metrics(name):
    """What is weighed double counts double, and a common factor, however small, is nothing to a mean."""
    task, spec, outputs, _ = TASKS[name]
    twice = np.concatenate([np.arange(SIZE), np.arange(0, SIZE, 2)])
    weights = np.where(np.arange(SIZE) % 2 == 0, 2.0, 1.0) / 1024
    (loss_sum, count), sums = LOSS[name](outputs, batch_of(name, weights))
    (expected_sum, expected_count), expected = LOSS[name](outputs[twice], rows_of(batch_of(name), twice))
    assert float(loss_sum / count) == pytest.approx(float(expected_sum / expected_count), rel=1e-5)
    reports = [task.report(jax.device_get(each), spec) for each in (sums, expected)]
    assert reports[0] == pytest.approx(reports[1], rel=1e-5)


@tasks
def test_training_metrics_are_the_evaluations(name):
    task, spec, outputs, _ = TASKS[name]
    report = task.report(jax.device_get(LOSS[name](outputs, batch_of(name))[1]), spec)
    evaluation = evaluate(name, outputs, batch_of(name))
    assert all(isinstance(value, float) for value in report.values())
    assert report == pytest.approx({key: evaluation[key] for key in report}, rel=1e-5)


@tasks
def test_nothing_is_not_a_good_result(name):
    task, spec, outputs, _ = TASKS[name]
    sums = jax.device_get(LOSS[name](outputs, batch_of(name, np.zeros(SIZE)))[1])
    assert np.isnan(task.report(sums, spec)["loss"])


@tasks
def test_half_precision_outputs_lose_nothing_in_the_loss(name):
    half = jnp.asarray(TASKS[name][2], jnp.bfloat16)
    assert LOSS[name](half, batch_of(name))[0] == LOSS[name](half.astype(jnp.float32), batch_of(name))[0]


@tasks
def test_numbers_may_be_traced(name):
    task, _, outputs, _ = TASKS[name]
    idle = {"objective", "beam_size", "length_penalty", "bleu"} | (
        {"label_smoothing"} if "perceptron" in name else set()
    )
    numbers = {f.name: getattr(task, f.name) for f in dataclasses.fields(task) if f.name not in idle}
    traces = []

    @jax.jit
    def compiled(numbers):
        traces.append(numbers)
        return dataclasses.replace(task, **numbers).metrics(outputs, batch_of(name))["loss"][0]

    given = {key: np.float32(value) for key, value in numbers.items()}
    assert float(compiled(given)) == pytest.approx(float(LOSS[name](outputs, batch_of(name))[0][0]), rel=1e-5)
    others = [float(compiled({**given, key: np.float32(0.25)})) for key in numbers]
    if name not in ("regression", "regression of three"):
        assert all(other != float(compiled(given)) for other in others)
    assert len(traces) == 1


NUMBERS, CLASSES, PAIR, LABELS = spec_of((), dtype=np.float32), spec_of((), 10), spec_of((), 2), spec_of((4,), 4)
EMPTY = Spec(features={}, sizes={})
WRONG = [
    (Classification(), (8, 11), CLASSES, "(batch, 10); the model's are (8, 11)"),
    (Classification(), (8, 10), NUMBERS, "needs data with classes, and this data has none"),
    (Classification(), (8, 4), LABELS, "one class an example; this data has targets (4,): use MultiLabel"),
    (BinaryClassification(), (8, 2), PAIR, "(batch, 1) or (batch,); the model's are (8, 2)"),
    (BinaryClassification(), (8, 2), PAIR, "Classification for two logits"),
    (BinaryClassification(), (8, 1, 1), PAIR, "the model's are (8, 1, 1)"),
    (BinaryClassification(), (), PAIR, "the model's are ()"),
    (BinaryClassification(), (8, 1), CLASSES, "data of two classes, and this data has 10: use Classification"),
    (BinaryClassification(), (8, 1), spec_of((), 1), "data of two classes, and this data has 1"),
    (BinaryClassification(), (8, 1), NUMBERS, "data of two classes, and this data has none: use Regression"),
    (BinaryClassification(), (8, 1), LABELS, "this data has targets (4,): use MultiLabel"),
    (MultiLabel(), (8, 5), LABELS, "(batch, 4); the model's are (8, 5)"),
    (MultiLabel(), (8,), LABELS, "(batch, 4); the model's are (8,)"),
    (MultiLabel(), (8, 10), CLASSES, "one class an example: use Classification"),
    (MultiLabel(), (8, 4), spec_of((4,)), "no names: use Regression"),
    (MultiLabel(), (8, 4), spec_of((3,), 4), "the 4 labels; this data's targets have shape (3,)"),
    (Regression(), (8, 1), CLASSES, "this data's are 10 classes: use Classification"),
    (Regression(), (8, 4), LABELS, "this data's are 4 classes: use MultiLabel"),
    (Regression(), (8, 2), NUMBERS, "1 number needs outputs of shape (batch, 1) or (batch,); the model's are (8, 2)"),
    (Regression(), (8,), spec_of((3,)), "3 numbers needs outputs of shape (batch, 3); the model's are (8,)"),
    (Regression(), (), NUMBERS, "the model's are ()"),
    (Regression(), (8, 1), EMPTY, "this data has none"),
]


@pytest.mark.parametrize(("task", "shape", "spec", "said"), WRONG)
def test_checks_say_what_does_not_fit(task, shape, spec, said):
    message = task.check(jax.ShapeDtypeStruct(shape, jnp.float32), spec)
    assert said in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("task", "spec"),
    [(Classification(), CLASSES), (BinaryClassification(), PAIR), (MultiLabel(), LABELS), (Regression(), NUMBERS)],
)
def test_checks_say_the_shapes_of_several_outputs(task, spec):
    outputs = {"mean": jax.ShapeDtypeStruct((8, 2), jnp.float32)}
    assert "{'mean': (8, 2)}" in task.check(outputs, spec)


@pytest.mark.parametrize(("task", "count"), [(Regression(), None), (MultiLabel(), None), (BinaryClassification(), 1)])
def test_the_number_of_outputs_is_left_open_where_the_data_does_not_say_it(task, count):
    assert task.num_outputs(EMPTY) == count


def test_wrong_outputs_are_never_spread_over_targets():
    batch = {"targets": np.zeros((4, 3), np.int32), "weights": np.ones(4, np.float32)}
    with pytest.raises(ValueError, match="differ in shape"):
        MultiLabel().loss(np.zeros((4, 1), np.float32), batch)
    with pytest.raises((TypeError, ValueError)):
        BinaryClassification().loss(np.zeros((4, 2), np.float32), {**batch, "targets": np.zeros(4, np.int32)})
