"""Experiments by name or by path."""

import ast
import dataclasses
import difflib
import importlib.util
import sys
from pathlib import Path

from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.names import Names


def _folder() -> Path:
    package = Path(__file__).parent
    # In a checkout the experiments lie beside the package, in a wheel inside it.
    for folder in (package / "experiments", package.parent / "experiments"):
        if folder.is_dir():
            return folder
    raise RequestError(f"the installation in {package} has no experiments/ folder")


def shipped() -> dict[str, str]:
    """Returns the shipped experiments: name and the first line of the file's docstring."""
    result = {}
    for path in sorted(_folder().glob("*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        result[path.stem] = docstring.partition("\n")[0]
    return result


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith(".py") or "/" in name_or_path or "\\" in name_or_path:
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            what = "is a folder" if path.is_dir() else "does not exist"
            raise RequestError(f"experiment file {name_or_path} {what}; give the path of a Python file")
        if path.suffix != ".py":
            raise RequestError(f"experiment file {name_or_path} is not a Python file; its name must end in .py")
        return path
    names = [path.stem for path in sorted(_folder().glob("*.py"))]
    if name_or_path not in names:
        close = difflib.get_close_matches(name_or_path, names, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise RequestError(
            f"there is no experiment {name_or_path!r}{hint}; there are {', '.join(names)}, "
            "and any file by its path, such as ./my_own.py"
        )
    return _folder() / f"{name_or_path}.py"


def load_experiment(name_or_path: str) -> Experiment:
    """Returns the experiment of a shipped file, by name, or of your own file, by path.

    The file is a Python module with a function `experiment()` that returns an `Experiment`. Running it is trusting it.

    Raises:
      RequestError: there is no such file, it does not parse, it raises, or returns something else.
    """
    path = _find(name_or_path)
    source = path.read_text(encoding="utf-8", errors="replace")
    try:
        compile(source, str(path), "exec")
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        raise RequestError(f"{path}{line}: not valid Python: {getattr(error, 'msg', error)}") from None
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # a .py file always has a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    module.__dict__["__source__"] = source
    # Dataclasses and annotations look their module up. One of the same name that is no experiment's is put back after.
    shadowed = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
        if not callable(getattr(module, "experiment", None)):
            raise RequestError(f"{path}: has no function experiment()")
        experiment = module.experiment()
    except RequestError:
        raise
    except (Exception, SystemExit) as error:
        raise RequestError(f"{path}{_line_in(error, path)}: {type(error).__name__}: {_first_line(error)}") from error
    finally:
        if shadowed is not None and not hasattr(shadowed, "__source__"):
            sys.modules[path.stem] = shadowed
    if not isinstance(experiment, Experiment):
        raise RequestError(f"{path}: experiment() returned {type(experiment).__name__}, not an nm.Experiment")
    return dataclasses.replace(experiment, name=experiment.name or path.stem, names=Names(module))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _line_in(error: BaseException, path: Path) -> str:
    line = ""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(path):
            line = f", line {traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line
