"""Population based training, of trainings that are a few multiplications."""

import pytest
from sweeps.simulated import asked, sweep

from neuralmon.errors import RequestError
from neuralmon.sweeps.domains import IntUniform, LogUniform, Uniform
from neuralmon.sweeps.schedule import schedule_of
from neuralmon.sweeps.search import Continue, Copy, Report, pbt

EVERY = tuple(range(4, 201, 4))
TOY = {"h0": Uniform(0, 1), "h1": Uniform(0, 1)}


def toy(state, values, step):
    """The experiment of section 3.2 and figure 2: the surrogate's gradient, scaled by h; the objective is without h."""
    first, second = state or (0.9, 0.9)
    for _ in range(4):
        first, second = first * (1 - 0.02 * values["h0"]), second * (1 - 0.02 * values["h1"])
    return (first, second), 1.2 - first**2 - second**2


def population(space, numbers, evaluations=EVERY, size=10, **others):
    question = asked(space, evaluations=evaluations, trials=size, slots=size, numbers=tuple(numbers), **others)
    return question, pbt.pbt(question)


def alone(training, **values):
    """Returns the objective at the end of a training whose values stay as they are."""
    state = None
    for step in EVERY:
        state, objective = training(state, values, step)
    return objective


def test_it_beats_every_fixed_value_where_a_schedule_is_needed():
    """Far away only a large rate gets on, and near the end noise grows with the rate."""

    def noisy(state, values, step):
        state = 100.0 if state is None else state
        for _ in range(4):
            state += values["rate"] * (1 - state) + (values["rate"] ** 2 if state < 50 else 0)
        return state, -abs(state - 1)

    rates = [10 ** (-3 + 3 * index / 63) for index in range(64)]
    question, search = population({"rate": LogUniform(1e-3, 1.0)}, ["rate"], seed=1)
    best = max(row.objective for row in sweep(search, question, noisy))
    assert best > max(alone(noisy, rate=rate) for rate in rates)


def test_two_bad_members_reach_the_optimum_of_the_papers_toy_problem():
    """Each member alone moves one coordinate and ends at about 0.4; by copies both coordinates move."""
    question, search = population(TOY, TOY, size=2)
    search._waiting = [{"h0": 1.0, "h1": 0.0}, {"h0": 0.0, "h1": 1.0}]
    best = max(row.objective for row in sweep(search, question, toy))
    assert alone(toy, h0=1.0, h1=0.0) == pytest.approx(alone(toy, h0=0.0, h1=1.0))
    assert alone(toy, h0=1.0, h1=0.0) < 0.4 < 1.1 < best


@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_schedule_in_the_record_is_all_that_the_best_trial_was_trained_with(direction):
    question, search = population(TOY, TOY, direction=direction, options={"every": "10"})
    rows = sweep(search, question, toy)
    sign = 1 if direction == "max" else -1
    best = max(range(10), key=lambda number: sign * rows[number].objective)
    schedule = schedule_of(dict(enumerate(map(vars, rows))), best)
    assert len(schedule) > 2
    assert [entry["step"] % 10 < 4 for entry in schedule] == [True] * len(schedule)
    state = None
    for step in EVERY:
        values = [entry["values"] for entry in schedule if entry["step"] < step][-1]
        state, _ = toy(state, values, step)
    assert state == rows[best].state and schedule[-1]["trial"] == best


def test_the_worst_fifth_takes_the_state_of_the_best_fifth():
    question, search = population(TOY, TOY, evaluations=(4, 8, 12), size=15)
    report, seen = search.report, []

    def watched(reports):
        decisions = report(reports)
        order = sorted(reports, key=lambda one: one.objective)
        if not reports[0].ended:
            copies = {
                one.trial: made.source for one, made in zip(reports, decisions, strict=True) if hasattr(made, "source")
            }
            assert set(copies) == {one.trial for one in order[:3]}
            assert set(copies.values()) <= {one.trial for one in order[-3:]}
            seen.append(len(copies))
        return decisions

    search.report = watched
    sweep(search, question, toy)
    assert seen == [3, 3]


def test_numbers_stay_in_their_domains_and_the_rest_is_left_alone():
    space = {
        "rate": LogUniform(1e-3, 1e-1),
        "delay": IntUniform(1, 5),
        "decay": ["0", "1e-4", "1e-3"],
        "width": [16, 32],
        "training.seed": [3, 4],
    }
    question, search = population(
        space, ["rate", "delay", "decay", "training.seed"], size=16, options={"resample": "0"}
    )
    at_first, steps = {}, set()

    def training(state, values, step):
        assert 1e-3 <= values["rate"] <= 1e-1 and values["delay"] in range(1, 6)
        assert float(values["decay"]) in (0, 1e-4, 1e-3)
        return (state or 0) + values["rate"] * values["delay"], (state or 0) * (1 + float(values["decay"]))

    def watched(reports):
        for one in reports:
            member = search._members[one.trial].values
            at_first.setdefault(one.trial, (member["width"], member["training.seed"]))
        decisions = report(reports)
        for one, made in zip(reports, decisions, strict=True):
            if hasattr(made, "source"):
                assert "width" not in made.values and "training.seed" not in made.values
                assert at_first[made.source][0] == at_first[one.trial][0]
                steps.add(one.step)
        return decisions

    report, search.report = search.report, watched
    rows = sweep(search, question, training)
    assert [(row.values["width"], row.values["training.seed"]) for row in rows] == list(at_first.values())
    assert len(steps) == len(EVERY) - 1
    assert sweep(pbt.pbt(question), question, training) == rows


def test_a_seed_that_is_drawn_stays_as_it_is():
    _, search = population({**TOY, "training.seed": IntUniform(0, 9)}, [*TOY, "training.seed"], size=4)
    search.propose(4)
    decisions = search.report([Report(number, 4, 200, float(number), False, {}) for number in range(4)])
    assert decisions[0] == Copy(3, decisions[0].values) and set(decisions[0].values) == set(TOY)
    assert decisions[1:] == [Continue()] * 3


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"trials": 9, "slots": 4}, r"9 trials need as many slots, not 4 \(--sweep_slots=9\)"),
        ({"slots": 1}, "two members or more"),
        ({"slots": 4, "evaluations": (200,)}, "no evaluation before the end; give --training.evaluate_every"),
        ({"slots": 4, "numbers": ("h2",)}, "none of h0, h1 is a number that may change"),
        ({"slots": 4, "options": {"truncate": "0.7"}}, "truncate=0.7"),
    ],
)
def test_what_cannot_be_is_said_at_once(others, message):
    with pytest.raises(RequestError, match=message):
        pbt.pbt(asked(TOY, **{"numbers": ("h0", "h1"), "evaluations": EVERY, **others}))
