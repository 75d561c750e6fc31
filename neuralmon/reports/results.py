"""`--mode=results`: what runs have measured, beside what others have published."""

import dataclasses
import itertools
import json
import shlex
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from neuralmon.catalog import load_experiment
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.published import Published
from neuralmon.shipped import shipped
from neuralmon.training.run_folder import RunFolder

_SAID = (
    "Metrics of the test split, mean and standard deviation over seeds. To each command belong `--workdir=FOLDER` and, "
    "of several seeds, `--training.seed=N`. Seconds are those of whole launches; a dash stands where one was killed."
)
# Of a command line, what decides nothing; the first two have a value.
_LEFT_OUT = ("workdir", "training.seed", "quiet", "allow_changes", "debug", "figures", "nofigures")
_HEAD = ("experiment", "test metric", "result", "to stand beside", "seconds a run", "command")


@dataclasses.dataclass(frozen=True)
class _Run:
    """A finished run: what makes it the same experiment as another one, and what came out.

    `problem` are the types of its dataset and task: who changes them can no longer be compared with what is published.
    """

    experiment: str
    problem: dict[str, str]
    same: str
    seed: int
    words: tuple[str, ...]
    metrics: dict[str, Any]
    seconds: float | None


def results(folder: str | Path) -> str:
    """Returns a table in Markdown of all finished runs below a folder, runs that differ in their seed in one row.

    Raises:
      RequestError: there is none.
    """
    found = sorted(_runs(Path(folder)), key=lambda run: (run.experiment, run.same, run.seed))
    if not found:
        raise RequestError(f"--workdir={folder}: there is no finished run in it or below it")
    groups = [list(runs) for _, runs in itertools.groupby(found, key=lambda run: (run.experiment, run.same))]
    groups.sort(key=lambda runs: (runs[0].experiment, runs[0].words))
    known = shipped()
    rows = [(runs, _published(runs[0], known)) for runs in groups]
    sources = list(dict.fromkeys(published.source for _, published in rows if published.source))
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    for runs, published in rows:
        number = f" [{sources.index(published.source) + 1}]" if published.source else ""
        lines.append(_line(_cells(runs, published, number)))
    notes = [f"{number}. {source}" for number, source in enumerate(sources, 1)]
    return "\n".join(["# Results", "", _SAID, "", *lines, *(["", *notes] if notes else [])])


def _runs(folder: Path) -> Iterator[_Run]:
    for file in sorted(folder.rglob("result.json")):
        run = RunFolder(file.parent)
        recorded, outcome, launches = (run.read(name) for name in ("experiment.json", "result.json", "launches.json"))
        if not recorded or "test" not in (outcome or {}).get("metrics", {}):
            continue
        experiment = recorded["experiment"]
        seed = experiment["training"].pop("seed", 0)
        words = _asked(launches[0]["command"][1:])
        lasted = [launch.get("seconds") for launch in launches]
        yield _Run(
            experiment=outcome["experiment"],
            problem={name: experiment[name]["type"].rpartition(".")[2] for name in ("dataset", "task")},
            same=json.dumps(experiment, sort_keys=True),
            seed=seed,
            words=words,
            metrics=outcome["metrics"]["test"],
            seconds=None if None in lasted else sum(lasted),
        )


def _asked(words: list[str]) -> tuple[str, ...]:
    """Returns the words of a command line that say what was trained; () if there are none, as of `nm.train`."""
    given = iter(words)
    kept: list[str] = []
    for word in given:
        if word.lstrip("-").startswith(_LEFT_OUT):
            if "=" not in word and word.lstrip("-") in _LEFT_OUT[:2]:
                next(given, None)  # its value is the next word
        else:
            kept.append(word)
    return tuple(kept) if any(word.lstrip("-").startswith("experiment") for word in kept) else ()


def _cells(runs: list[_Run], published: Published, number: str) -> list[str]:
    """Returns the cells of runs that differ in their seed only."""
    values = [run.metrics[published.metric] for run in runs]
    result = _number(statistics.mean(values))
    if len(values) > 1:
        result += f" ± {_number(statistics.stdev(values))} ({len(values)} seeds)"
    lasted = [run.seconds for run in runs if run.seconds is not None]
    return [
        runs[0].experiment,
        published.metric.replace("_", " "),
        result,
        "" if published.value is None else _number(published.value) + number,
        f"{statistics.mean(lasted):,.0f}" if lasted else "-",
        f"`{shlex.join(['python', 'launch.py', *runs[0].words])}`" if runs[0].words else "from Python",
    ]


def _published(run: _Run, known: dict[str, str]) -> Published:
    """Returns what an experiment's file says is to be looked at; else what its task compares states by."""
    if run.experiment in known:
        experiment: Experiment = load_experiment(run.experiment)
        said = getattr(experiment.names.module, "PUBLISHED", None)
        # A run with another task has other metrics.
        if said is not None and said.metric in run.metrics:
            own = {name: type(getattr(experiment, name)).__name__ for name in run.problem}
            return said if run.problem == own else Published(metric=said.metric)
        if (name := experiment.task.monitor()[0]) in run.metrics:
            return Published(metric=name)
    return Published(metric="accuracy" if "accuracy" in run.metrics else "loss")


def _number(value: float) -> str:
    if abs(value) >= 1:
        return f"{value:.4g}"
    return f"{value:.4f}" if abs(value) >= 0.01 or not value else f"{value:.2g}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
