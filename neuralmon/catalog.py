"""Experiments by name or by path."""

import ast
import dataclasses
import sys
import traceback
import types
from pathlib import Path

import numpy as np

from neuralmon import codec
from neuralmon.errors import RequestError, first_line
from neuralmon.experiment import Experiment, walk
from neuralmon.names import Names, did_you_mean

_PACKAGE = Path(__file__).parent
# In a checkout the experiments lie beside the package, in a wheel inside it.
_FOLDER = next((path for path in [_PACKAGE / "experiments"] if path.is_dir()), _PACKAGE.parent / "experiments")


def shipped() -> dict[str, str]:
    """Returns the shipped experiments: name and the first line of the file's docstring."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.py"))}
    return {name: (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0] for name, text in texts.items()}


def _find(name_or_path: str) -> Path:
    if not (name_or_path.endswith(".py") or "/" in name_or_path or "\\" in name_or_path):
        if name_or_path not in (known := shipped()):
            hint = f"{did_you_mean(name_or_path, known)}; there are {', '.join(known)}, and any file by its path"
            raise RequestError(f"there is no experiment {name_or_path!r}{hint}, such as ./my_own.py")
        return _FOLDER / f"{name_or_path}.py"
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise RequestError(f"experiment file {name_or_path} {what}; give the path of a Python file")
    if path.suffix != ".py":
        raise RequestError(f"experiment file {name_or_path} is not a Python file; its name must end in .py")
    if (folder := str(path.parent.resolve())) not in sys.path:
        sys.path.insert(0, folder)
    return path


def load_experiment(name_or_path: str) -> Experiment:
    """Returns the experiment of a shipped file, by name, or of your own file, by path.

    The file is a Python module with a function `experiment()` that returns an `Experiment`; it may import what lies
    beside it. Running it is trusting it.

    Raises:
      RequestError: there is no such file, it does not parse, it raises, or returns something else.
    """
    path = _find(name_or_path)
    source = path.read_text(encoding="utf-8", errors="replace")
    module = types.ModuleType(path.stem)
    vars(module).update(__file__=str(path.absolute()), __source__=source)
    # Dataclasses and annotations look their module up. One of the same name that is no experiment's is put back after.
    shadowed = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        exec(compile(source, str(path), "exec"), vars(module))
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
    finally:
        if shadowed is not None and not hasattr(shadowed, "__source__"):
            sys.modules[path.stem] = shadowed
    if not isinstance(experiment, Experiment):
        raise RequestError(f"{path}: experiment() returned {type(experiment).__name__}, not an nm.Experiment")
    arrays = {
        codec.array_digest(node.value): node.value for node in walk(experiment) if isinstance(node.value, np.ndarray)
    }
    return dataclasses.replace(experiment, name=experiment.name or path.stem, names=Names(module, arrays))
