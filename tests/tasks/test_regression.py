"""Regression against scikit-learn, the closed forms of its gradients, and PyTorch."""

import jax
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from neuralmon.data import Spec
from neuralmon.tasks import Regression


def draw(seed, examples, shape=(), mean=0.0, stddev=1.0, padding=0, dtype=np.float32):
    """Outputs, and a batch of targets of this mean and standard deviation."""
    generator = np.random.default_rng(seed)
    targets = generator.normal(mean, stddev, (examples, *shape)).astype(dtype)
    outputs = targets + generator.normal(0, np.multiply(stddev, 0.5), targets.shape)
    weights = (np.arange(examples) < examples - padding).astype(np.float32)
    return outputs.astype(np.float32), {"targets": targets, "weights": weights}


def spec_of(batch, mean=(), stddev=()):
    targets = batch["targets"]
    features = {"targets": jax.ShapeDtypeStruct(targets.shape[1:], targets.dtype)}
    return Spec(features=features, sizes={}, target_mean=mean, target_stddev=stddev)


CASES = {
    "one number": draw(0, 300),
    "three numbers": draw(1, 200, (3,), mean=(0.0, 1.0, -2.0), stddev=(1.0, 2.0, 0.1)),
    "padding": draw(2, 64, (2,), padding=20),
    "a table of numbers": draw(3, 50, (2, 3)),
    "mean 10,000, stddev 1": draw(4, 500, mean=1e4),
    "whole numbers": draw(5, 100, mean=30, stddev=10, dtype=np.int32),
    "two of unlike size": draw(6, 400, (2,), mean=(1e6, 1e-3), stddev=(3.0, 1e-5)),
}
cases = pytest.mark.parametrize("case", CASES)
OBJECTIVES = {
    "mse": lambda d, delta: (d**2, 2 * d),
    "mae": lambda d, delta: (np.abs(d), np.sign(d)),
    "huber": lambda d, delta: (
        np.where(np.abs(d) < delta, d**2 / 2, delta * (np.abs(d) - delta / 2)),
        np.clip(d, -delta, delta),
    ),
}


def loss_and_gradient(objective, delta, outputs, batch):
    @jax.jit
    def compiled(delta, outputs):
        task = Regression(objective=objective, delta=delta)
        return jax.value_and_grad(lambda x: task.loss(x, batch)[0], has_aux=True)(outputs)

    return compiled(delta, outputs)


@jax.jit
def metrics(outputs, batch):
    return Regression().metrics(outputs, batch)


def report(outputs, batch, spec=None):
    return Regression().report(jax.device_get(metrics(outputs, batch)), spec or spec_of(batch))


def counted(case):
    """Outputs and targets in float64, a column for each number, without the padding."""
    outputs, batch = CASES[case]
    real = batch["weights"] == 1
    return (x[real].reshape(real.sum(), -1).astype(np.float64) for x in (outputs, batch["targets"]))


@pytest.mark.parametrize("case", ["one number", "three numbers", "padding", "a table of numbers"])
@pytest.mark.parametrize(("objective", "delta"), [("mse", 1.0), ("mae", 1.0), ("huber", 1.0), ("huber", 0.1)])
def test_loss_and_gradient_are_those_of_the_definition(case, objective, delta):
    outputs, batch = CASES[case]
    errors = (outputs.astype(np.float64) - batch["targets"]).reshape(len(outputs), -1)
    losses, slopes = OBJECTIVES[objective](errors, delta)
    (loss_sum, count), gradient = loss_and_gradient(objective, delta, outputs, batch)
    weights = batch["weights"]
    assert float(loss_sum) == pytest.approx((losses.mean(axis=1) * weights).sum(), rel=1e-5)
    assert float(count) == weights.sum()
    expected = slopes * weights[:, None] / errors.shape[1]
    np.testing.assert_allclose(gradient.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("objective", "delta"), [("mse", 1.0), ("mae", 1.0), ("huber", 0.3), ("huber", 5.0)])
def test_loss_and_gradient_are_torchs(objective, delta):
    torch = pytest.importorskip("torch")
    functions = {"mse": torch.nn.MSELoss(), "mae": torch.nn.L1Loss(), "huber": torch.nn.HuberLoss(delta=delta)}
    outputs, batch = CASES["three numbers"]
    # Right at 0 and at delta all agree on the slope, too.
    outputs = np.concatenate([outputs, batch["targets"][:1]])
    batch = {name: np.concatenate([array, array[:1]]) for name, array in batch.items()}
    given = torch.tensor(outputs, requires_grad=True)
    expected = functions[objective](given, torch.tensor(batch["targets"]))
    expected.backward()
    (loss_sum, count), gradient = loss_and_gradient(objective, delta, outputs, batch)
    assert float(loss_sum / count) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient / count, given.grad.numpy(), rtol=1e-4, atol=1e-8)


