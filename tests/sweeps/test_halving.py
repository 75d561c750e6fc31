"""Successive halving and Hyperband, on learning curves that are functions of the values."""

import math
import random

import pytest
from sweeps.simulated import asked, sweep

from neuralmon.errors import RequestError
from neuralmon.sweeps.domains import Uniform
from neuralmon.sweeps.search import halving

SPACE = {"x": Uniform(0, 1)}
EVERY = tuple(range(1, 82))


def curve(_, values, step):
    """Better values are better from the beginning on."""
    return None, (values["x"] - 1) / step


def crossing(_, values, step):
    """What is good at the end is bad to begin with."""
    return None, math.sin(40 * values["x"]) * (81 - step) + values["x"] * step


def test_slots_for_all_are_the_synchronous_form():
    question = asked(SPACE, evaluations=EVERY, trials=27, slots=27, seed=3)
    rows = sweep(halving.halving(question), question, crossing)
    left = list(range(27))
    for rung in (1, 3, 9, 27):
        scores = {trial: crossing(None, rows[trial].values, rung)[1] for trial in left}
        going = sorted(left, key=lambda trial: -scores[trial])[: max(1, len(left) // 3)]
        assert {rows[trial].steps for trial in left if trial not in going} <= {rung}
        left = going
    assert [rows[trial].steps for trial in left] == [81]


@pytest.mark.parametrize("slots", [1, 4, 16])
@pytest.mark.parametrize("direction", ["max", "min"])
def test_the_best_comes_to_the_end_for_a_part_of_the_steps(slots, direction):
    question = asked(SPACE, direction, evaluations=EVERY, trials=81, slots=slots)
    sign = 1 if direction == "max" else -1
    rows = sweep(halving.halving(question), question, lambda *at: (None, sign * curve(*at)[1]))
    best = max(rows, key=lambda row: row.values["x"])
    assert best.steps == 81 and best.reason is None
    assert sum(row.steps for row in rows) < (0.2 if slots > 1 else 0.3) * 81 * 81


def test_a_trial_that_ends_is_not_among_the_best_of_those_that_came_to_its_rung_before_it():
    question = asked(SPACE, evaluations=(10, 20, 40), trials=60, slots=5, seed=1, options={"eta": "2"})
    search = halving.halving(question)
    rows, there = sweep(search, question, crossing), {10: [], 20: []}
    assert {row.steps for row in rows} == {10, 20, 40}
    for number, row in enumerate(rows):
        if row.reason:
            assert row.reason.endswith(f"at the rung of step {row.steps}")
            place, among = map(int, row.reason.split(" at ")[0].split(" of "))
            assert place > max(1, among // 2) and among <= number + 5
            there[row.steps].append(row)
    assert len(there[10]) >= 30 - 5  # half of them, give or take the first ones


def test_hyperband_has_the_brackets_of_the_paper():
    question = asked(SPACE, evaluations=EVERY, slots=8)
    search = halving.hyperband(question)
    rows = sweep(search, question, crossing)
    brackets = [standing.bracket for standing in search._standings]
    # Table 1 of Li et al. 2018: R=81, eta=3.
    assert [brackets.count(bracket) for bracket in range(5)] == [81, 34, 15, 8, 5] and search.total == len(rows)
    for bracket, first in enumerate([1, 3, 9, 27, 81]):
        assert min(row.steps for row, of in zip(rows, brackets, strict=True) if of == bracket) == first
    more = halving.hyperband(asked(SPACE, evaluations=EVERY, trials=150))
    assert more.total == 150 and halving.hyperband(asked(SPACE, evaluations=EVERY, trials=20)).total == 20


def test_the_same_reports_give_the_same_table():
    question = asked({"x": Uniform(0, 1), "y": ["a", "b"]}, evaluations=EVERY, slots=6, seed=5)
    tables = [sweep(halving.hyperband(question), question, crossing) for _ in range(2)]
    assert tables[0] == tables[1]


def test_a_grid_is_gone_through_once_in_random_order():
    question = asked({"x": [0.1, 0.2, 0.3], "y": ["a", "b"]}, evaluations=EVERY, slots=4)
    values = [tuple(row.values.values()) for row in sweep(halving.halving(question), question, curve)]
    grid = [(x, y) for x in (0.1, 0.2, 0.3) for y in "ab"]
    assert sorted(values) == grid != values


def test_other_seeds_are_of_those_that_come_to_the_end_alone():
    question = asked({"x": Uniform(0, 1), "training.seed": [7, 8, 9]}, evaluations=EVERY, trials=27, slots=9)
    rows = sweep(halving.halving(question), question, curve)
    whole = {row.values["x"] for row in rows if row.steps == 81}
    for x in {row.values["x"] for row in rows}:
        seeds = [row.values["training.seed"] for row in rows if row.values["x"] == x]
        assert seeds == ([7, 8, 9] if x in whole else [7])


def test_what_diverges_is_worse_than_all_others_and_has_no_further_seeds():
    generator = random.Random(0)

    def training(_, values, step):
        return None, None if step >= 5 and values["x"] > 0.6 else curve(_, values, step)[1] + generator.random() * 1e-9

    question = asked({"x": Uniform(0, 1), "training.seed": [0, 1]}, evaluations=EVERY, trials=40, slots=7)
    rows = sweep(halving.halving(question), question, training)
    assert all(row.values["x"] <= 0.6 for row in rows if row.values["training.seed"] == 1)
    assert any(row.objective is None for row in rows)


@pytest.mark.parametrize(
    ("evaluations", "options", "message"),
    [
        ((90,), {}, "to end after some 30, but the first evaluation is at 90; give --training.evaluate_every"),
        ((60, 90), {}, "the first evaluation is at 60"),
        ((10, 90), {"first": "60"}, "first=60 is too late for eta=3"),
        ((10, 90), {"eta": "1"}, r"eta=1\): 1 is out of range: allowed is 2 or more"),
    ],
)
def test_rungs_that_cannot_be_are_said_at_once(evaluations, options, message):
    for search in (halving.halving, halving.hyperband):
        with pytest.raises(RequestError, match=message):
            search(asked(SPACE, evaluations=evaluations, trials=9, options=options))
    with pytest.raises(RequestError, match="say how many configurations"):
        halving.halving(asked(SPACE, evaluations=EVERY))
