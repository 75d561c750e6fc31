"""A trial of a sweep is the run of its experiment alone, bit by bit, however it came to be trained."""

import dataclasses
import json
import shlex

import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon import process
from neuralmon.cli import main
from neuralmon.experiment import replace_at
from neuralmon.sweeps.progress import SweepProgress
from neuralmon.sweeps.search import Continue, Copy, Stop
from neuralmon.sweeps.search import listed as listed_searches
from neuralmon.training.progress import Silent


@pytest.fixture(scope="module")
def small(tiny):
    """An MLP on the tiny data, evaluated thrice."""
    training = nm.Training(batch_size=32, steps=21, evaluate_every=8, steps_per_chunk=5)
    model = nm.models.MLP(hidden=(8,), dropout=0.2)
    return dataclasses.replace(tiny, model=model, training=training)


PEAK, SEED = "optimizer.learning_rate.peak", "training.seed"


def swept(experiment, space, workdir=None, **options):
    return nm.sweep(experiment, space, workdir, progress=options.pop("progress", None) or SweepProgress(), **options)


def alone(experiment):
    return nm.train(experiment, None, progress=Silent())


def same(row):
    """What of a row must not depend on the launch."""
    return {name: value for name, value in row.items() if name != "seconds"}


@pytest.fixture(scope="module")
def result(small, tmp_path_factory):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    space = {PEAK: [1e-3, 3e-2, 1e9], "model.dropout": [0.0, 0.3], SEED: range(2)}
    try:
        result = swept(small, space, tmp_path_factory.mktemp("sweeps") / "sweep", slots=5, keep=2)
    finally:
        jax.monitoring.clear_event_listeners()
    return result, len(compiled)


def test_every_trial_is_its_run_alone(small, result):
    found, _ = result
    assert [row["trial"] for row in found.rows] == list(range(12))
    for row in found.rows[:8:3]:
        assert row["status"] == "finished"
        experiment = small
        for path, value in row["values"].items():
            experiment = replace_at(experiment, path, value)
        run = alone(experiment)
        history = {(line["step"], line["split"]): line for line in run.history}
        for evaluation in row["evaluations"]:
            for split in ("train", "validation"):
                line = history[evaluation["step"], split]
                assert evaluation[split].items() <= line.items()
                assert evaluation[split]["loss"] == line["loss"]
        assert [evaluation["step"] for evaluation in row["evaluations"]] == [8, 16, 21]
        assert row["metrics"]["accuracy"] == row["objective"] == run.metrics["validation"]["accuracy"]


def test_the_best_is_kept_as_a_run(result):
    found, _ = result
    best, folder = found.best, found.workdir
    run = alone(best.experiment)
    kept = nm.load_run(folder / "trials" / str(best.number), best.experiment)
    assert kept.fingerprint == run.fingerprint
    assert [(line["step"], line["split"]) for line in kept.history] == [
        (line["step"], line["split"]) for line in run.history
    ]
    assert {split: dict(metrics) for split, metrics in best.metrics.items()} == run.metrics
    # Two configurations of two seeds are kept.
    assert len(list((folder / "trials").iterdir())) == 4
    leading = found.configurations[0]
    trials = [
        row for row in found.rows if all(row["values"][path] == leading[path] for path in (PEAK, "model.dropout"))
    ]
    assert best.number in [row["trial"] for row in trials]
    assert leading["mean"] == np.mean([row["objective"] for row in trials])
    assert leading["sd"] == pytest.approx(np.std([row["objective"] for row in trials], ddof=1))


def test_the_spread_and_the_ensemble_are_those_of_the_seeds(result):
    found, _ = result
    states = [replace_at(found.best.experiment, SEED, seed) for seed in (0, 1)]
    runs = [alone(experiment) for experiment in states]
    accuracies = [run.metrics["test"]["accuracy"] for run in runs]
    assert found.spread["test"]["accuracy"]["mean"] == pytest.approx(np.mean(accuracies))
    assert found.spread["test"]["accuracy"]["sd"] == pytest.approx(np.std(accuracies, ddof=1))
    test = found.best.experiment.dataset.load()["test"]
    mean = np.mean([run.predict(test["inputs"])["probabilities"] for run in runs], axis=0)
    assert found.ensemble["test"]["accuracy"] == np.mean(mean.argmax(axis=1) == test["targets"])


def test_one_that_diverges_is_a_row_and_the_others_go_on(result):
    found, _ = result
    diverged = [row for row in found.rows if row["values"][PEAK] == 1e9]
    assert [row["status"] for row in diverged] == ["diverged"] * 4
    assert all("not finite" in row["reason"] and row["objective"] is None for row in diverged)
    assert {row["status"] for row in found.rows if row["values"][PEAK] != 1e9} == {"finished"}


