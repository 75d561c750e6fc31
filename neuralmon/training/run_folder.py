"""A run's folder: what was asked, what happened, what came out.

    experiment.json     every field of the experiment, and the number of the format
    experiment.py       the file that the experiment came from
    launches.json       each launch: when, where, with which settings and versions, from which step, and notices
    metrics.jsonl       a line per chunk and per evaluation; tensorboard/ has the same as events
    result.json         the end: test metrics, fingerprint, seconds
    checkpoints/        Orbax checkpoints, one folder a step

Reading a folder executes nothing from it.
"""

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuralmon.errors import RequestError, RunError
from neuralmon.experiment import Experiment, walk
from neuralmon.names import Names
from neuralmon.syntax import read_json, write_text

_FORMAT = 1


def default_workdir(name: str) -> Path:
    """Returns runs/<name>/<time>, a folder that does not exist yet."""
    base = Path("runs") / name / datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    candidates = [base, *(base.with_name(f"{base.name}-{index}") for index in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Reads and writes the files of one run.

    Attributes:
      path: the folder.
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def holds_run(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / "experiment.json").is_file()

    def read(self, name: str) -> Any:
        """Returns the data of a JSON file of this folder, or None if there is no such file.

        Raises:
          RequestError: the file cannot be read.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RequestError(f"{self.path / name} cannot be read: {reason}") from None

    def write(self, name: str, data: Any) -> None:
        """Replaces a JSON file of this folder as a whole: a kill leaves the old one or the new one.

        Raises:
          RunError: the disk does not take it.
        """
        self._write_text(name, json.dumps(data, indent=1, allow_nan=False) + "\n")

    def _write_text(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.tmp"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path / name)
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be written: {error.strerror}") from None

    def history(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl; a last one that a kill cut off is left out."""
        file = self.path / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
        try:
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except ValueError as error:
            raise RequestError(f"{file} cannot be read: {error}") from None

    def experiment(self, names: Names | None = None) -> Experiment:
        """Returns the experiment of the run, resolved.

        Raises:
          RequestError: there is no run here, or it has types of its own and `names` does not know them.
        """
        recorded = self._recorded()
        try:
            return Experiment.from_json(recorded, names or Names())
        except RequestError as error:
            hint = "" if names else "; if the run has a model or data of its own, give --experiment=FILE again"
            raise RequestError(f"{self.path / 'experiment.json'}: {error}{hint}") from None

    def _recorded(self) -> dict[str, Any]:
        record = self.read("experiment.json")
        if record is None:
            raise RequestError(f"{self.path} holds no run: there is no experiment.json in it")
        if not isinstance(record, dict) or record.get("format") != _FORMAT:
            raise RequestError(f"{self.path / 'experiment.json'} is not of format {_FORMAT}, which this version reads")
        if not isinstance(record.get("experiment"), dict):
            raise RequestError(f"{self.path / 'experiment.json'} is damaged: there is no experiment in it")
        return record["experiment"]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps every other process out of it.

        Raises:
          RequestError: the folder cannot be made or written, holds something else, or is in use.
        """
        import filelock

        if self.path.exists() and not self.path.is_dir():
            raise RequestError(f"workdir {self.path} is a file; give a folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            foreign = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
            if foreign and not self.holds_run:
                raise RequestError(
                    f"workdir {self.path} holds something else ({', '.join(foreign[:3])}) and no run; give a new folder"
                )
            lock = filelock.FileLock(self.path / ".lock", blocking=False)
            lock.acquire()
        except filelock.Timeout:
            raise RequestError(f"workdir {self.path} is in use by another process; wait, or give another") from None
        except OSError as error:
            raise RequestError(f"workdir {self.path} cannot be written: {error.strerror}") from None
        try:
            yield
        finally:
            lock.release()

    def record(self, experiment: Experiment) -> None:
        """Writes what was asked."""
        if experiment.source is not None:
            self._write_text("experiment.py", experiment.source)
        self.write("experiment.json", {"format": _FORMAT, "experiment": experiment.to_json()})

    def changes(self, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
        """Returns the numbers in which `experiment` differs from what is recorded: path -> (recorded, asked).

        Raises:
          RequestError: the structure differs, so the run cannot be continued.
        """
        recorded, asked = self._recorded(), experiment.to_json()
        if recorded.get("name") != asked["name"]:
            raise RequestError(
                f"workdir {self.path} belongs to the experiment {recorded.get('name')!r}, not {asked['name']!r}; "
                "give another --workdir"
            )
        changed = dict(_differences(recorded, asked))
        numbers = {node.path for node in walk(experiment) if node.number_type}
        same_structure = {path for path in numbers & changed.keys() if isinstance(changed[path][0], int | float)}
        if structural := {path: changed[path] for path in changed if path not in same_structure}:
            raise RequestError(
                f"the run in {self.path} has another structure and cannot be continued with this one "
                f"({show_changes(structural)}); give another --workdir"
            )
        return changed


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type") and "type" in new:
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path, (old, new)


def show_changes(changes: dict[str, tuple[Any, Any]]) -> str:
    """Returns changes as text."""
    return "; ".join(f"{path}: {_show(old)} -> {_show(new)}" for path, (old, new) in changes.items())


def _show(data: Any) -> str:
    return write_text(read_json(data)) if not isinstance(data, str) else data
