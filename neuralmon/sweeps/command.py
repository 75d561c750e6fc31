"""The command line that trains one experiment: what differs from the file it came from, as flags."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from neuralmon import codec
from neuralmon.catalog import load_experiment
from neuralmon.errors import NeuralmonError
from neuralmon.experiment import Experiment, walk
from neuralmon.shipped import shipped
from neuralmon.syntax import write_text


def command_of(experiment: Experiment) -> str | None:
    """Returns the command line of an experiment, ready for a shell; None: it came from no file.

    Args:
      experiment: as its file and flags make it: what the data decides left open.
    """
    module = experiment.names.module
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    path = Path(file)
    name = path.stem if path.stem in shipped() and _same_file(path) else _relative(path)
    try:
        written = load_experiment(name)
        flags = list(_flags(written, experiment))
    except NeuralmonError:  # the file has changed since
        return None
    return shlex.join(["python", "launch.py", f"--experiment={name}", *flags])


def _flags(old: Experiment, new: Experiment) -> Iterator[str]:
    before = {node.path: node for node in walk(old)}
    done: set[str] = set()
    for node in walk(new):
        if any(node.path.startswith(f"{path}.") for path in done):
            continue
        there = before.get(node.path)
        if there is not None and (not there.is_leaf or not node.is_leaf) and type(there.value) is type(node.value):
            continue  # its fields say what differs
        data = _data(node.value, new, node.annotation)
        if there is None or data != _data(there.value, new, node.annotation):
            done.add(node.path)
            yield f"--{node.path}={write_text(data)}"


def _data(value: Any, experiment: Experiment, annotation: Any) -> Any:
    return codec.to_json(value, experiment.names, False, annotation)


def _same_file(path: Path) -> bool:
    from neuralmon.shipped import find_experiment

    return find_experiment(path.stem).resolve() == path.resolve()


def _relative(path: Path) -> str:
    resolved, here = path.resolve(), Path.cwd().resolve()
    return f"./{resolved.relative_to(here)}" if resolved.is_relative_to(here) else str(resolved)
