"""Which values mattered, where that is known."""

import importlib.util
import math
import random

import pytest

from neuralmon.sweeps.importance import importance

pytest.importorskip("optuna")
GENERATOR = random.Random(0)
ROWS = [
    {
        "rate": 10 ** GENERATOR.uniform(-5, -1),
        "model": GENERATOR.choice([{"MLP": {}}, {"CNN": {"hidden": 3}}]),
        "width": GENERATOR.choice([16, 32, 64]),
        "nothing": 3,
        "training.seed": GENERATOR.randrange(4),
    }
    for _ in range(60)
]


def hide(monkeypatch, library):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else find(name))


def objective(row):
    return -((math.log10(row["rate"]) + 3) ** 2) + 1.5 * ("CNN" in row["model"]) + 0.02 * row["training.seed"]


@pytest.mark.parametrize("forest", [True, False])
def test_shares_are_as_the_variances_of_the_parts(forest, monkeypatch):
    if not forest:
        hide(monkeypatch, "sklearn")
    found = importance(ROWS, [objective(row) for row in ROWS], "max")
    assert next(iter(found.shares)) == "rate" and "nothing" not in found.shares
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.method == ("fANOVA" if forest else "PED-ANOVA") and found.method in str(found)
    if forest:
        # Of (log10 x + 3)^2, uniform over (-2, 2), the variance is 64 / 45; of 1.5 times a coin, 9 / 16.
        assert found.shares["rate"] == pytest.approx(64 / 45 / (64 / 45 + 9 / 16), abs=0.12)
        assert list(found.shares)[1] == "model" and found.shares["width"] + found.shares["training.seed"] < 0.1
    assert importance(ROWS, [-objective(row) for row in ROWS], "min").shares == pytest.approx(found.shares, abs=1e-9)


def test_what_diverges_is_as_bad_as_the_worst():
    told = [None if row["rate"] > 1e-2 else 0.001 * GENERATOR.random() + (row["rate"] > 1e-4) for row in ROWS]
    assert importance(ROWS, told, "max").shares["rate"] > 0.8


def test_why_nothing_can_be_said_is_said(monkeypatch):
    assert "there are 7 trials, and 8 are needed" in str(importance(ROWS[:7], [1.0] * 7, "max"))
    assert "alike" in str(importance(ROWS, [1.0] * 60, "max"))
    hide(monkeypatch, "optuna")
    assert "pip install 'neuralmon[search]'" in str(importance(ROWS, [objective(row) for row in ROWS], "max"))
