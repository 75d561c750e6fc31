"""BinaryClassification against scikit-learn, the closed form of its gradient, and PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sklearn_metrics

from neuralmon.data import Spec
from neuralmon.tasks import BinaryClassification, Classification

TARGETS = {"targets": jax.ShapeDtypeStruct((), np.int32)}
SPEC = Spec(features=TARGETS, sizes={}, class_names=("no", "yes"))


def draw(seed, examples, rate=0.5, ties=False, padding=0, axis=False, dtype=np.int32):
    generator = np.random.default_rng(seed)
    targets = (generator.random(examples) < rate).astype(dtype)
    logits = 2 * generator.normal(size=examples) + targets
    logits = (np.round(logits) if ties else logits).astype(np.float32)
    weights = (np.arange(examples) < examples - padding).astype(np.float32)
    return logits[:, None] if axis else logits, {"targets": targets, "weights": weights}


CASES = {
    "even": draw(0, 400),
    "rare": draw(1, 600, rate=0.02),
    "ties, some at 0": draw(2, 300, ties=True, axis=True),
    "padding": draw(3, 64, padding=20, axis=True),
    "uint8 targets": draw(4, 100, dtype=np.uint8),
    "bool targets": draw(5, 100, dtype=np.bool_, padding=1),
}
cases = pytest.mark.parametrize("case", CASES)


@jax.jit
def loss_and_gradient(smoothing, positive_weight, logits, batch):
    """Returns the sum and the count of the loss, and the sum's gradient by the logits."""
    task = BinaryClassification(label_smoothing=smoothing, positive_weight=positive_weight)
    (total, count), gradient = jax.value_and_grad(lambda x: task.loss(x, batch)[0], has_aux=True)(logits)
    return total, count, gradient


@jax.jit
def metrics(logits, batch):
    return BinaryClassification().metrics(logits, batch)


def report(logits, batch, spec=SPEC):
    return BinaryClassification().report(jax.device_get(metrics(logits, batch)), spec)


def counted(case):
    """Logits in float64 and targets without the padding."""
    logits, batch = CASES[case]
    real = batch["weights"] == 1
    return logits.reshape(-1)[real].astype(np.float64), batch["targets"][real].astype(int)


@cases
@pytest.mark.parametrize(("smoothing", "positive_weight"), [(0.0, 1.0), (0.1, 1.0), (0.0, 3.0), (1.0, 0.5)])
def test_loss_and_gradient_are_those_of_the_definition(case, smoothing, positive_weight):
    logits, batch = CASES[case]
    x = logits.reshape(-1).astype(np.float64)
    t = (1 - smoothing) * batch["targets"] + smoothing / 2
    loss_sum, count, gradient = loss_and_gradient(smoothing, positive_weight, logits, batch)
    losses = positive_weight * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    assert float(loss_sum) == pytest.approx((losses * batch["weights"]).sum(), rel=1e-5)
    assert float(count) == batch["weights"].sum()
    expected = (positive_weight * t * (expit(x) - 1) + (1 - t) * expit(x)) * batch["weights"]
    np.testing.assert_allclose(gradient.reshape(-1), expected, rtol=1e-4, atol=1e-6)


def test_loss_and_gradient_are_torchs():
    torch = pytest.importorskip("torch")
    logits, batch = CASES["even"]
    given = torch.tensor(logits, requires_grad=True)
    function = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.5), reduction="sum")
    expected = function(given, torch.tensor(batch["targets"]).float())
    expected.backward()
    loss_sum, _, gradient = loss_and_gradient(0.0, 2.5, logits, batch)
    assert float(loss_sum) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, given.grad.numpy(), rtol=1e-4, atol=1e-6)


