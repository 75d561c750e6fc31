"""What a run may do beside training: averages, micro-batches, mixtures, patience, another run's parameters, streams."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.experiment import replace_at
from neuralmon.training.evaluation import monitor
from neuralmon.training.progress import Progress


class Notices(Progress):
    def __init__(self):
        self.texts = []

    def notice(self, text):
        self.texts.append(text)


def with_values(experiment, **values):
    for path, value in values.items():
        experiment = replace_at(experiment, path.replace("__", "."), value)
    return experiment


def trained(experiment, workdir=None, **options):
    return nm.train(experiment, workdir, progress=options.pop("progress", Notices()), **options)


def assert_close(one, other, tolerance):
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(left, right, atol=tolerance, rtol=tolerance)


@pytest.fixture(scope="module")
def plain(tiny):
    """Without dropout and augmentation, so that nothing is random but the order."""
    return with_values(tiny, dataset__shift=None, model__dropout=None, training__epochs=2)


@pytest.fixture(scope="module")
def baseline(plain):
    return trained(plain)


def test_micro_batches_give_the_update_of_the_whole_batch(plain, baseline):
    result = trained(with_values(plain, training__micro_batches=4))
    assert_close(result.state.params, baseline.state.params, 2e-4)
    for row, expected in zip(result.history, baseline.history, strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], rel=1e-4)


def test_micro_batches_must_be_equal(plain):
    with pytest.raises(nm.RequestError, match=r"training.micro_batches: a batch of 32 cannot be cut into 5"):
        trained(with_values(plain, training__micro_batches=5))


def test_the_average_is_what_evaluation_uses(plain, baseline):
    result = trained(with_values(plain, optimizer__ema_decay=0.9))
    # The parameters go their way as without an average.
    assert_close(result.state.params, baseline.state.params, 1e-5)
    assert result.metrics["test"] == result.evaluate("test")
    of_average = dataclasses.replace(result.state, params=result.state.average, average=None)
    without = dataclasses.replace(baseline, state=of_average)
    assert result.metrics["test"]["loss"] == pytest.approx(without.evaluate("test")["loss"], rel=1e-6)
    assert jax.tree.structure(result.state.average) == jax.tree.structure(result.state.params)
    assert result.evaluate("test") != dataclasses.replace(
        result, state=dataclasses.replace(result.state, average=result.state.params)
    ).evaluate("test")


def test_an_average_of_decay_0_is_the_parameters(plain):
    result = trained(with_values(plain, optimizer__ema_decay=0.0))
    assert_close(result.state.average, result.state.params, 1e-6)


def test_streaming_ends_in_the_same_parameters(tiny, tmp_path):
    kept = [
        trained(with_values(tiny, dataset__pipeline=pipeline), tmp_path / pipeline) for pipeline in ("device", "stream")
    ]
    assert kept[0].fingerprint == kept[1].fingerprint
    assert kept[0].metrics["test"]["confusion"] == kept[1].metrics["test"]["confusion"]
    lines = [(tmp_path / pipeline / "metrics.jsonl").read_text().splitlines() for pipeline in ("device", "stream")]
    assert len(lines[0]) == len(lines[1])
    again = nm.load_run(tmp_path / "stream", experiment=with_values(tiny, dataset__pipeline="stream"))
    for split in ("train", "validation", "test"):
        ours, theirs = again.evaluate(split), kept[0].evaluate(split)
        assert ours["confusion"] == theirs["confusion"]
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)


def impatient(experiment):
    """It never gets better than at first: the learning rate is 0."""
    return with_values(
        experiment, optimizer__learning_rate=0.0, training__epochs=40, training__patience=3, training__monitor="loss"
    )


@pytest.mark.parametrize("in_folder", [False, True])
def test_training_ends_when_patience_does(plain, tmp_path, in_folder):
    workdir = tmp_path / "run" if in_folder else None
    shown = Notices()
    result = trained(impatient(plain), workdir, progress=shown)
    validations = [row["step"] for row in result.history if row["split"] == "validation"]
    assert len(validations) == 4
    assert int(result.state.step) == validations[0]
    assert any(f"best state is that of step {validations[0]}" in text for text in shown.texts)
    if in_folder:
        assert json.loads((workdir / "result.json").read_text())["step"] == validations[0]
        assert nm.load_run(workdir, experiment=plain.names.module.__file__).fingerprint == result.fingerprint


def test_patience_is_measured_by_what_is_asked_for(plain):
    result = trained(with_values(plain, training__epochs=8, training__patience=2, training__monitor="accuracy",
                                 optimizer__learning_rate=3e-2))  # fmt: skip
    rows = [row for row in result.history if row["split"] == "validation"]
    best = max(rows, key=lambda row: row["accuracy"])
    assert int(result.state.step) == best["step"]
    assert result.metrics["validation"]["accuracy"] == best["accuracy"]


def test_a_metric_that_there_is_not_is_refused(plain):
    with pytest.raises(
        nm.RequestError, match=r"training.monitor: there is no metric 'acuracy'; there are loss, accuracy"
    ):
        trained(with_values(plain, training__monitor="acuracy"))


def test_patience_needs_validation_data():
    experiment = nm.load_experiment("softmax_mnist")
    experiment = with_values(experiment, dataset=nm.data.Mnist(join_validation=True), training__patience=1)
    with pytest.raises(nm.RequestError, match=r"training.patience: the data has no validation split"):
        trained(experiment)


@pytest.fixture(scope="module")
def source(plain, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source") / "run"
    return trained(with_values(plain, name="source"), folder)


def test_another_run_s_parameters(plain, source):
    shown = Notices()
    still = with_values(plain, optimizer__learning_rate=0.0, training__steps=1, model__hidden=24)
    # The tiny dataset is of the experiment's own file: reading the folder needs no more than its types.
    result = trained(still, init_from=source.workdir, progress=shown)
    ours, theirs = result.state.params, source.state.params
    np.testing.assert_array_equal(ours["conv_0"]["kernel"], theirs["conv_0"]["kernel"])
    assert ours["hidden"]["kernel"].shape != theirs["hidden"]["kernel"].shape
    (said,) = [text for text in shown.texts if text.startswith("initialised from")]
    assert "taken: conv_0/bias, conv_0/kernel" in said and "of another shape: hidden/bias" in said


def test_only_what_the_patterns_name(plain, source):
    still = with_values(impatient(plain), training__patience=None, training__evaluate_every=1000, training__seed=9)
    result = trained(still, init_from=str(source.workdir), init_patterns=("conv_1",))
    alone = trained(still)
    for layer in ("conv_0", "conv_1"):
        taken = np.array_equal(result.state.params[layer]["kernel"], source.state.params[layer]["kernel"])
        own = np.array_equal(result.state.params[layer]["kernel"], alone.state.params[layer]["kernel"])
        assert (taken, own) == ((True, False) if layer == "conv_1" else (False, True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init_patterns": ("dense*",)}, "no parameter matches 'dense"),
        ({"init_from": "nowhere"}, "nowhere holds no run"),
    ],
)
def test_what_cannot_be_taken_is_said(plain, source, options, message):
    with pytest.raises(nm.RequestError, match=message):
        trained(plain, **{"init_from": source.workdir, **options})


class Stopping(Notices):
    """Is interrupted after so many steps, as by a crash."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def train(self, step, metrics, examples_per_second):
        if step >= self.step:
            raise RuntimeError("crash")


