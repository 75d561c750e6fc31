"""Experiments by name or by path."""

import contextlib
import dataclasses
import sys
import traceback
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neuralmon import codec
from neuralmon.errors import RequestError, first_line
from neuralmon.experiment import Experiment, walk
from neuralmon.names import Names
from neuralmon.shipped import find_experiment


def load_experiment(name_or_path: str) -> Experiment:
    """Returns the experiment of a shipped file, by name, or of your own file, by path.

    The file is a Python module with a function `experiment()` that returns an `Experiment`; it may import what lies
    beside it. Running it is trusting it.

    Raises:
      RequestError: there is no such file, it does not parse, it raises, or returns something else.
    """
    path = find_experiment(name_or_path)
    if name_or_path != path.stem and (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.insert(0, folder)
    source = path.read_text(encoding="utf-8", errors="replace")
    try:
        with _executed(path, source) as module:
            if not callable(getattr(module, "experiment", None)):
                raise RequestError(f"{path}: has no function experiment()")
            experiment = module.experiment()
    except RequestError:
        raise
    except SyntaxError as error:
        raise RequestError(f"{error.filename}, line {error.lineno}: not valid Python: {error.msg}") from None
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else path
        raise RequestError(f"{where}: {type(error).__name__}: {first_line(error)}") from error
    if not isinstance(experiment, Experiment):
        raise RequestError(f"{path}: experiment() returned {type(experiment).__name__}, not an nm.Experiment")
    arrays = {
        codec.array_digest(node.value): node.value for node in walk(experiment) if isinstance(node.value, np.ndarray)
    }
    return dataclasses.replace(experiment, name=experiment.name or path.stem, names=Names(module, arrays))


def module_of(file: str, source: str) -> types.ModuleType:
    """Returns the module of an experiment's file as it was when its source was read, for another process."""
    with _executed(Path(file), source) as module:
        return module


@contextlib.contextmanager
def _executed(path: Path, source: str) -> Iterator[types.ModuleType]:
    module = types.ModuleType(path.stem)
    vars(module).update(__file__=str(path.absolute()), __source__=source)
    # Dataclasses and annotations look their module up. One of the same name that is no experiment's is put back after.
    shadowed = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        exec(compile(source, str(path), "exec"), vars(module))
        yield module
    finally:
        if shadowed is not None and not hasattr(shadowed, "__source__"):
            sys.modules[path.stem] = shadowed
