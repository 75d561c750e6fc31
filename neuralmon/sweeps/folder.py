"""A sweep's folder.

sweep.json          the experiment, its space and how it is searched
experiment.py       the file that the experiment came from
launches.json       each launch, as of a run
trials.jsonl        a row per trial that has ended
trials/<number>/    a run's folder for each trial that is kept
best.json           the best experiment so far, and its command line
result.json         the end: the best one with its test metrics, the spread over seeds, the ensemble
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

import jax

from neuralmon.errors import RequestError, RunError
from neuralmon.experiment import Experiment
from neuralmon.names import Names
from neuralmon.training.checkpoint import fingerprint
from neuralmon.training.result import open_checkpoints
from neuralmon.training.run_folder import RunFolder

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class SweepFolder(RunFolder):
    """Reads and writes the files of one sweep; `plan` is what decides it, beside the experiment."""

    plan: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def holds_run(self) -> bool:
        """Whether a sweep was ever started here."""
        return (self.path / "sweep.json").is_file()

    def record(self, experiment: Experiment) -> str | None:
        """Writes what was asked, as `RunFolder.record` does."""
        self.write("sweep.json", {"format": 1, "experiment": experiment.to_json(), **self.plan})
        return self.keep_source(experiment)

    def recorded_plan(self) -> dict[str, Any]:
        """Returns the plan that the sweep was started with, the experiment's data as "experiment"."""
        match self.read("sweep.json"):
            case {"format": 1, **plan}:
                return {str(key): value for key, value in plan.items()}
            case None:
                raise RequestError(f"{self.path} holds no sweep: there is no sweep.json in it")
        raise RequestError(f"{self.path / 'sweep.json'} is not of format 1, which this version reads")

    def recorded_experiment(self, names: Names | None = None) -> Experiment:
        """Returns the experiment whose fields are swept."""
        try:
            return Experiment.from_json(self.recorded_plan()["experiment"], names or Names())
        except RequestError as error:
            hint = "" if names else "; if it has a model or data of its own, give --experiment=FILE again"
            raise RequestError(f"{self.path / 'sweep.json'}: {error}{hint}") from None

    def check_same(self, experiment: Experiment) -> None:
        """Raises RequestError if another sweep was started here."""
        recorded, asked = self.recorded_plan(), {"experiment": experiment.to_json(), **self.plan}
        if different := [key for key in {**recorded, **asked} if recorded.get(key) != asked.get(key)]:
            old, new = (f"{plan.get(different[0])!s:.200}" for plan in (recorded, asked))
            what = f"{different[0]} was {old}, now {new}" if different[0] != "experiment" else "of another experiment"
            raise RequestError(f"the sweep in {self.path} is another one ({what}); give another --workdir")

    def rows(self) -> list[Row]:
        """Returns the rows of trials.jsonl; what a kill cut off is dropped from the file, too."""
        file = self.path / "trials.jsonl"
        if not file.exists():
            return []
        content = file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(file, len(whole))
        try:
            return [json.loads(line) for line in whole.splitlines()]
        except ValueError as error:
            raise RequestError(f"{file} cannot be read: {error}") from None

    def append(self, row: Row) -> None:
        """Adds a row to trials.jsonl."""
        try:
            with (self.path / "trials.jsonl").open("ab") as file:
                file.write(f"{_line(row)}\n".encode())
        except OSError as error:
            raise RunError(f"{self.path / 'trials.jsonl'} cannot be written: {error.strerror}") from None

    def run(self, number: int) -> RunFolder:
        """Returns the run's folder of a trial."""
        return RunFolder(self.path / "trials" / str(number))

    def keep(self, experiment: Experiment, row: Row, history: list[dict[str, Any]], state: Any) -> None:
        """Writes a trial as a finished run; what is there already is replaced."""
        folder = self.run(row["trial"])
        self.drop(row["trial"])
        folder.path.mkdir(parents=True)
        folder.record(experiment)
        folder.write("metrics.jsonl", "".join(f"{_line(line)}\n" for line in history))
        with open_checkpoints(folder, experiment, print) as checkpoints:
            checkpoints.save(int(state.step), state, metrics=row["metrics"])
        outcome = {"experiment": experiment.name, "step": int(state.step), "metrics": {"validation": row["metrics"]}}
        prints = {"fingerprint": fingerprint(state.params), "seconds": {"total": row["seconds"]}}
        folder.write("result.json", {**outcome, **prints})

    def kept(self) -> list[int]:
        """Returns the numbers of the trials whose runs are here, as a whole."""
        return [
            int(file.parent.name) for file in self.path.glob("trials/*/result.json") if file.parent.name.isdecimal()
        ]

    def drop_halves(self) -> None:
        """Deletes what a kill has left of runs that were being written."""
        for folder in self.path.glob("trials/*"):
            if not (folder / "result.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)

    def drop(self, number: int) -> None:
        """Deletes a trial's folder, if there is one."""
        shutil.rmtree(self.run(number).path, ignore_errors=True)

    def kept_state(self, number: int, like: Any, experiment: Experiment) -> Any:
        """Returns the state of a trial, or None if it was not kept; `like` is what it is like."""
        folder = self.run(number)
        if folder.read("result.json") is None:
            return None
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), like)
        with open_checkpoints(folder, experiment, print) as checkpoints:
            restored = checkpoints.restore(shapes)
        return None if restored is None else jax.device_get(restored.state)


def _line(row: Mapping[str, Any]) -> str:
    # JSON has no NaN and no infinity: null, as in metrics.jsonl.
    return json.dumps(json.loads(json.dumps(row), parse_constant=lambda _: None))
