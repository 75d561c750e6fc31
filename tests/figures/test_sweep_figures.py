"""Figures of sweeps show each trial where its values and its metric put it."""

import numpy as np
import pytest

from neuralmon import figures
from neuralmon.sweeps.pictures import FIGURES, draw
from neuralmon.sweeps.result import SweepResult

RATES = (1e-4, 1e-3, 1e-2, 1e-1)
SCORES = {1e-4: 0.90, 1e-3: 0.97, 1e-2: 0.95, 1e-1: 0.11}


def trials(**changed):
    return [
        {
            "values": {"optimizer.learning_rate": rate, "model": "CNN()", "training.seed": seed},
            "objective": SCORES[rate] + 0.01 * seed,
            "curve": [(step, SCORES[rate] + 0.01 * seed - 0.3 / step) for step in (10, 20, 30)],
            **changed,
        }
        for rate in RATES
        for seed in (0, 1, 2)
    ]


def test_each_parameter_that_differs_has_a_panel_and_the_best_trial_a_circle():
    drawn = figures.figure("trials_by_parameter", rows=trials(), metric="accuracy")
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes if axes.get_visible()}
    assert set(panels) == {"optimizer.learning_rate", "training.seed"}  # one model: nothing to compare
    rate = panels["optimizer.learning_rate"]
    assert rate.get_xscale() == "log"
    points, beyond, medians, circle = rate.lines
    np.testing.assert_allclose(medians.get_xdata(), RATES)
    np.testing.assert_allclose(medians.get_ydata(), [SCORES[one] + 0.01 for one in RATES])
    np.testing.assert_allclose(circle.get_xydata(), [[1e-3, 0.99]])
    # What failed badly does not press all others together, and is not left out silently.
    assert len(points.get_xdata()) == 9
    np.testing.assert_allclose(beyond.get_xdata(), [1e-1] * 3)
    assert rate.get_ylim()[0] > 0.5
    assert "triangles: 3 of 12 trials" in drawn.get_supxlabel()


def test_the_smallest_is_the_best_where_less_is_better():
    drawn = figures.figure("trials_by_parameter", rows=trials(), metric="loss", direction="min")
    circle = drawn.axes[0].lines[-1]
    np.testing.assert_allclose(circle.get_xydata(), [[1e-1, 0.11]])


def test_lines_go_through_their_values_and_the_best_one_is_on_top():
    drawn = figures.figure("parallel_coordinates", rows=trials(), metric="accuracy")
    lines = [line for line in drawn.axes[0].lines if len(line.get_xdata()) == 3]  # rate, seed, accuracy
    assert len(lines) == 12
    widths = [line.get_linewidth() for line in lines]
    assert widths.index(max(widths)) == 11
    np.testing.assert_allclose(lines[-1].get_ydata(), [1 / 3, 1, 1], atol=0.03)


def test_curves_of_seeds_are_a_mean_and_a_band():
    drawn = figures.figure("trial_curves", rows=trials(), metric="accuracy")
    axes = drawn.axes[0]
    best = axes.lines[0]
    np.testing.assert_allclose(best.get_ydata(), [0.98 - 0.3 / step for step in (10, 20, 30)])
    assert "0.001" in best.get_label() and "(3 seeds)" in best.get_label()
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.99 - 0.01)
    assert len(axes.collections) == 4


@pytest.mark.parametrize("name", FIGURES)
def test_what_cannot_be_drawn_is_said(name):
    rows = trials(objective=None, curve=[])
    with pytest.raises(ValueError, match=r"no trial has a curve|no parameter has different values"):
        figures.figure(name, rows=rows, metric="accuracy")


def result(rows):
    return SweepResult(rows, "accuracy", "max", None, {}, {}, {}, 1, None)


def test_a_result_draws_its_figures(tmp_path):
    rows = [
        {
            "trial": number,
            "values": {"lr": rate, "model": {"CNN": {}}},
            "status": "finished",
            "step": 10,
            "objective": SCORES[rate],
            "metrics": {"accuracy": SCORES[rate]},
            "evaluations": [{"step": 10, "train": {}, "validation": {"accuracy": SCORES[rate]}}],
            "seconds": 1.0,
        }
        for number, rate in enumerate(RATES)
    ]
    drawn = result(rows).plot()
    np.testing.assert_allclose(drawn.axes[0].lines[-1].get_xydata(), [[1e-3, 0.97]])
    with pytest.raises(ValueError, match="there is no figure 'curves' of a sweep; there are trials_by_parameter"):
        result(rows).plot("curves")
    failed = [{**row, "status": "failed", "objective": None, "evaluations": []} for row in rows]
    assert draw(result(failed), tmp_path) == []
    assert not list(tmp_path.iterdir())
