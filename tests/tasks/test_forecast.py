"""Forecasts: what is taught and what is measured, running freely, and the baselines beside it."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.data import CsvSeries, Spec
from neuralmon.errors import RequestError
from neuralmon.sampling import SampleRequest
from neuralmon.tasks import Forecast, Regression, Trained
from neuralmon.tasks.forecast_baselines import Autoregression, persistence

RANDOM = np.random.default_rng(0)
SIZE, WINDOW, HORIZON = 20, 6, 3


def batch_of(columns):
    shape = tuple(size for size in (HORIZON, columns) if size > 1)
    return {
        "inputs": RANDOM.normal(size=(SIZE, WINDOW, columns)).astype(np.float32),
        "targets": RANDOM.normal(size=(SIZE, *shape)).astype(np.float32),
        "weights": (np.arange(SIZE) < 17).astype(np.float32),
    }


def spec_of(batch, columns):
    features = {name: jax.ShapeDtypeStruct(batch[name].shape[1:], np.float32) for name in ("inputs", "targets")}
    mean, stddev = (5.0, -3.0)[:columns], (2.0, 0.5)[:columns]
    return Spec(features, {}, target_mean=mean * HORIZON, target_stddev=stddev * HORIZON)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("kind", ["one", "many", "at once"])
def test_what_is_taught_and_what_is_measured(kind, columns):
    batch = batch_of(columns)
    following = batch["targets"].reshape(SIZE, HORIZON, columns)
    shape = {"one": (columns,), "many": (WINDOW, columns), "at once": (HORIZON * columns,)}[kind]
    outputs = RANDOM.normal(size=(SIZE, *shape)).astype(np.float32)
    task, spec = Forecast(at_once=kind == "at once"), spec_of(batch, columns)
    assert task.check(jax.ShapeDtypeStruct(outputs.shape, np.float32), spec) is None
    assert task.num_outputs(spec) == shape[-1]
    taught = {
        "one": following[:, 0],
        "many": np.concatenate([batch["inputs"][:, 1:], following[:, :1]], axis=1),
        "at once": following.reshape(SIZE, -1),
    }[kind]
    report = task.report(jax.device_get(jax.jit(task.metrics)(outputs, batch)), spec)
    real = slice(17)
    assert report["loss"] == pytest.approx(np.square(outputs - taught)[real].mean(), rel=1e-5)
    error = (outputs[:, -1] - taught[:, -1] if kind == "many" else outputs - taught)[real].reshape(17, -1, columns)
    rmse = np.sqrt(np.square(error).mean(axis=0)) * np.array(spec.target_stddev[:columns])
    assert report["rmse"] == pytest.approx(rmse.mean(), rel=1e-5)
    loss, training = task.loss(outputs, batch)
    assert float(loss[0] / loss[1]) == pytest.approx(report["loss"], rel=1e-5)
    assert task.report(jax.device_get(training), spec)["rmse"] == pytest.approx(report["rmse"], rel=1e-5)

    said = np.asarray(task.predict(outputs, spec)["prediction"])
    last = outputs[:, -1] if kind == "many" else outputs
    expected = last.reshape(SIZE, -1, columns) * np.array(spec.target_stddev[:columns])
    expected = expected + np.array(spec.target_mean[:columns])
    np.testing.assert_allclose(said.reshape(SIZE, -1, columns), expected, rtol=1e-5)


class Affine(nn.Module):
    """The next step is twice the last one less the one before it: a straight line goes on."""

    output: str = "last"

    @nn.compact
    def __call__(self, inputs, train=False):
        self.param("unused", nn.initializers.zeros, ())
        before = jnp.pad(inputs, ((0, 0), (1, 0), (0, 0)))[:, :-1]
        following = 2 * inputs - before
        return following if self.output == "all" else following[:, -1]


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A series of two straight lines, and one that starts to turn in the test."""
    steps = np.arange(80.0)
    table = np.stack([3 * steps + 1, 100 - steps], axis=-1)
    path = tmp_path_factory.mktemp("line") / "line.csv"
    path.write_text("up,down\n" + "".join(f"{up},{down}\n" for up, down in table))
    return CsvSeries(path=str(path), columns=("up", "down"), window=10, horizon=4).resolve()


def trained(dataset, model):
    data = dataset.load()
    read = lambda split, rows: {name: column[rows] for name, column in data[split].items()}  # noqa: E731
    return Trained(model, model.init(jax.random.key(0), jnp.zeros((1, 10, 2))), dataset, read)


