"""Several runs in one figure, and the command that draws it."""

import json

import numpy as np
import pytest
from PIL import Image

from neuralmon import figures
from neuralmon.figures.compare import main
from neuralmon.figures.comparison import mean_curve


def write_run(folder, name, values, split="validation", end="\n"):
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps({"experiment": {"name": name}}))
    rows = [json.dumps({"step": 10 * step, "split": split, "mse": value}) for step, value in enumerate(values)]
    (folder / "metrics.jsonl").write_text("\n".join(rows) + end)
    return str(folder)


def lines_of(figure):
    return {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}


def test_runs_are_called_by_their_experiments_and_drawn(tmp_path, capsys):
    # The last line of the second is being written.
    runs = [write_run(tmp_path / "a", "lstm", [1, 0.1, 0.01]), write_run(tmp_path / "b", "rnn", [1, 1], end='\n{"st')]
    output = tmp_path / "both.png"
    assert main([*runs, "--metric=mse", f"--output={output}"]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert Image.open(output).width > 300


def test_the_mean_of_seeds_is_taken_where_all_have_a_value():
    seeds = [[(0, 4.0), (10, 2.0), (20, 1.0)], [(0, 2.0), (20, 3.0), (30, 9.0)]]
    rows = [[{"step": step, "split": "validation", "mse": value} for step, value in seed] for seed in seeds]
    figure = figures.figure("comparison", runs=[{"label": "x", "rows": each} for each in rows], metric="mse")
    drawn = lines_of(figure)
    assert len(drawn) == 3
    np.testing.assert_array_equal(drawn["x (best 2, 2 runs)"], [3, 2])
    with pytest.raises(ValueError, match="no step in common"):
        mean_curve([(np.array([1]), np.array([1.0])), (np.array([2]), np.array([1.0]))])


def test_what_is_better_is_known_by_the_metrics_name():
    runs = [{"label": "x", "rows": [{"step": s, "split": "test", "accuracy": s / 10} for s in range(5)]}]
    figure = figures.figure("comparison", runs=runs, metric="accuracy", split="test")
    assert list(lines_of(figure)) == ["x (best 0.4)"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "--metric=rmse"], "run 'lstm' has no 'rmse' of 'validation'; it has mse"),
        (["RUN", "--split=test"], "run 'lstm' has no 'loss' of 'test'; it has nothing"),
        (["nowhere"], "nowhere is no run's folder: metrics.jsonl cannot be read (No such file or directory)"),
        (["RUN", "--metric=mse", "--output=nowhere/a.png"], "--output=nowhere/a.png: there is no folder nowhere"),
        (["DAMAGED"], "metrics.jsonl, line 2 is damaged: it is no JSON"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path, capsys, arguments, message):
    run, damaged = write_run(tmp_path / "a", "lstm", [1, 2]), write_run(tmp_path / "d", "lstm", [1], end="\nno\n")
    assert main([{"RUN": run, "DAMAGED": damaged}.get(text, text) for text in arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_label_is_the_users_and_like_names_are_told_apart(tmp_path):
    from neuralmon.figures.compare import read_runs

    runs = [write_run(tmp_path / name, "lstm", [1, 2]) for name in "abc"]
    labels = [run["label"] for run in read_runs([runs[0], runs[1], f"mine={runs[2]}"])]
    assert labels == [runs[0], runs[1], "mine"]
