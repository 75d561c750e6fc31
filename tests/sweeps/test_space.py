"""The grammar of a sweep's values, and the trials that a space has."""

import json

import pytest

import neuralmon as nm
from neuralmon import codec
from neuralmon.sweeps.domains import Text
from neuralmon.sweeps.grammar import read_domain
from neuralmon.sweeps.search import SEARCHES, Asked, make_searcher
from neuralmon.sweeps.space import Space
from neuralmon.sweeps.trials import Trials


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1e-3, 1e-2,none", ["1e-3", "1e-2", "none"]),
        ("0..3", [0, 1, 2, 3]),
        ("-2..0,10", [-2, -1, 0, "10"]),
        ("0.1:0.5:5", [0.1, 0.2, 0.3, 0.4, 0.5]),
        ("64:256:4", [64, 128, 192, 256]),
        ("1e-4:1e-1:log:4", [1e-4, 1e-3, 1e-2, 1e-1]),
        ("16:256:log:5", [16, 32, 64, 128, 256]),
        ("MLP(hidden=(64, 64)),CNN(),resnet20", ["MLP(hidden=(64, 64))", "CNN()", "resnet20"]),
        ("(16,),(32, 16)", ["(16,)", "(32, 16)"]),
        ("'a,b',\"c\"", ["'a,b'", '"c"']),
        ("choice(relu, gelu)", ["relu", "gelu"]),
        ("-wer,accuracy", ["-wer", "accuracy"]),
    ],
)
def test_lists_and_ranges(text, values):
    read = read_domain(text).values
    assert list(read) == values
    assert [isinstance(value, Text) for value in read] == [isinstance(value, str) for value in values]


@pytest.mark.parametrize(
    ("text", "low", "middle", "high"),
    [("uniform(0, 0.5)", 0.0, 0.25, 0.5), ("loguniform(1e-4,1e-2)", 1e-4, 1e-3, 1e-2), ("int(1, 8)", 1, 5, 8)],
)
def test_distributions(text, low, middle, high):
    domain = read_domain(text)
    assert [domain.at(0.0), domain.at(0.5), domain.at(1 - 1e-12)] == [low, pytest.approx(middle), pytest.approx(high)]
    assert type(domain.at(0.5)) is type(low)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing in it"),
        ("1,,2", "before a comma"),
        ("MLP(hidden=(1,", "a bracket is not closed"),
        ("3..1", "no number in this range"),
        ("1:0:5", "no number in this range"),
        ("0:1:log:5", "above 0"),
        ("1:2", "ranges are written"),
        ("1e-4:1e-2:lin:8", "ranges are written"),
        ("uniform(1)", "takes two numbers"),
        ("uniform(a, b)", "expected a number"),
        ("uniform(2, 1)", "nothing between"),
        ("loguniform(0, 1)", "above 0"),
        ("int(0.5, 2)", "whole numbers"),
        ("1,2,1", "twice"),
    ],
)
def test_what_is_no_space_is_said(text, said):
    with pytest.raises(nm.RequestError, match=f"--sweep.training.seed: .*{said}"):
        Space.of({"training.seed": text})


def trials(space, **options):
    name = options.pop("search", None)
    searcher = make_searcher(name, Asked(space, "max", **options))
    found = []
    while (proposed := searcher.propose(3)) is not None:
        found += proposed
    assert len(found) == searcher.total
    return found


def test_a_grid_is_every_combination_and_seeds_vary_fastest():
    space = Space.of({"training.seed": "0..2", "a": [1, 2], "b": "x,y"})
    assert trials(space) == [
        {"a": a, "b": b, "training.seed": seed} for a in (1, 2) for b in ("x", "y") for seed in range(3)
    ]


def test_zipped_values_go_together():
    space = Space.of({"a": [1, 2], "c": [5, 6], "b": ["x", "y"]}, zipped=[["a", "b"]])
    assert trials(space) == [{"a": a, "b": b, "c": c} for a, b in ((1, "x"), (2, "y")) for c in (5, 6)]
    for zipped, said in (([["a", "c"], ["a", "b"]], "twice"), ([["a", "d"]], "d has no values")):
        with pytest.raises(nm.RequestError, match=said):
            Space.of({"a": [1, 2], "c": [5, 6], "b": ["x", "y"]}, zipped=zipped)
    with pytest.raises(nm.RequestError, match="a has 2, b has 3"):
        Space.of({"a": [1, 2], "b": [1, 2, 3]}, zipped=[["a", "b"]])


def test_a_function_makes_values_of_those_before_it():
    def momentum(values):
        return [] if values["optimizer"] == "Adam()" else [0.8, 0.9]

    space = Space.of({"optimizer": "Adam(),SGD()", "optimizer.momentum": momentum})
    assert trials(space) == [
        {"optimizer": "Adam()"},
        {"optimizer": "SGD()", "optimizer.momentum": 0.8},
        {"optimizer": "SGD()", "optimizer.momentum": 0.9},
    ]
    drawn = Space.of({"a": [1e-3, 1e-1], "b": lambda values: nm.Uniform(values["a"], 10 * values["a"])})
    for values in trials(drawn, trials=20):
        assert values["a"] <= values["b"] <= 10 * values["a"]


