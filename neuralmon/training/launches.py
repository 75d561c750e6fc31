"""The record of a run's launches: when, by which command, in which settings, and what became of each."""

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from neuralmon import process
from neuralmon.errors import NeuralmonError
from neuralmon.experiment import Experiment
from neuralmon.training.run_folder import RunFolder


@contextlib.contextmanager
def recorded(
    folder: RunFolder, experiment: Experiment, changes: dict[str, tuple[Any, Any]], notice: Callable[[str], None]
) -> Iterator[Callable[..., None]]:
    """Writes what was asked and what becomes of it; yields a function that adds fields to the launch's record."""
    begun = time.monotonic()
    launch: dict[str, Any] = {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        **process.describe(),
        "changes": {path: list(pair) for path, pair in changes.items()},
    }
    launches = [*(folder.read("launches.json") or []), launch]

    def record(**fields: Any) -> None:
        launch.update(fields)
        folder.write("launches.json", launches)

    def lasted() -> float:
        return round(time.monotonic() - begun, 3)

    changed = folder.record(experiment)
    record(status="running", **({"source": changed} if changed else {}))
    if changed:
        notice(changed)
    try:
        yield record
    except BaseException as error:
        with contextlib.suppress(NeuralmonError):
            record(status=f"{type(error).__name__}: {error}", seconds=lasted())
        raise
    record(status="finished", seconds=lasted())
