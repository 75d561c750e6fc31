"""The experiments that come with neuralmon, and where a file of one's own lies."""

import ast
from pathlib import Path

from neuralmon.errors import RequestError, did_you_mean

_PACKAGE = Path(__file__).parent
# In a checkout the experiments lie beside the package, in a wheel inside it.
_FOLDER = next((path for path in [_PACKAGE / "experiments"] if path.is_dir()), _PACKAGE.parent / "experiments")


def shipped() -> dict[str, str]:
    """Returns the shipped experiments: name and the first line of the file's docstring."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.py"))}
    return {name: (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0] for name, text in texts.items()}


def find_experiment(name_or_path: str) -> Path:
    """Returns the file of a shipped experiment, by name, or of your own, by path.

    Raises:
      RequestError: there is none.
    """
    if not (name_or_path.endswith(".py") or "/" in name_or_path or "\\" in name_or_path):
        if name_or_path not in (known := [path.stem for path in sorted(_FOLDER.glob("*.py"))]):
            hint = f"{did_you_mean(name_or_path, known)}; there are {', '.join(known)}, and any file by its path"
            raise RequestError(f"there is no experiment {name_or_path!r}{hint}, such as ./my_own.py")
        return _FOLDER / f"{name_or_path}.py"
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise RequestError(f"experiment file {name_or_path} {what}; give the path of a Python file")
    if path.suffix != ".py":
        raise RequestError(f"experiment file {name_or_path} is not a Python file; its name must end in .py")
    return path