def test_numbers_compile_nothing(small, result):
    found, compiled = result
    assert found.compilations == 1
    other, again = [], {PEAK: np.linspace(1e-4, 1e-2, 4).tolist(), SEED: [5, 6]}
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: other.append(event) if "backend_compile" in event else None
    )
    try:
        assert swept(small, again, slots=5).compilations == 0
    finally:
        jax.monitoring.clear_event_listeners()
    assert (compiled > 0, other) == (True, [])


def test_a_finished_sweep_says_its_result_again(small, result):
    found, _ = result
    space = {PEAK: [1e-3, 3e-2, 1e9], "model.dropout": [0.0, 0.3], SEED: range(2)}
    again = swept(small, space, found.workdir)
    assert (again.table, again.summary()) == (found.table, found.summary())
    assert again.best.experiment.to_json() == found.best.experiment.to_json()
    assert len(again.to_pandas()) == 12
    with pytest.raises(nm.RequestError, match=r"the sweep in .* is another one \(space was"):
        swept(small, {**space, PEAK: [1e-3]}, found.workdir)


class _StopsAt(SweepProgress):
    """Sends a signal when so many trials have ended."""

    def __init__(self, count, stop):
        self._count, self._stop = count, stop
        super().__init__()

    def ended(self, trial, row):
        super().ended(trial, row)
        if self._ended == self._count:
            self._stop()


def test_a_stopped_sweep_goes_on_and_ends_in_the_same_table(small, result, tmp_path):
    import signal

    found, _ = result
    space = {PEAK: [1e-3, 3e-2, 1e9], "model.dropout": [0.0, 0.3], SEED: range(2)}
    progress = _StopsAt(5, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt, match=f"launch again with --workdir={tmp_path / 'sweep'} to go on"):
        swept(small, space, tmp_path / "sweep", slots=2, keep=2, progress=progress)
    lines = (tmp_path / "sweep" / "trials.jsonl").read_text()
    assert 5 <= lines.count("\n") < 12
    # As a kill in the middle of writing leaves it.
    (tmp_path / "sweep" / "trials.jsonl").write_text(lines + lines[:50])
    again = swept(small, space, tmp_path / "sweep", slots=3, keep=2)
    assert [same(row) for row in again.rows] == [same(row) for row in found.rows]
    assert again.best.metrics == found.best.metrics
    kept, other = (sorted(path.name for path in (one.workdir / "trials").iterdir()) for one in (again, found))
    assert kept == other
    written = [json.loads(line)["trial"] for line in (tmp_path / "sweep" / "trials.jsonl").read_text().splitlines()]
    assert sorted(written) == list(range(12))


def test_patience_ends_a_trial_as_it_ends_a_run(small):
    patient = replace_at(small, "training", nm.Training(batch_size=32, steps=60, evaluate_every=3, patience=2))
    found = swept(patient, {SEED: range(3), PEAK: [0.3]})
    for row in found.rows:
        run = alone(replace_at(replace_at(patient, SEED, row["values"][SEED]), PEAK, 0.3))
        assert row["step"] == int(run.state.step)
        assert row["metrics"]["accuracy"] == run.metrics["validation"]["accuracy"]
        steps = [line["step"] for line in run.history if line["split"] == "validation"]
        assert [evaluation["step"] for evaluation in row["evaluations"]] == steps
    assert found.best.metrics["test"]["loss"] == alone(found.best.experiment).metrics["test"]["loss"]


class _Halving:
    """Stops the worse of two trials at the first evaluation, copies the better one's state to a third; then others."""

    upfront, total = False, None

    def __init__(self, asked):
        self.asked, self.calls, self._proposed = asked, [], 0

    def propose(self, count):
        if self._proposed >= 5:
            return None
        first = self._proposed
        self._proposed = min(5, first + count)
        return [{PEAK: 1e-3 * 2**number} for number in range(first, self._proposed)]

    def report(self, reports):
        self.calls.append([(r.trial, r.step, r.objective, r.ended) for r in reports])
        of = {r.trial: r for r in reports if not r.ended}
        decisions = {trial: Continue() for trial in of}
        if {0, 1, 2} <= of.keys() and of[0].step == 8:
            decisions |= {0: Stop("worse"), 1: Copy(2, {PEAK: 0.05})}
        return [decisions.get(r.trial, Continue()) for r in reports]