@pytest.mark.parametrize("search", ["random", "sobol"])
def test_values_are_drawn_by_the_seed(search):
    space = Space.of({"a": nm.LogUniform(1e-4, 1e-1), "b": "int(1, 4)", "training.seed": range(4)})
    found = trials(space, search=search, trials=256, seed=3)
    assert found == trials(space, search=search, trials=256, seed=3)
    assert found != trials(space, search=search, trials=256, seed=4)
    assert [values["training.seed"] for values in found[:5]] == [0, 1, 2, 3, 0]
    drawn = [values["a"] for values in found[::4]]
    assert len(set(drawn)) == 64
    # A Sobol sequence has as many points in each half; random ones nearly.
    lower = sum(value < 10**-2.5 for value in drawn)
    assert lower == 32 if search == "sobol" else 18 < lower < 46
    assert {values["b"] for values in found} == {1, 2, 3, 4}
    with pytest.raises(nm.RequestError, match="30 trials are no multiple of the 4 seeds"):
        trials(space, search=search, trials=30)


def test_of_lists_none_is_drawn_twice():
    space = Space.of({"a": range(5), "b": range(4)})
    found = trials(space, trials=19, seed=1)
    assert len({tuple(values.items()) for values in found}) == 19
    with pytest.raises(nm.RequestError, match="21 are more than the 20 combinations"):
        trials(space, trials=21)


def test_what_must_be_drawn_needs_a_number_of_trials():
    space = Space.of({"a": "uniform(0, 1)"})
    with pytest.raises(nm.RequestError, match="--sweep_trials=N"):
        trials(space)
    with pytest.raises(nm.RequestError, match="did you mean random"):
        make_searcher("randm", Asked(space, "max"))
    assert all(make_searcher(name, Asked(space, "max", 2 if name != "grid" else None)) for name in ("random", "sobol"))
    assert {"grid", "random", "sobol"} <= set(SEARCHES)


def test_trials_of_one_structure_differ_in_numbers_alone(tiny):
    made = Trials(tiny)
    space = Space.of(
        {
            "optimizer.learning_rate": [nm.optim.Cosine(peak=1e-3), nm.optim.Cosine(peak=1e-2), 0.1],
            "model.hidden": "4,8",
            "model.dropout": "0.1,0.5,none",
        }
    )
    found = [made.trial(number, values) for number, values in enumerate(space.grid())]
    # A schedule or none, one of two widths, dropout or none.
    assert len({trial.structure for trial in found}) == made.num_structures == 2 * 2 * 2
    for trial in found:
        experiment = made.experiment(trial)
        assert experiment.model.hidden == trial.values["model.hidden"]
        assert experiment.model.dropout == trial.values["model.dropout"]
        rate = experiment.optimizer.learning_rate
        assert getattr(rate, "peak", rate) in (1e-3, 1e-2, 0.1)
        assert experiment.model.num_classes == 6
        again = nm.Experiment.from_json(experiment.to_json(), experiment.names)
        assert again.to_json() == experiment.to_json()
    peaks = {float(trial.numbers["optimizer.learning_rate.peak"]) for trial in found[:12]}
    assert sorted(peaks) == pytest.approx([1e-3, 1e-2])


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"optimizer.learning_rat": "1,2"},
            "there is no field optimizer.learning_rat .did you mean optimizer.learning",
        ),
        ({"training.batch_size": "32,x"}, r"trial 1 .*training.batch_size='x'.*: expected int"),
        ({"optimizer.weight_decay": "0,-1"}, "trial 1 .*weight_decay.*-1 is out of range: allowed is 0 or more"),
        ({"model": "MLP(),CNNN()"}, "trial 1 .*there is no public module 'CNNN'"),
        ({"model": "CNN(),MLP()", "model.features": "(2,),(3,)"}, "trial 2 .*there is no field model.features"),
        ({"training.batch_size": [601]}, "trial 0 .*601 is more than the 600 training examples"),
    ],
)
def test_a_trial_that_cannot_be_is_named(tiny, space, said):
    made = Trials(tiny)
    with pytest.raises(nm.RequestError, match=said):
        [made.trial(number, values) for number, values in enumerate(Space.of(space).grid())]


def test_a_space_comes_back_from_its_record(tiny):
    given = {
        "model": [nm.models.MLP((4,)), nm.models.CNN((2,), 4)],
        "optimizer.learning_rate.peak": "1e-3,2e-3",
        "optimizer.weight_decay": nm.LogUniform(0.01, 1.0),
        "training.batch_size": [16, 32],
        "training.evaluate_every": "Epochs(1),5",
        "training.seed": "0..2",
    }
    space = Space.of(given, zipped=[["training.batch_size", "training.evaluate_every"]])
    data = space.to_json(lambda value: codec.to_json(value, tiny.names))
    again = Space.from_json(json.loads(json.dumps(data)))
    assert again.to_json(lambda value: value) == data
    first, second = ([Trials(tiny).trial(0, one.at([u, u, u, u])).values for u in (0.0, 0.6)] for one in (space, again))
    assert first == second
    with pytest.raises(nm.RequestError, match="--experiment=FILE again"):
        Space.from_json(Space.of({"a": [1], "b": lambda values: 1}).to_json(str))
