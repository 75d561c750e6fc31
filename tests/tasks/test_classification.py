"""Classification against scikit-learn and the closed form of its gradient."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sklearn_metrics

from neuralmon.data import Mnist, Spec
from neuralmon.tasks import Classification, Task


def draw(seed, examples, classes, ties=False, occurring=None, padding=0):
    """Logits and a batch; with `ties` many logits are equal, targets are below `occurring`, the end is padding."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(examples, classes)) * 2
    if ties:
        logits = np.round(logits)
    weights = np.ones(examples, np.float32)
    weights[examples - padding :] = 0
    targets = generator.integers(0, occurring or classes, examples).astype(np.int32)
    return logits.astype(np.float32), {"targets": targets, "weights": weights}


CASES = {
    "10 classes": draw(0, 200, 10),
    "ties": draw(1, 300, 10, ties=True),
    "absent classes": draw(2, 50, 12, occurring=4, padding=3),
    "absent and never predicted": draw(3, 6, 30, ties=True, occurring=3),
    "padding": draw(4, 64, 7, padding=20),
    "two classes": draw(5, 40, 2),
    "five classes": draw(6, 40, 5, ties=True),
}
SPECS = {
    classes: Spec(features={}, sizes={}, class_names=tuple(f"class {index}" for index in range(classes)))
    for classes in (2, 3, 5, 6, 7, 10, 12, 30)
}
cases = pytest.mark.parametrize("case", CASES)
smoothings = pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])


@jax.jit
def loss_and_gradient(smoothing, logits, batch):
    """Returns the sum and the count of the loss, and the sum's gradient by the logits."""

    def loss(logits):
        total, count = Classification(label_smoothing=smoothing).loss(logits, batch)[0]
        return total, count

    (total, count), gradient = jax.value_and_grad(loss, has_aux=True)(logits)
    return total, count, gradient


@jax.jit
def metrics(logits, batch):
    return Classification().metrics(logits, batch)


def evaluate(case):
    logits, batch = CASES[case]
    return Classification().report(jax.device_get(metrics(logits, batch)), SPECS[logits.shape[1]])


def counted(case):
    """Logits in float64 and targets without the padding."""
    logits, batch = CASES[case]
    real = batch["weights"] == 1
    return logits[real].astype(np.float64), batch["targets"][real]


def target_distribution(targets, classes, smoothing):
    return np.eye(classes)[targets] * (1 - smoothing) + smoothing / classes


@cases
def test_loss_is_sklearns_log_loss(case):
    logits, targets = counted(case)
    expected = sklearn_metrics.log_loss(targets, softmax(logits, axis=1), labels=np.arange(logits.shape[1]))
    assert evaluate(case)["loss"] == pytest.approx(expected, rel=1e-5)


@cases
@smoothings
def test_loss_is_the_cross_entropy_of_the_smoothed_distribution(case, smoothing):
    logits, targets = counted(case)
    distribution = target_distribution(targets, logits.shape[1], smoothing)
    expected = -(distribution * np.log(softmax(logits, axis=1))).sum(axis=1)
    loss_sum, count, _ = loss_and_gradient(smoothing, *CASES[case])
    assert float(loss_sum) == pytest.approx(expected.sum(), rel=1e-5)
    assert float(count) == len(targets)


@cases
@smoothings
def test_gradient_is_softmax_minus_target(case, smoothing):
    logits, batch = CASES[case]
    gradient = loss_and_gradient(smoothing, logits, batch)[2]
    distribution = target_distribution(batch["targets"], logits.shape[1], smoothing)
    expected = (softmax(logits.astype(np.float64), axis=1) - distribution) * batch["weights"][:, None]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


@cases
def test_accuracy_top5_and_confusion_are_sklearns(case):
    logits, targets = counted(case)
    classes = logits.shape[1]
    report = evaluate(case)
    predicted = logits.argmax(axis=1)
    assert report["accuracy"] == sklearn_metrics.accuracy_score(targets, predicted)
    confusion = sklearn_metrics.confusion_matrix(targets, predicted, labels=np.arange(classes))
    np.testing.assert_array_equal(report["confusion"], confusion)
    if classes <= 5:
        assert "top5" not in report
        return
    # Of tied classes scikit-learn takes those with larger indices, we those with smaller ones, as argmax does.
    expected = sklearn_metrics.top_k_accuracy_score(
        classes - 1 - targets, logits[:, ::-1], k=5, labels=np.arange(classes)
    )
    assert report["top5"] == pytest.approx(expected, rel=1e-6)


@cases
def test_precision_recall_and_f1_are_sklearns(case):
    logits, targets = counted(case)
    labels = np.arange(logits.shape[1])
    report = evaluate(case)
    arguments = {"labels": labels, "zero_division": 0}
    expected = sklearn_metrics.precision_recall_fscore_support(targets, logits.argmax(axis=1), **arguments)
    names = ("precision", "recall", "f1", "examples")
    assert list(report["per_class"]) == [f"class {index}" for index in labels]
    for row, *values in zip(report["per_class"].values(), *expected, strict=True):
        assert row == pytest.approx(dict(zip(names, values, strict=True)))
    macro = sklearn_metrics.precision_recall_fscore_support(
        targets, logits.argmax(axis=1), average="macro", **arguments
    )
    assert [report[name] for name in names[:3]] == pytest.approx(macro[:3])


