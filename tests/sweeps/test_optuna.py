"""Searches by Optuna, on objectives that are functions of the values."""

import math
import statistics
import sys

import pytest
from sweeps.simulated import asked, sweep

from neuralmon.errors import RequestError
from neuralmon.sweeps.domains import Choice, IntUniform, LogUniform, Uniform
from neuralmon.sweeps.search import listed, optuna
from neuralmon.sweeps.space import Space

library = pytest.importorskip("optuna")

SPACE = {
    "rate": LogUniform(1e-5, 1e-1),
    "decay": "1e-4:1e-2:log:9",
    "layers": IntUniform(1, 8),
    "activation": ["relu", "gelu", "tanh"],
}
NUMBERS = {path: SPACE[path] for path in ("rate", "decay", "layers")}


def quality(values):
    distance = (math.log10(values["rate"]) + 3) ** 2 + (math.log10(values["decay"]) + 3) ** 2
    return -distance - 0.1 * (values["layers"] - 6) ** 2 - (values.get("activation", "gelu") != "gelu")


def train(_, values, step):
    return None, None if values["rate"] > 0.05 else quality(values)


@pytest.mark.parametrize(("search", "space"), [(optuna.tpe, SPACE), (optuna.cmaes, NUMBERS)])
def test_later_trials_are_better_than_chance(search, space):
    question = asked(space, trials=40, slots=8)

    def of_later_ones(search):
        rows = sweep(search(question), question, train)
        assert len(rows) == 40
        return statistics.median(row.objective for row in rows[-16:] if row.objective is not None)

    assert of_later_ones(search) > 0.5 * of_later_ones(listed.random)


@pytest.mark.parametrize("direction", ["max", "min"])
def test_less_is_better_where_it_is_asked_for(direction):
    question = asked({"x": Uniform(0, 1)}, direction, trials=24, slots=4)
    last = sweep(optuna.tpe(question), question, lambda _, values, step: (None, values["x"]))[-8:]
    assert (statistics.mean(row.objective for row in last) > 0.5) == (direction == "max")


def test_the_same_reports_give_the_same_trials():
    def values(seed, slots):
        question = asked(SPACE, trials=24, seed=seed, slots=slots)
        return [row.values for row in sweep(optuna.tpe(question), question, train)]

    assert values(0, 4) == values(0, 4) != values(1, 4)


def test_values_are_of_the_space_and_parts_of_it_depend_on_others():
    def momentum(values):
        return {"sgd": Uniform(0.5, 0.9), "nesterov": ["0.9", "0.99", "none"], "adam": []}[values["optimizer"]]

    given = {"optimizer": ["sgd", "nesterov", "adam"], "momentum": momentum, "a": [1, 2], "b": ["x", "y"], "c": [5]}
    space = Space.of(given, [("a", "b")])
    question = asked({"x": [1]}, trials=40, slots=4)
    question = type(question)(space, "max", 40, slots=4)
    seen = {"sgd": set(), "nesterov": set(), "adam": set()}

    def objective(_, values, step):
        seen[values["optimizer"]].add(values.get("momentum"))
        assert (values["a"], values["b"]) in [(1, "x"), (2, "y")] and values["c"] == 5
        return None, float(values["a"])

    sweep(optuna.tpe(question), question, objective)
    assert all(0.5 <= value <= 0.9 for value in seen["sgd"]) and len(seen["sgd"]) > 2
    assert seen["nesterov"] <= {"0.9", "0.99", "none"} and seen["adam"] <= {None}


def test_optuna_is_told_the_mean_over_the_seeds_and_that_a_diverged_one_is_worse_than_all():
    question = asked({"x": Uniform(0, 1), "training.seed": range(3)}, trials=30, slots=7)
    search = optuna.tpe(question)

    def objective(_, values, step):
        diverges = values["x"] > 0.5 and values["training.seed"] == 2
        return None, None if diverges else values["x"] + values["training.seed"]

    rows = sweep(search, question, objective)
    assert [row.values["training.seed"] for row in rows] == [0, 1, 2] * 10
    for trial, row in zip(search._study.trials, rows[::3], strict=True):
        if row.values["x"] > 0.5:
            assert trial.state is library.trial.TrialState.PRUNED
        else:
            assert trial.value == pytest.approx(row.values["x"] + 1)


def test_no_more_are_under_way_without_others_results_than_a_batch():
    question = asked(SPACE, trials=24, slots=64, options={"batch": "5"})
    search, sizes = optuna.tpe(question), []
    propose = search.propose
    search.propose = lambda count: sizes.append(propose(count)) or sizes[-1]
    sweep(search, question, train)
    assert [len(proposed) for proposed in sizes[:-1]] == [5, 5, 5, 5, 4]


def test_a_storage_shows_each_configuration_once_however_often_the_sweep_is_launched(tmp_path):
    file = tmp_path / "study.log"

    def launch(seed=0, trials=6):
        question = asked(SPACE, trials=trials, seed=seed, slots=2, options={"storage": str(file)})
        return sweep(optuna.tpe(question), question, train)

    rows = launch()
    assert launch() == rows
    backend = library.storages.journal.JournalFileBackend(str(file))
    study = library.load_study(study_name="neuralmon", storage=library.storages.JournalStorage(backend))
    assert [trial.values for trial in study.trials if trial.values] == [
        [row.objective] for row in rows if row.objective is not None
    ]
    with pytest.raises(RequestError, match="of another sweep: give this one another name"):
        launch(seed=1)


@pytest.mark.parametrize(
    ("search", "space", "options", "message"),
    [
        (optuna.tpe, SPACE, {"startups": "3"}, r"tpe has no option 'startups' \(did you mean startup\?\)"),
        (optuna.tpe, SPACE, {"startup": "0"}, "startup=0.*1 or more"),
        (optuna.tpe, SPACE, {"storage": "nosql://x"}, "the storage nosql://x cannot be used"),
        (optuna.tpe, {**SPACE, "training.seed": range(7)}, {}, "no multiple of the 7 seeds"),
        (optuna.optuna, SPACE, {"sampler": "TPSampler"}, r"did you mean TPESampler\?"),
        (optuna.optuna, SPACE, {"sampler": "GridSampler"}, "GridSampler cannot be used"),
        (optuna.cmaes, {"a": Choice("x", "y"), "b": Uniform(0, 1)}, {}, "two places or more that are numbers"),
    ],
)
def test_what_cannot_be_is_said_at_once(search, space, options, message):
    with pytest.raises(RequestError, match=message):
        search(asked(space, trials=8, options=options))


def test_how_optuna_is_installed_is_said_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        RequestError, match=r"it needs optuna, which is not installed: pip install 'neuralmon\[search\]'"
    ):
        optuna.tpe(asked(SPACE, trials=8))