def test_the_slope_of_huber_is_steady_at_delta():
    batch = {"targets": np.zeros(4, np.float32), "weights": np.ones(4, np.float32)}
    _, gradient = loss_and_gradient("huber", 0.5, np.float32([-0.5, 0.5, 0, 7]), batch)
    np.testing.assert_allclose(gradient, [-0.5, 0.5, 0, 0.5], rtol=1e-6)


@cases
def test_reports_are_sklearns(case):
    outputs, targets = counted(case)
    result = report(*CASES[case])
    functions = {
        "rmse": sklearn_metrics.root_mean_squared_error,
        "mae": sklearn_metrics.mean_absolute_error,
        "mse": sklearn_metrics.mean_squared_error,
        "r2": sklearn_metrics.r2_score,
    }
    for name, function in functions.items():
        assert result[name] == pytest.approx(function(targets, outputs), rel=1e-5)
        rows = [row[name] for row in result.get("per_target", {}).values()]
        expected = function(targets, outputs, multioutput="raw_values") if targets.shape[1] > 1 else []
        np.testing.assert_allclose(rows, expected, rtol=1e-5)
    assert result["loss"] == pytest.approx(result["mse"], rel=1e-6)


def test_reports_and_predictions_are_in_the_datas_own_units():
    outputs, targets = (x.astype(np.float32) for x in counted("three numbers"))
    mean, stddev = np.array([1e4, -3.0, 0.5]), np.array([100.0, 1.0, 0.01])
    batch = {"targets": (targets - mean) / stddev, "weights": np.ones(len(targets), np.float32)}
    batch["targets"] = batch["targets"].astype(np.float32)
    scaled = ((outputs - mean) / stddev).astype(np.float32)
    spec = spec_of(batch, tuple(mean), tuple(stddev))
    result, expected = report(scaled, batch, spec), report(outputs, CASES["three numbers"][1])
    # The loss is that of the standardised targets.
    assert result.pop("loss") == pytest.approx(np.square(scaled - batch["targets"]).mean(), rel=1e-5)
    rows, expected_rows = result.pop("per_target"), expected.pop("per_target")
    del expected["loss"]
    assert result == pytest.approx(expected, rel=1e-3)
    for name, row in rows.items():
        assert row == pytest.approx(expected_rows[name], rel=1e-3)
    np.testing.assert_allclose(Regression().predict(scaled, spec)["prediction"], outputs, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("axis", [False, True])
@pytest.mark.parametrize(("shape", "count"), [((), 1), ((1,), 1), ((4,), 4), ((2, 3), 6)])
def test_predictions_have_the_shape_of_the_targets(shape, count, axis):
    spec = spec_of({"targets": np.zeros((5, *shape))}, (2.0,) * count, (3.0,) * count)
    outputs = np.ones((5, count) if axis or count > 1 else (5,), np.float32)
    prediction = Regression().predict(outputs, spec)["prediction"]
    np.testing.assert_array_equal(prediction, np.full((5, *shape), 5.0))
    assert Regression().num_outputs(spec) == count


@pytest.mark.parametrize(("error", "expected"), [(0.0, 1.0), (0.5, 0.0)])
def test_r2_of_a_constant_target_is_sklearns(error, expected):
    targets = np.full(50, 0.1, np.float32)
    batch = {"targets": targets, "weights": np.ones(50, np.float32)}
    assert sklearn_metrics.r2_score(targets, targets + np.float32(error)) == expected
    assert report(targets + np.float32(error), batch)["r2"] == expected


def test_one_output_is_not_spread_over_many_targets():
    batch = {"targets": np.zeros((4, 3), np.float32), "weights": np.ones(4, np.float32)}
    with pytest.raises(ValueError, match="1 outputs an example do not fit its 3 targets"):
        Regression().loss(np.zeros((4, 1), np.float32), batch)


def test_a_diverged_model_does_not_look_good():
    outputs, batch = CASES["three numbers"]
    spoilt = outputs.copy()
    spoilt[5, 1] = np.nan
    result = report(spoilt, batch)
    assert all(np.isnan(result[name]) for name in ("loss", "rmse", "mae", "mse", "r2"))
    assert [bool(np.isnan(row["r2"])) for row in result["per_target"].values()] == [False, True, False]