@pytest.mark.parametrize("case", ["ties", "absent classes", "padding"])
def test_sums_of_the_parts_are_the_sums_of_the_whole(case):
    logits, batch = CASES[case]
    whole = metrics(logits, batch)
    parts = [
        metrics(logits[part], {name: array[part] for name, array in batch.items()})
        for part in np.split(np.arange(len(logits)), [len(logits) // 3, len(logits) - 2])
    ]
    total = jax.tree.map(lambda *leaves: sum(leaves), *parts)
    assert float(total["loss"][0]) == pytest.approx(float(whole["loss"][0]), rel=1e-5)
    for name in ("accuracy", "top5", "confusion"):
        np.testing.assert_array_equal(total[name][0], whole[name][0])
    for name in whole:
        assert float(total[name][1]) == float(whole[name][1]) == batch["weights"].sum()


def test_counts_in_the_confusion_matrix_are_exact_beyond_float32():
    task = Classification()
    sums = task.metrics(*CASES["10 classes"])
    assert sums["confusion"][0].dtype == jnp.int32
    big = {**sums, "confusion": (np.zeros((10, 10), np.int32), np.float32(2**24))}
    big["confusion"][0][0, :2] = 2**24 + 1, 1
    assert task.report(big, SPECS[10])["accuracy"] == (2**24 + 1) / (2**24 + 2)


@cases
def test_reports_are_json(case):
    report = evaluate(case)
    assert json.loads(json.dumps(report)) == report


def test_a_report_of_training_sums_has_no_tables():
    task = Classification()
    sums = jax.device_get(task.loss(*CASES["padding"])[1])
    report = task.report(sums, SPECS[7])
    assert set(report) == {"loss", "accuracy"}
    assert report["accuracy"] == pytest.approx(evaluate("padding")["accuracy"], rel=1e-6)


def test_without_class_names_classes_are_numbered():
    task = Classification()
    sums = jax.device_get(task.metrics(*CASES["two classes"]))
    assert list(task.report(sums, Spec(features={}, sizes={}))["per_class"]) == ["0", "1"]


def test_padding_counts_for_nothing_whatever_it_holds():
    logits, batch = CASES["padding"]
    padded = batch["weights"] == 0
    other = np.where(padded[:, None], 1e4, logits).astype(np.float32)
    others = {**batch, "targets": np.where(padded, 0, batch["targets"])}
    jax.tree.map(np.testing.assert_array_equal, metrics(logits, batch), metrics(other, others))


def test_masked_classes_do_no_harm():
    """Logits of -inf have probability 0."""
    logits, batch = CASES["absent classes"]
    masked = logits.copy()
    masked[:, 6:] = -np.inf
    loss_sum, _, gradient = loss_and_gradient(0.0, masked, batch)
    expected = -np.log(softmax(logits[:, :6].astype(np.float64), axis=1))[np.arange(50), batch["targets"]]
    assert float(loss_sum) == pytest.approx((expected * batch["weights"]).sum(), rel=1e-5)
    unmasked = loss_and_gradient(0.0, logits[:, :6], batch)[2]
    np.testing.assert_allclose(gradient[:, :6], unmasked, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(gradient[:, 6:], 0)


def test_a_diverged_model_does_not_look_good():
    logits, batch = CASES["10 classes"]
    sums = metrics(np.full_like(logits, np.nan), batch)
    assert np.isnan(sums["loss"][0])
    assert float(sums["top5"][0]) == 0


def test_half_precision_outputs_lose_nothing_in_the_loss():
    logits, batch = CASES["10 classes"]
    half = jnp.asarray(logits, jnp.bfloat16)
    expected = Classification().loss(half.astype(jnp.float32), batch)[0]
    assert Classification().loss(half, batch)[0] == expected


def test_predictions_are_the_softmax_and_its_maximum():
    logits, _ = CASES["ties"]
    prediction = Classification().predict(logits, SPECS[10])
    np.testing.assert_array_equal(prediction["class"], logits.argmax(axis=1))
    np.testing.assert_allclose(prediction["probabilities"], softmax(logits, axis=1), rtol=1e-5)


def test_smoothing_is_a_number_of_the_program():
    traces = []

    @jax.jit
    def loss(smoothing):
        traces.append(smoothing)
        return Classification(label_smoothing=smoothing).loss(*CASES["10 classes"])[0][0]

    losses = [float(loss(smoothing)) for smoothing in (0.0, 0.1, 0.5)]
    assert losses[2] == pytest.approx(float(Classification(label_smoothing=0.5).loss(*CASES["10 classes"])[0][0]))
    assert len(set(losses)) == 3
    assert len(traces) == 1


def test_check_says_what_does_not_fit():
    task = Classification()
    assert isinstance(task, Task)
    assert task.monitor() == ("accuracy", "max")

    def outputs(*shape):
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    spec = Mnist().spec()
    assert task.check(outputs(8, 10), spec) is None
    for wrong in ((8, 11), (8, 1), (8,), (8, 4, 10)):
        message = task.check(outputs(*wrong), spec)
        assert "(batch, 10)" in message
        assert str(wrong) in message
    message = task.check({"mean": outputs(8, 2), "logits": outputs(8, 10)}, spec)
    assert "(batch, 10)" in message
    assert "'mean': (8, 2)" in message
    assert "needs data with classes" in task.check(outputs(8, 10), Spec(features={}, sizes={}))
