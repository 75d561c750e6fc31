"""What all experiment trackers share: a thread, a place for what they call the run, and what is done on trouble."""

import abc
import concurrent.futures
import json
import math
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import Any

from neuralmon.errors import RequestError, first_line
from neuralmon.training.writers import Status, scalars

PACKAGES = {"wandb": "wandb", "mlflow": "mlflow-skinny"}


class Tracker(abc.ABC):
    """What all trackers share; the next launch of a run goes on with the record that `trackers.json` names.

    Args:
      folder: the run's folder.
      project: what runs are filed under: the experiment's name.
      parameters: the experiment's leaves by path, such as {"optimizer.learning_rate": 0.1}.
      notice: told of what the person at the keyboard should know.

    Raises:
      RequestError: the package is missing, or the service refuses or cannot be reached.
    """

    name: str

    def __init__(
        self, folder: Path, project: str, parameters: Mapping[str, Any], notice: Callable[[str], None]
    ) -> None:
        require(self.name)
        self._folder, self._notice = folder, notice
        self._trouble: str | None = None
        self._noticed = False
        self._lost = 0
        stored = self._stored()
        self._record: dict[str, Any] = stored.get(self.name, {})
        plain = {path: _plain(value) for path, value in parameters.items()}
        notice(f"{self.name}: {self.start(project, plain)}")
        self._save()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, self.name)

    @abc.abstractmethod
    def start(self, project: str, parameters: dict[str, Any]) -> str:
        """Begins a record, or goes on with that of `self._record`; returns where it can be seen."""

    @abc.abstractmethod
    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Records numbers by tag after `step` updates, unless an earlier launch did."""

    @abc.abstractmethod
    def summarise(self, step: int, numbers: dict[str, float], texts: dict[str, str]) -> None:
        """Records the outcome."""

    @abc.abstractmethod
    def finish(self, status: Status) -> None:
        """Ends the record."""

    def write(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """See `Writer.write`."""
        self._send(self.log, step, scalars(split, metrics))

    def result(self, step: int, result: Mapping[str, Any]) -> None:
        """See `Writer.result`."""
        numbers = {
            tag: x for name, entry in result.get("metrics", {}).items() for tag, x in scalars(name, entry).items()
        }
        numbers |= scalars("seconds", result.get("seconds", {}))
        texts = {name: value for name, value in result.items() if isinstance(value, str)}
        self._send(self.summarise, step, {f"final/{tag}": number for tag, number in numbers.items()}, texts)

    def close(self, status: Status = "finished") -> None:
        """See `Writer.close`; waits for what is still to be sent, but not for ever."""
        self._send(self.finish, status)
        self._thread.shutdown()
        self._tell()
        if self._lost > 1:  # the first one is in the notice above
            self._notice(f"{self.name}: {self._lost} records are missing there; metrics.jsonl has all of them")

    def _send(self, function: Callable[..., None], *args: Any) -> None:
        self._tell()
        self._thread.submit(self._guarded, function, *args)

    def _guarded(self, function: Callable[..., None], *args: Any) -> None:
        if self._trouble is None:
            try:
                function(*args)
                return
            except Exception as error:
                self._trouble = first_line(error)
        self._lost += 1

    def _tell(self) -> None:
        """Notices are given from the caller's thread, which may be drawing on the terminal."""
        if self._trouble is not None and not self._noticed:
            self._noticed = True
            self._notice(f"{self.name}: given up, training goes on without it: {self._trouble}")

    def _stored(self) -> dict[str, Any]:
        try:
            stored = json.loads((self._folder / "trackers.json").read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            where = f"{self._folder / 'trackers.json'} cannot be read ({first_line(error)})"
            raise RequestError(f"{self.name}: {where}; delete it to begin new records") from None
        return stored if isinstance(stored, dict) else {}

    def _save(self) -> None:
        path = self._folder / "trackers.json"
        temporary = path.with_name(f"{path.name}.{self.name}.tmp")
        temporary.write_text(json.dumps({**self._stored(), self.name: self._record}, indent=2) + "\n")
        temporary.replace(path)


def require(name: str) -> None:
    """Raises RequestError if there is no such tracker, or if its package is not installed; imports nothing."""
    if name not in PACKAGES:
        raise RequestError(f"writers: there is no {name!r}; there are {', '.join(PACKAGES)}")
    if util.find_spec(name) is None:
        package = PACKAGES[name]
        raise RequestError(f"{name}: its package is not installed: pip install 'neuralmon[{name}]' (or {package})")


def _plain(value: Any) -> Any:
    """Returns a value as trackers take it: numbers, texts and booleans as they are, all else as JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | bool | int | float) else json.dumps(value, default=str)