def test_a_run_that_dies_early_still_begins_with_the_other_s_parameters(plain, source, tmp_path):
    whole = trained(plain, tmp_path / "whole", init_from=source.workdir)
    with pytest.raises(RuntimeError, match="crash"):
        trained(plain, tmp_path / "run", init_from=source.workdir, progress=Stopping(7))
    assert trained(plain, tmp_path / "run").fingerprint == whole.fingerprint
    assert whole.fingerprint != trained(plain).fingerprint


def test_patience_goes_on_where_it_was(plain, tmp_path):
    experiment = impatient(plain)
    whole = trained(experiment)
    with pytest.raises(RuntimeError, match="crash"):
        trained(experiment, tmp_path / "run", progress=Stopping(45))
    result = trained(experiment, tmp_path / "run")
    assert result.fingerprint == whole.fingerprint
    assert int(result.state.step) == int(whole.state.step)
    assert [row["step"] for row in result.history] == [row["step"] for row in whole.history]


def test_the_best_checkpoint_is_the_best_evaluation(plain, tmp_path):
    # Evaluations and checkpoints never fall together, but at the end.
    experiment = with_values(plain, training__epochs=8, training__checkpoint_every=10, optimizer__learning_rate=3e-2)
    result = trained(experiment, tmp_path / "run")
    rows = [row for row in result.history if row["split"] == "validation"]
    best = max(rows, key=lambda row: row["accuracy"])
    again = nm.load_run(tmp_path / "run", experiment=experiment, checkpoint="best")
    assert int(again.state.step) == best["step"]
    assert again.evaluate("validation")["accuracy"] == best["accuracy"]


@pytest.mark.parametrize(("metric", "direction"), [("loss", "min"), ("-f1", "min"), ("f1", "max"), (None, "max")])
def test_which_way_is_better(plain, metric, direction):
    assert monitor(with_values(plain, training__monitor=metric))[1] == direction


def test_a_metric_that_needs_both_classes_can_be_monitored():
    experiment = nm.Experiment(
        dataset=nm.data.Moons(size=200),
        model=nm.models.MLP(hidden=(4,)),
        task=nm.tasks.BinaryClassification(),
        optimizer=nm.optim.Adam(),
        training=nm.Training(batch_size=32, epochs=2, patience=5, monitor="roc_auc"),
    )
    assert 0 <= trained(experiment).metrics["validation"]["roc_auc"] <= 1


def test_options_without_effect_are_said(plain):
    shown = Notices()
    trained(plain, data_workers=1, progress=shown)
    assert "--data_workers=1 has no effect: the data lives on the device" in shown.texts
    for options in ({"writers": ("mlflow",)}, {"profile": "0:1"}, {"init_patterns": ("conv_0",)}):
        with pytest.raises(nm.RequestError):
            trained(plain, **options)


def test_weighing_classes_twice_is_refused():
    dataset = nm.data.Mnist(class_weights="balanced", balanced_sampling=True)
    with pytest.raises(nm.RequestError, match="give one of them"):
        dataset.resolve()
