"""MultiLabel against scikit-learn, the closed form of its gradient, and PyTorch."""

import jax
import numpy as np
import pytest
from scipy.special import expit
from sklearn import metrics as sklearn_metrics

from neuralmon.data import Spec
from neuralmon.tasks import BinaryClassification, MultiLabel


def spec_of(labels):
    features = {"targets": jax.ShapeDtypeStruct((labels,), np.int32)}
    return Spec(features=features, sizes={}, class_names=tuple(f"label {index}" for index in range(labels)))


def draw(seed, examples, labels, rate=0.4, grid=0.0, padding=0, dtype=np.int32, never=()):
    """Logits and a batch; with a `grid` logits are multiples of it, labels in `never` apply to no example."""
    generator = np.random.default_rng(seed)
    targets = generator.random((examples, labels)) < rate
    targets[:, list(never)] = False
    logits = 2 * generator.normal(size=(examples, labels)) + targets
    logits = np.round(logits / grid) * grid if grid else logits
    weights = (np.arange(examples) < examples - padding).astype(np.float32)
    return logits.astype(np.float32), {"targets": targets.astype(dtype), "weights": weights}


CASES = {
    "five labels": draw(0, 500, 5),
    "on a grid": draw(1, 300, 4, grid=0.25),
    "one label": draw(2, 100, 1),
    "padding": draw(3, 64, 6, padding=20, grid=0.5),
    "float targets": draw(4, 100, 3, dtype=np.float32),
    "bool targets": draw(5, 100, 3, dtype=np.bool_),
    "rare labels": draw(6, 300, 20, rate=0.02, never=(3, 19)),
    "many labels": draw(7, 40, 300, rate=0.05, grid=0.25),
}
cases = pytest.mark.parametrize("case", CASES)


@jax.jit
def loss_and_gradient(smoothing, positive_weight, logits, batch):
    task = MultiLabel(label_smoothing=smoothing, positive_weight=positive_weight)
    (total, count), gradient = jax.value_and_grad(lambda x: task.loss(x, batch)[0], has_aux=True)(logits)
    return total, count, gradient


@jax.jit
def metrics(logits, batch):
    return MultiLabel().metrics(logits, batch)


def report(logits, batch):
    return MultiLabel().report(jax.device_get(metrics(logits, batch)), spec_of(logits.shape[1]))


def counted(case):
    """Logits in float64 and targets without the padding."""
    logits, batch = CASES[case]
    real = batch["weights"] == 1
    return logits[real].astype(np.float64), batch["targets"][real].astype(int)


@cases
@pytest.mark.parametrize(("smoothing", "positive_weight"), [(0.0, 1.0), (0.1, 4.0)])
def test_loss_and_gradient_are_those_of_the_definition(case, smoothing, positive_weight):
    logits, batch = CASES[case]
    x, weights = logits.astype(np.float64), batch["weights"][:, None]
    t = (1 - smoothing) * batch["targets"] + smoothing / 2
    loss_sum, count, gradient = loss_and_gradient(smoothing, positive_weight, logits, batch)
    losses = positive_weight * t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x)
    assert float(loss_sum) == pytest.approx((losses.mean(axis=1, keepdims=True) * weights).sum(), rel=1e-5)
    assert float(count) == batch["weights"].sum()
    expected = (positive_weight * t * (expit(x) - 1) + (1 - t) * expit(x)) * weights / x.shape[1]
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-7)


def test_loss_and_gradient_are_torchs():
    torch = pytest.importorskip("torch")
    logits, batch = CASES["five labels"]
    given = torch.tensor(logits, requires_grad=True)
    function = torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.5))
    expected = function(given, torch.tensor(batch["targets"]).float())
    expected.backward()
    loss_sum, count, gradient = loss_and_gradient(0.0, 2.5, logits, batch)
    assert float(loss_sum / count) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient / count, given.grad.numpy(), rtol=1e-4, atol=1e-8)


@cases
def test_reports_are_sklearns(case):
    logits, targets = counted(case)
    predicted = (logits > 0).astype(int)
    result = report(*CASES[case])
    assert result["label_accuracy"] == pytest.approx(1 - sklearn_metrics.hamming_loss(targets, predicted), rel=1e-6)
    assert result["exact_match"] == pytest.approx(sklearn_metrics.accuracy_score(targets, predicted), rel=1e-6)
    arguments = {"zero_division": 0, "average": "binary" if logits.shape[1] == 1 else None}
    scores = np.reshape(
        [
            function(targets, predicted, **arguments)
            for function in (sklearn_metrics.precision_score, sklearn_metrics.recall_score, sklearn_metrics.f1_score)
        ],
        (3, -1),
    )
    assert result["macro_f1"] == pytest.approx(scores[2].mean())
    together = sklearn_metrics.f1_score(targets.ravel(), predicted.ravel(), zero_division=0)
    assert result["micro_f1"] == pytest.approx(together)
    rows = result["per_class"]
    assert list(rows) == [f"label {index}" for index in range(logits.shape[1])]
    for index, row in enumerate(rows.values()):
        column = targets[:, index]
        assert row["examples"] == column.sum()
        assert [row["precision"], row["recall"], row["f1"]] == pytest.approx(scores[:, index])
        # On a grid wider than the bins the histograms lose nothing.
        expected = sklearn_metrics.average_precision_score(column, logits[:, index]) if column.any() else 0
        exact = case in ("on a grid", "padding", "many labels")
        assert row["average_precision"] == pytest.approx(expected, abs=1e-9 if exact else 3e-3)
    occurring = [row["average_precision"] for row in rows.values() if row["examples"]]
    assert result["mean_average_precision"] == pytest.approx(np.mean(occurring))


def test_one_label_is_binary_classification():
    logits, batch = CASES["one label"]
    task = BinaryClassification()
    sums = task.metrics(logits, {**batch, "targets": batch["targets"][:, 0]})
    expected = task.report(jax.device_get(sums), Spec(features={}, sizes={}, class_names=("no", "yes")))
    result = report(logits, batch)
    pairs = {"loss": "loss", "exact_match": "accuracy", "label_accuracy": "accuracy", "micro_f1": "f1"}
    assert {name: result[name] for name in pairs} == pytest.approx({name: expected[pairs[name]] for name in pairs})


def test_without_any_label_the_monitored_score_is_0():
    logits, batch = CASES["padding"]
    # Targets of padding are no examples.
    targets = np.repeat(batch["weights"][:, None] == 0, 6, axis=1)
    result = report(logits, {**batch, "targets": targets})
    assert result["mean_average_precision"] == result["macro_f1"] == result["micro_f1"] == 0


def test_a_diverged_model_does_not_look_good():
    logits, batch = CASES["five labels"]
    result = report(np.full_like(logits, np.nan), batch)
    assert np.isnan(result["loss"])
    names = ("label_accuracy", "exact_match", "micro_f1", "macro_f1")
    assert [result[name] for name in names] == [0, 0, 0, 0]
    assert result["mean_average_precision"] < report(np.zeros_like(logits), batch)["mean_average_precision"] + 1e-6


def test_predictions_are_sigmoids_and_their_signs():
    logits, _ = CASES["on a grid"]
    prediction = MultiLabel().predict(logits, spec_of(4))
    np.testing.assert_array_equal(prediction["labels"], logits > 0)
    np.testing.assert_allclose(prediction["probabilities"], expit(logits.astype(np.float64)), rtol=1e-5)