@pytest.mark.parametrize("output", ["last", "all"])
def test_running_freely_goes_on_from_its_own_forecasts(line, output):
    findings = Forecast(baseline_order=2).study(trained(line, Affine(output)), "test")
    table = findings.metrics["forecasts"]
    assert list(table) == ["model", "persistence", "AR(2)"]
    # Both go on with the line; persistence is 1, 2, 3 and 4 steps behind, of 3 and of 1.
    assert table["model"]["rmse"] < 0.01 and table["AR(2)"]["rmse"] < 0.01
    assert table["persistence"]["rmse"] == pytest.approx((3 + 1) / 2 * np.sqrt((1 + 4 + 9 + 16) / 4), rel=1e-5)
    assert table["persistence"]["mae"] == pytest.approx((3 + 1) / 2 * 2.5, rel=1e-5)
    by_step = [row["persistence"] for row in findings.metrics["rmse_by_step"].values()]
    np.testing.assert_allclose(by_step, [2, 4, 6, 8], rtol=1e-5)
    name, drawn = findings.figures["forecast"]
    assert len(drawn["actual"]) == len(drawn["forecasts"]["model"]) + 3
    nm.figures.figure(name, **drawn)


def test_it_forecasts_what_comes_after_the_series_and_after_a_file(line, tmp_path):
    model = trained(line, Affine())
    lines = "".join(Forecast().sample(model, SampleRequest(length=5))).splitlines()
    assert lines[0].split() == ["step", "up", "down"]
    values = np.array([[float(cell) for cell in row.split()] for row in lines[1:]])
    np.testing.assert_allclose(values, [[n + 1, 3 * (80 + n) + 1, 20 - n] for n in range(5)], rtol=1e-4)
    (tmp_path / "new.csv").write_text("down,up\n" + "".join(f"{2 * n},{-n}\n" for n in range(10)))
    text = "".join(Forecast().sample(model, SampleRequest(input=str(tmp_path / "new.csv"))))
    values = np.array([[float(cell) for cell in row.split()] for row in text.splitlines()[1:]])
    np.testing.assert_allclose(values, [[n + 1, -10 - n, 20 + 2 * n] for n in range(4)], rtol=1e-3, atol=1e-3)
    with pytest.raises(RequestError, match="--temperature means nothing to a forecast; it takes --input, --length"):
        next(Forecast().sample(model, SampleRequest(temperature=0.5)))


def test_the_linear_baseline_is_that_of_least_squares():
    linear_model = pytest.importorskip("sklearn.linear_model")
    series = RANDOM.normal(size=(90, 2)).cumsum(axis=0)
    windows = np.lib.stride_tricks.sliding_window_view(series, 12, axis=0).swapaxes(1, 2)
    ours = Autoregression(windows[:60], series[12:72], 5)
    forecasts = ours.forecast(windows[60:70], 3)
    for column in range(2):
        rows = np.lib.stride_tricks.sliding_window_view(series[:72, column], 6)
        theirs = linear_model.LinearRegression().fit(rows[:, :-1], rows[:, -1])
        known = windows[60:70, -5:, column]
        for step in range(3):
            known = np.append(known, theirs.predict(known[:, -5:])[:, None], axis=1)
            np.testing.assert_allclose(forecasts[:, step, column], known[:, -1], rtol=1e-6)
    np.testing.assert_array_equal(persistence(windows[:2], 2), windows[:2, [-1, -1]])
    assert Autoregression(windows[:60, :3], series[3:63], 9).order == 3


WRONG = [
    (Forecast(), (8, 3), 2, "Forecast needs outputs of shape (batch, 2) or (batch, 6, 2); the model's are (8, 3)"),
    (Forecast(), (8, 5, 2), 2, "(batch, 6, 2); the model's are (8, 5, 2)"),
    (Forecast(at_once=True), (8, 2), 2, "Forecast needs outputs of shape (batch, 6); the model's are (8, 2)"),
]


@pytest.mark.parametrize(("task", "shape", "columns", "message"), WRONG)
def test_what_does_not_fit_is_said(task, shape, columns, message):
    assert message in task.check(jax.ShapeDtypeStruct(shape, np.float32), spec_of(batch_of(columns), columns))


def test_other_data_is_no_series():
    plain = Spec(
        {"inputs": jax.ShapeDtypeStruct((4,), np.float32), "targets": jax.ShapeDtypeStruct((), np.float32)}, {}
    )
    assert "needs a series" in Forecast().check(jax.ShapeDtypeStruct((8, 1), np.float32), plain)
    assert dataclasses.asdict(Forecast()).keys() > dataclasses.asdict(Regression()).keys()
