"""A run's folder: what was asked, what happened, what came out.

    experiment.json     every field of the experiment, and the number of the format
    experiment.py       the file that the experiment came from
    launches.json       each launch: when, where, with which settings and versions, from which step, and notices
    metrics.jsonl       a line per chunk and per evaluation; tensorboard/ has the same as events
    result.json         the end: test metrics, fingerprint, seconds
    checkpoints/        Orbax checkpoints, one folder a step

Reading a folder executes nothing from it. What cannot be read raises RequestError, what cannot be written RunError.
"""

import contextlib
import dataclasses
import datetime
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from neuralmon.errors import RequestError, RunError
from neuralmon.experiment import Experiment, walk
from neuralmon.names import Names
from neuralmon.syntax import write_text


def default_workdir(name: str, suffix: str = "") -> Path:
    """Returns runs/<name>/<time><suffix>, a folder that does not exist yet."""
    base = Path("runs") / name / f"{datetime.datetime.now():%Y%m%d-%H%M%S}{suffix}"
    return next(path for n in itertools.count(1) if not (path := Path(f"{base}-{n}" if n > 1 else base)).exists())


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """Reads and writes the files of one run, in the folder `path`."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def holds_run(self) -> bool:
        """Whether a run was ever started here."""
        return (self.path / "experiment.json").is_file()

    @property
    def has_checkpoint(self) -> bool:
        """Whether a run of this folder came far enough to be continued."""
        return self.checkpoints.is_dir() and any(entry.name.isdecimal() for entry in self.checkpoints.iterdir())

    def read(self, name: str) -> Any:
        """Returns the data of a JSON file of this folder, or None if there is no such file."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise RequestError(f"{self.path / name} cannot be read: {error}") from None

    def write(self, name: str, data: Any) -> None:
        """Replaces a file of this folder, of text or JSON, as a whole: a kill leaves the old one or the new one."""
        if not isinstance(data, str):
            # JSON has no NaN and no infinity: null, as in metrics.jsonl.
            data = json.dumps(json.loads(json.dumps(data), parse_constant=lambda _: None), indent=1) + "\n"
        temporary = self.path / f".{name}.tmp"
        try:
            temporary.write_text(data, encoding="utf-8")
            temporary.replace(self.path / name)
        except OSError as error:
            raise RunError(f"{self.path / name} cannot be written: {error.strerror}") from None

    def history(self) -> list[dict[str, Any]]:
        """Returns the lines of metrics.jsonl; a last one that a kill cut off is left out."""
        file = self.path / "metrics.jsonl"
        try:
            lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
            return [json.loads(line) for line in lines if line.endswith("\n")]
        except (OSError, ValueError) as error:
            raise RequestError(f"{file} cannot be read: {error}") from None

    def experiment(self, names: Names | None = None) -> Experiment:
        """Returns the experiment of the run, resolved; `names` must know the types of its own that it has."""
        recorded = self._recorded()
        try:
            return Experiment.from_json(recorded, names or Names())
        except RequestError as error:
            hint = (
                ""
                if names or "--experiment=" in str(error)
                else "; if the run has a model or data of its own, give --experiment=FILE again"
            )
            raise RequestError(f"{self.path / 'experiment.json'}: {error}{hint}") from None

    def _recorded(self) -> dict[str, Any]:
        match self.read("experiment.json"):
            case {"format": 1, "experiment": dict(recorded)}:
                return recorded
            case {"format": 1}:
                raise RequestError(f"{self.path / 'experiment.json'} is damaged: there is no experiment in it")
            case None:
                raise RequestError(f"{self.path} holds no run: there is no experiment.json in it")
        raise RequestError(f"{self.path / 'experiment.json'} is not of format 1, which this version reads")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and keeps other processes out; RequestError if that, or what it holds, does not allow it."""
        if self.path.exists() and not self.path.is_dir():
            raise RequestError(f"workdir {self.path} is a file; give a folder")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            foreign = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
            if foreign and not self.holds_run:
                what = f"something else ({', '.join(foreign[:3])}) and no run"
                raise RequestError(f"workdir {self.path} holds {what}; give a new folder")
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

    def record(self, experiment: Experiment) -> str | None:
        """Writes what was asked; returns a notice if the experiment's file is not the one the run was started with."""
        # First: it is what makes a folder a run's.
        self.write("experiment.json", {"format": 1, "experiment": experiment.to_json()})
        return self.keep_source(experiment)

    def keep_source(self, experiment: Experiment) -> str | None:
        """Copies the experiment's file; returns a notice if it is not the one the run was started with."""
        kept = sorted(self.path.glob("experiment*.py"))
        if experiment.source is None or experiment.source in [file.read_text(encoding="utf-8") for file in kept]:
            return None
        name = f"experiment.{len(kept)}.py" if kept else "experiment.py"
        self.write(name, experiment.source)
        return f"the experiment's file has changed since the run was started: kept as {name}" if kept else None

    def changes(self, experiment: Experiment) -> dict[str, tuple[Any, Any]]:
        """Returns the numbers that differ: path -> (recorded, asked); RequestError if the structure differs."""
        changed = dict(_differences(self._recorded(), experiment.to_json()))
        if "name" in changed:
            whose = "belongs to the experiment {!r}, not {!r}".format(*changed["name"])
            raise RequestError(f"workdir {self.path} {whose}; give another --workdir")
        numbers = {node.path for node in walk(experiment) if node.number_type}
        same = {path for path, (old, _) in changed.items() if path in numbers and isinstance(old, int | float)}
        arrays = [path for path, (old, new) in changed.items() if _is_array(old) and _is_array(new)]
        found = [path for path in changed if ".facts." in path]
        facts = {path.partition(".facts.")[2]: changed.pop(path) for path in (*found, *arrays)}
        # Facts follow from the settings too: only if those are the same, it is the data that has changed.
        if changed.keys() - same:
            shown = show_changes({path: pair for path, pair in changed.items() if path not in same})
            raise RequestError(f"the run in {self.path} has another structure ({shown}); give another --workdir")
        if facts and self.has_checkpoint:
            raise RequestError(
                f"the data is not what the run in {self.path} was started with: {_what_changed(facts)}; "
                "put it back as it was, or give another --workdir"
            )
        return changed


def _differences(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, dict) and isinstance(new, dict) and old.get("type") == new.get("type") and "type" in new:
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    elif old != new:
        yield path, (old, new)


def _is_array(recorded: Any) -> bool:
    return isinstance(recorded, dict) and "array" in recorded


def _what_changed(facts: dict[str, tuple[Any, Any]]) -> str:
    """Returns in words what is another one of the facts that were found in the data."""
    if "sizes" in facts:
        old, new = (sizes.get("dict", {}) for sizes in facts["sizes"])
        counts = [
            f"{split} had {old.get(split, 0):,} examples and has {new.get(split, 0):,}"
            for split in {**old, **new}
            if old.get(split) != new.get(split)
        ]
        return ", ".join(counts)
    seen = {name: pair for name, pair in facts.items() if name in ("class_names", "shape", "dtype")}
    return show_changes(seen) if seen else "it has as many examples, but others"


def show_changes(changes: dict[str, tuple[Any, Any]]) -> str:
    """Returns changes as text."""
    return "; ".join(f"{path}: {write_text(old)} -> {write_text(new)}" for path, (old, new) in changes.items())