def test_a_searcher_stops_trials_and_copies_states(small, monkeypatch):
    made = []
    monkeypatch.setattr(listed_searches, "grid", lambda asked: made.append(_Halving(asked)) or made[-1])
    found = swept(small, {PEAK: nm.LogUniform(1e-4, 1)}, slots=3)
    asked = made[0].asked
    assert (asked.evaluations, asked.steps, asked.slots, asked.direction) == ((8, 16, 21), 21, 3, "max")
    assert [row["status"] for row in found.rows] == ["stopped"] + ["finished"] * 4
    assert (found.rows[0]["step"], found.rows[0]["reason"]) == (8, "worse")
    assert found.rows[1]["changes"] == [{"step": 8, "source": 2, "values": {PEAK: 0.05}}]
    # Trial 3 takes the slot that is free from step 8 on, while the others go on.
    steps = [[(trial, step) for trial, step, _, _ in call] for call in made[0].calls]
    assert steps[0] == [(0, 8), (1, 8), (2, 8)]
    flat = [one for call in steps for one in call]
    assert flat.index((3, 8)) < flat.index((1, 21)) < flat.index((4, 8))
    assert sorted(flat) == [(0, 8)] + [(trial, step) for trial in range(1, 5) for step in (8, 16, 21)]
    run = alone(replace_at(small, PEAK, 1e-3 * 2**3))
    assert found.rows[3]["objective"] == run.metrics["validation"]["accuracy"]


def test_a_sweep_from_the_command_line(small, root, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(process, "configure", lambda *_, **__: None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        f"import sys; sys.path.insert(0, {str(root / 'tests')!r})\n"
        "import dataclasses\nimport neuralmon as nm\nfrom tiny import Blobs, experiment as tiny\n"
        "SWEEP = {'training.seed': range(2), 'optimizer.weight_decay': lambda values: 0.1 * (1 + values.get('x', 0))}\n"
        "def experiment():\n"
        "    training = nm.Training(batch_size=32, steps=9, evaluate_every=3)\n"
        "    return dataclasses.replace(tiny(), model=nm.models.MLP(hidden=(4,)), training=training)\n"
    )
    words = ["launch.py", "--experiment=./mine.py", "--training.steps=6", "--sweep_keep=all", "--nofigures"]
    sweeps = [
        "--sweep.model.activation=relu,gelu",
        "--sweep.optimizer.learning_rate=Cosine(peak=1e-2),Cosine(peak=0.03)",
    ]
    assert main([*words, *sweeps, "--workdir=sweep"]) == 0
    out, err = capsys.readouterr()
    assert "4 trials of 2 structures, 6 steps each" in err
    command = shlex.split(next(line for line in out.splitlines() if line.startswith("best run")))[2:]
    assert main([*command[1:], "--workdir=again", "--quiet"]) == 0
    best = json.loads((tmp_path / "sweep" / "best.json").read_text())
    runs = [json.loads((tmp_path / path / "result.json").read_text())
            for path in ("again", f"sweep/trials/{best['trial']}")]  # fmt: skip
    assert runs[0]["fingerprint"] == runs[1]["fingerprint"]
    # The folder alone says what the sweep is; and the file has a space of its own.
    assert main(["launch.py", "--experiment=./mine.py", "--workdir=sweep", "--quiet", "--nofigures"]) == 0
    assert (
        main(
            [
                "launch.py",
                "--experiment=./mine.py",
                "--mode=sweep",
                "--training.steps=6",
                "--workdir=own",
                "--quiet",
                "--nofigures",
            ]
        )
        == 0
    )
    rows = [json.loads(line) for line in (tmp_path / "own" / "trials.jsonl").read_text().splitlines()]
    assert [row["values"] for row in sorted(rows, key=lambda row: row["trial"])] == [
        {"optimizer.weight_decay": 0.1, "training.seed": 0},
        {"optimizer.weight_decay": 0.1, "training.seed": 1},
    ]
    capsys.readouterr()
    for flags, said in (
        (["--sweep.model.hiden=4,8"], "there is no field model.hiden (did you mean model.hidden?)"),
        (["--sweep.model.hidden=4,x"], "trial 1 (model.hidden='x'): model.hidden: expected"),
        (["--sweep.training.seed=0..3", "--mode=train"], "has no effect in --mode=train"),
        (["--sweep.training.seed"], "needs values"),
        (["--sweep.a=1", "--sweep.a=2"], "is there twice"),
        (["--sweep_trials=3"], "--sweep_trials has no effect in --mode=train"),
        (["--sweep.training.seed=0..3", "--sweep_keep=x"], "allowed is a number"),
        (["--sweep.training.seed=0..3", "--debug_nans"], "--debug_nans has no effect in --mode=sweep"),
        (["--sweep.task=Classification(),Regression()"], "trials with task=Regression()"),
    ):
        assert main(["launch.py", "--experiment=./mine.py", *flags]) == 2
        assert said in capsys.readouterr().err, flags
    assert not (tmp_path / "runs").exists()