@cases
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_loss_is_that_of_classification_with_two_logits(case, smoothing):
    logits, batch = CASES[case]
    both = jnp.stack([jnp.zeros(len(logits)), logits.reshape(-1)], axis=-1)
    batch = {**batch, "targets": batch["targets"].astype(np.int32)}
    expected = Classification(label_smoothing=smoothing).loss(both, batch)[0][0]
    assert float(loss_and_gradient(smoothing, 1.0, logits, batch)[0]) == pytest.approx(float(expected), rel=1e-5)


@cases
def test_reports_are_sklearns(case):
    logits, targets = counted(case)
    predicted = (logits > 0).astype(int)
    result = report(*CASES[case])
    assert result["loss"] == pytest.approx(sklearn_metrics.log_loss(targets, expit(logits)), rel=1e-5)
    assert result["accuracy"] == sklearn_metrics.accuracy_score(targets, predicted)
    assert result["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(targets, logits), abs=5e-5)
    expected = sklearn_metrics.average_precision_score(targets, logits)
    assert result["average_precision"] == pytest.approx(expected, abs=5e-5)
    np.testing.assert_array_equal(result["confusion"], sklearn_metrics.confusion_matrix(targets, predicted))
    scores = sklearn_metrics.precision_recall_fscore_support(targets, predicted, labels=[0, 1], zero_division=0)
    names = ("precision", "recall", "f1", "examples")
    assert list(result["per_class"]) == ["no", "yes"]
    for row, *values in zip(result["per_class"].values(), *scores, strict=True):
        assert row == pytest.approx(dict(zip(names, values, strict=True)))
    assert {name: result[name] for name in names[:3]} == {name: result["per_class"]["yes"][name] for name in names[:3]}


@cases
def test_reports_are_those_of_classification_with_two_logits(case):
    logits, batch = CASES[case]
    both = jnp.stack([jnp.zeros(len(logits)), logits.reshape(-1)], axis=-1)
    task, batch = Classification(), {**batch, "targets": batch["targets"].astype(np.int32)}
    expected = task.report(jax.device_get(task.metrics(both, batch)), SPEC)
    result = report(logits, batch)
    assert (result["per_class"], result["confusion"]) == (expected["per_class"], expected["confusion"])


@pytest.mark.parametrize("value", [0, 1])
def test_scores_of_ranking_are_left_out_if_only_one_class_occurs(value):
    logits, batch = CASES["padding"]
    # Targets of padding are no examples.
    targets = np.where(batch["weights"] > 0, value, 1 - value)
    result = report(logits, {**batch, "targets": targets})
    assert set(result) == {"loss", "accuracy", "precision", "recall", "f1", "per_class", "confusion"}
    if value == 0:
        assert (result["precision"], result["recall"], result["f1"]) == (0, 0, 0)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e30])
def test_extreme_logits(size):
    logits, targets = np.float32([size, -size, size, -size]), np.array([1, 0, 0, 1])
    batch = {"targets": targets, "weights": np.ones(4, np.float32)}
    loss_sum, _, gradient = loss_and_gradient(0.0, 1.0, logits, batch)
    assert float(loss_sum) == pytest.approx(2 * size, rel=1e-6)
    np.testing.assert_allclose(gradient, [0, 0, 1, -1], atol=1e-6)
    assert report(logits, batch)["roc_auc"] == 0.5


def test_a_diverged_model_does_not_look_good():
    logits, batch = CASES["even"]
    result = report(np.full_like(logits, np.nan), batch)
    assert np.isnan(result["loss"])
    assert (result["accuracy"], result["f1"], result["roc_auc"]) == (0, 0, 0)
    assert np.trace(result["confusion"]) == 0


def test_predictions_are_the_sigmoid_and_its_larger_side():
    logits, _ = CASES["ties, some at 0"]
    prediction = BinaryClassification().predict(logits, SPEC)
    x = logits[:, 0].astype(np.float64)
    np.testing.assert_array_equal(prediction["class"], x > 0)
    np.testing.assert_allclose(prediction["probabilities"], np.stack([expit(-x), expit(x)], axis=1), rtol=1e-5)
