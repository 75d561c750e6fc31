"""What a run leaves beside its parameters: figures, traces, throughput, records elsewhere; who spoilt a step."""

import gzip
import json
import os

import flax.linen as nn
import jax.numpy as jnp
import pytest
from PIL import Image

import neuralmon as nm
from neuralmon.experiment import replace_at
from neuralmon.training.progress import Progress


class Notices(Progress):
    def __init__(self):
        self.texts = []

    def notice(self, text):
        self.texts.append(text)


class Logarithm(nn.Module):
    """-inf and then NaN, as soon as an input is 0."""

    @nn.compact
    def __call__(self, inputs):
        return jnp.log(inputs)


class Fragile(nn.Module):
    """Its second layer is not made for zeros."""

    num_classes: int | None = None

    @nn.compact
    def __call__(self, inputs):
        x = nn.relu(nn.Dense(8, name="first")(inputs.reshape(inputs.shape[0], -1)))
        x = Logarithm(name="second")(x)
        return nn.Dense(self.num_classes, name="last")(x)


def test_the_layer_that_stops_being_finite_is_named(tiny):
    shown = Notices()
    experiment = replace_at(tiny, "model", Fragile())
    with pytest.raises(nm.RunError, match=r"training diverged in step 0: .*second") as error:
        nm.train(experiment, None, progress=shown, debug_nans=True)
    assert "\n" not in str(error.value)
    assert any("first" in text and "second" in text for text in shown.texts)


@pytest.mark.slow
def test_step_by_step_ends_in_the_same_parameters(tiny):
    short = replace_at(tiny, "training.steps", 9)
    results = [nm.train(short, None, progress=Notices(), debug_nans=hunted) for hunted in (True, False)]
    assert results[0].fingerprint == results[1].fingerprint


@pytest.fixture(scope="module")
def extra(tiny, tmp_path_factory):
    pytest.importorskip("mlflow")
    folder = tmp_path_factory.mktemp("extra")
    shown = Notices()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", (folder / "mlruns").as_uri())
        result = nm.train(tiny, folder / "run", progress=shown, profile="20:25", writers=("mlflow",))
        yield result, shown


def test_a_profile_has_the_steps_asked_for(extra):
    result, _ = extra
    (trace,) = (result.workdir / "profile").rglob("*.trace.json.gz")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    steps = {event["args"]["step_num"] for event in events if event.get("name", "").startswith("train")}
    assert "20" in {str(step) for step in steps}
    assert all(20 <= int(step) < 25 for step in steps)


def test_a_profile_changes_no_result(tiny, extra):
    assert extra[0].fingerprint == nm.train(tiny, None, progress=Notices()).fingerprint


def test_the_record_says_how_fast_it_was(extra):
    throughput = json.loads((extra[0].workdir / "result.json").read_text())["throughput"]
    assert throughput["examples_per_second"] > 0
    assert 0 < throughput["utilisation"] < 1


def test_mlflow_has_the_metrics_and_the_settings(extra):
    mlflow = pytest.importorskip("mlflow")
    result, _ = extra
    identifier = json.loads((result.workdir / "trackers.json").read_text())["mlflow"]["run_id"]
    run = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"]).get_run(identifier)
    assert run.data.params["optimizer.learning_rate.peak"] == "0.01"
    assert run.data.metrics["validation/accuracy"] == pytest.approx(result.metrics["validation"]["accuracy"])
    assert run.info.status == "FINISHED"


MOONS = nm.Experiment(
    dataset=nm.data.Moons(size=300),
    model=nm.models.MLP(hidden=(8,)),
    task=nm.tasks.Classification(),
    optimizer=nm.optim.Adam(learning_rate=1e-2),
    training=nm.Training(batch_size=32, epochs=2),
)
SUNSPOTS = nm.Experiment(
    dataset=nm.data.Sunspots(),
    model=nm.models.MLP(hidden=(8,)),
    task=nm.tasks.Regression(),
    optimizer=nm.optim.Adam(),
    training=nm.Training(batch_size=32, epochs=2),
)
CLASSES = {"data", "learning_curves", "confusion_matrix", "per_class", "worst_mistakes"}


@pytest.mark.usefixtures("draws_figures")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny", CLASSES | {"first_layer_filters"}),
        pytest.param("moons", CLASSES | {"decision_regions"}, marks=pytest.mark.slow),
        pytest.param("sunspots", {"data", "learning_curves", "regression"}, marks=pytest.mark.slow),
    ],
)
def test_every_run_has_its_figures(tiny, tmp_path, name, expected):
    experiment = {"tiny": replace_at(tiny, "dataset.pipeline", "stream"), "moons": MOONS, "sunspots": SUNSPOTS}[name]
    shown = Notices()
    nm.train(experiment, tmp_path / "run", progress=shown)
    assert not [text for text in shown.texts if "figure" in text]
    drawn = {path.stem: path for path in (tmp_path / "run" / "figures").iterdir()}
    assert set(drawn) == expected
    for path in drawn.values():
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 100


@pytest.mark.slow
@pytest.mark.usefixtures("draws_figures")
def test_no_figures_if_none_are_wanted(tiny, tmp_path):
    nm.train(replace_at(tiny, "training.steps", 2), tmp_path / "run", progress=Notices(), figures=False)
    assert not (tmp_path / "run" / "figures").exists()
