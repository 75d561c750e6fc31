"""The table of runs: which runs are one row, and what stands in it."""

import json
import types
from pathlib import Path
from typing import Any

import pytest

import neuralmon as nm
from neuralmon.reports import results as room
from neuralmon.reports.results import results


def run(folder: Path, accuracy: float, *words: str, seed: int = 0, seconds: float | None = 2.0, **changes: Any) -> None:
    folder.mkdir(parents=True)
    problem = {"dataset": {"type": "neuralmon.data.Iris"}, "task": {"type": "neuralmon.tasks.Classification"}}
    experiment = {"type": "Experiment", **problem, "training": {"seed": seed}, **changes}
    launch = {"command": ["launch.py", "--experiment=mine", *words, f"--workdir={folder}", f"--training.seed={seed}"]}
    for name, data in {
        "experiment": {"format": 1, "experiment": experiment},
        "launches": [{**launch, **({"seconds": seconds} if seconds else {})}],
        "result": {"experiment": "mine", "metrics": {"test": {"accuracy": accuracy, "loss": 12.34567}}},
    }.items():
        (folder / f"{name}.json").write_text(json.dumps(data))


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def test_seeds_are_one_row_with_mean_and_deviation(tmp_path: Path) -> None:
    for seed, accuracy in enumerate((0.90, 0.92, 0.94)):
        run(tmp_path / f"a/{seed}", accuracy, seed=seed, seconds=1.0 + seed)
    run(tmp_path / "b", 0.5, "--model=MLP(hidden=(4,))", model={"hidden": [4]})
    assert rows(results(tmp_path)) == [
        ["mine", "accuracy", "0.9200 ± 0.0200 (3 seeds)", "", "2", "`python launch.py --experiment=mine`"],
        ["mine", "accuracy", "0.5000", "", "2", "`python launch.py --experiment=mine '--model=MLP(hidden=(4,))'`"],
    ]


def test_published_figures_stand_beside_with_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = nm.Published(metric="loss", value=0.25, source="Somebody 1998, table 1")
    module = types.SimpleNamespace(PUBLISHED=published)
    names = types.SimpleNamespace(module=module)
    loaded = types.SimpleNamespace(names=names, dataset=nm.data.Iris(), task=nm.tasks.Classification())
    monkeypatch.setattr(room, "shipped", lambda: {"mine": ""})
    monkeypatch.setattr(room, "load_experiment", lambda name: loaded)
    run(tmp_path / "a", 0.9)
    text = results(tmp_path)
    assert rows(text)[0][1:4] == ["loss", "12.35", "0.2500 [1]"]
    assert text.endswith("\n1. Somebody 1998, table 1")

    # Another network is measured by the same figure, and other data is not.
    run(tmp_path / "b", 0.9, "--model.hidden=4", model={"hidden": [4]})
    run(tmp_path / "c", 0.9, "--dataset=Moons()", dataset={"type": "neuralmon.data.Moons"})
    assert {row[5]: row[3] for row in rows(results(tmp_path))} == {
        "`python launch.py --experiment=mine`": "0.2500 [1]",
        "`python launch.py --experiment=mine --model.hidden=4`": "0.2500 [1]",
        "`python launch.py --experiment=mine '--dataset=Moons()'`": "",
    }
    # With another task a run has other metrics; which figure stands beside it, the task says.
    module.PUBLISHED = nm.Published(metric="bleu", value=3.0)
    assert rows(results(tmp_path))[0][1:4] == ["accuracy", "0.9000", ""]


def test_only_what_was_trained_tells_rows_apart(tmp_path: Path) -> None:
    """Not how the folder was given, or whether figures were drawn."""
    run(tmp_path / "0", 0.8, "--workdir", "somewhere", seed=0)
    run(tmp_path / "1", 0.9, "--nofigures", seed=1)
    run(tmp_path / "2", 1.0, "--training.seed", "2", seed=2)
    ((name, _, result, _, _, command),) = rows(results(tmp_path))
    assert (name, result) == ("mine", "0.9000 ± 0.1000 (3 seeds)")
    assert command == "`python launch.py --experiment=mine`"


def test_runs_of_a_program_have_no_command(tmp_path: Path) -> None:
    run(tmp_path / "0", 0.8)
    launches = [{"command": ["my_program.py", "--fast"], "seconds": 1.0}]
    (tmp_path / "0" / "launches.json").write_text(json.dumps(launches))
    assert rows(results(tmp_path))[0][5] == "from Python"


def test_a_launch_that_was_killed_has_no_seconds(tmp_path: Path) -> None:
    run(tmp_path / "a", 0.9, seconds=None)
    assert rows(results(tmp_path))[0][4] == "-"


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(nm.RequestError, match="there is no finished run in it or below it"):
        results(tmp_path)
