"""Searches that decide while trials train: on a small network, from the sweep's call to its table."""

import dataclasses
import itertools
import json
import re

import jax
import numpy as np
import pytest
import tiny

import neuralmon as nm
from neuralmon.errors import RequestError
from neuralmon.parallel import one_device
from neuralmon.sweeps.search import SEARCHES, Asked, make_searcher, search_help
from neuralmon.sweeps.space import Space
from neuralmon.training.check import check_fields
from neuralmon.training.feed import resident
from neuralmon.training.program import compiled

RATE = "optimizer.learning_rate"


def experiment():
    return dataclasses.replace(
        tiny.experiment(),
        dataset=tiny.Blobs(shift=None, train_size=160),
        model=nm.models.MLP(hidden=(8,)),
        optimizer=nm.optim.SGD(learning_rate=0.1),
        training=nm.Training(batch_size=16, steps=36, steps_per_chunk=4, evaluate_every=4),
    )


def sweep(search, workdir=None, **options):
    space = {RATE: nm.LogUniform(1e-3, 10.0)}
    return nm.sweep(experiment(), space, workdir, search=search, slots=4, **options)


def without_time(result):
    return [{**row, "seconds": 0} for row in result.rows]


@pytest.mark.slow
def test_a_schedule_of_the_table_trained_alone_ends_in_the_same_metrics():
    result = sweep("pbt(resample=0.5)")
    changed = [row for row in result.rows if "changes" in row]
    assert changed and result.compilations <= 1
    program, numbers, mesh = compiled(check_fields(experiment()), one_device())
    data = resident(experiment().dataset, mesh)
    for row in changed:
        schedule = result.schedule(row["trial"])
        state = program.init(numbers)
        for begin, end in itertools.pairwise(range(0, 37, 4)):
            rate = [entry["values"][RATE] for entry in schedule if entry["step"] <= begin][-1]
            numbers = {**numbers, RATE: np.float32(rate)}
            state, _ = program.chunk(numbers, state, data["train"], np.int32(end - begin))
        sums = jax.device_get(program.evaluate(numbers, state, data["validation"]))
        metrics = experiment().task.report(sums, experiment().dataset.spec())
        assert {name: metrics[name] for name in row["metrics"]} == row["metrics"]
    assert (result.best.command is None) == ("changes" in result.rows[result.best.number])


def test_hyperband_trains_most_trials_for_a_part_of_the_steps_in_one_program(tmp_path):
    result = sweep("hyperband", tmp_path)
    steps = [row["step"] for row in result.rows]
    assert result.compilations <= 1 and set(steps) == {4, 12, 36}
    assert [row["status"] for row in result.rows] == ["finished" if step == 36 else "stopped" for step in steps]
    assert len(steps) == 9 + 5 + 3 and sum(steps) < 0.6 * 36 * len(steps)
    assert result.best.number in [index for index, step in enumerate(steps) if step == 36]
    cut_off_and_launched_again("hyperband", tmp_path, result)


@pytest.mark.slow
@pytest.mark.parametrize(("search", "trials"), [("halving(eta=2)", 9), ("pbt", None), ("tpe(startup=4)", 12)])
def test_a_sweep_that_was_cut_off_ends_in_the_same_table(search, trials, tmp_path):
    cut_off_and_launched_again(search, tmp_path, sweep(search, tmp_path, trials=trials), trials=trials)


def cut_off_and_launched_again(search, folder, whole, **options):
    (folder / "result.json").unlink()
    rows = (folder / "trials.jsonl").read_text().splitlines(keepends=True)
    (folder / "trials.jsonl").write_text("".join(rows[: len(rows) // 2]) + rows[-1][:20])
    again = sweep(search, folder, **options)
    assert without_time(again) == without_time(whole)
    assert json.loads((folder / "best.json").read_text())["trial"] == whole.best.number


@pytest.mark.parametrize("search", SEARCHES)
def test_help_says_what_a_search_does_and_what_each_of_its_options_means(search):
    first, *lines = search_help(search).splitlines()
    assert first.startswith(f"--sweep_search={search}: ") and len(first.split()) > 5
    options = " ".join(" ".join(lines).split()).split(". ") if lines else []
    assert all(re.match(r"\w+=\S+ \w+ \w+", option) for option in options)
    assert bool(options) == (search not in ("grid", "random", "sobol"))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("hyperbnd", r"there is no 'hyperbnd' \(did you mean hyperband\?\)"),
        ("hyperband(4)", "written name=value, each once, not '4'"),
        ("hyperband(eta=2, eta=3)", "each once, not 'eta=3'"),
        ("hyperband(eta=4", "is not written as a search is"),
        ("random(startup=3)", "random has no option 'startup'; it has none"),
    ],
)
def test_a_search_that_is_not_there_is_said_at_once(search, message):
    with pytest.raises(RequestError, match=message):
        make_searcher(search, Asked(Space.of({RATE: nm.LogUniform(1e-3, 1.0)}), "max", 4, 0, 36, (12, 36)))
