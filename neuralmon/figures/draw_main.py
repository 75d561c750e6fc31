"""The process that draws: run by its path, `python -P draw_main.py FOLDER REQUESTS`; see `worker.Drawing`.

Each line of standard input asks for a figure, `{"name": <the file's>, "figure": ..., "request": <npz file>}`, and each
line of standard output answers, `{"name": ..., "error": null or a reason}`. An empty line, or the end of input, ends
it.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import types
import warnings
from pathlib import Path
from typing import Any


def main(folder: Path, requests: Path) -> None:
    """Answers requests until there are no more, and removes the folder of requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "nice"):
        os.nice(10)
    # The package's own __init__ loads jax; this stands in its place, so that only what draws is imported.
    package = types.ModuleType("neuralmon")
    package.__path__ = [str(Path(__file__).parents[1])]
    sys.modules["neuralmon"] = package
    warnings.simplefilter("ignore")
    try:
        for line in sys.stdin:
            if not line.endswith("\n") or line.isspace():
                break
            request = json.loads(line)
            error = _drawn(folder, request["name"], request["figure"], Path(request["request"]))
            answer = {"name": request["name"], "error": error}
            # Nobody may be listening any more; the remaining figures are drawn all the same.
            with contextlib.suppress(OSError):
                print(json.dumps(answer), flush=True)
    finally:
        shutil.rmtree(requests, ignore_errors=True)


def _drawn(folder: Path, name: str, kind: str, request: Path) -> str | None:
    """Writes one figure to the file of a name; returns why not, or None."""
    try:
        from neuralmon import figures
        from neuralmon.figures import style

        figure = figures.figure(kind, **_read_request(request))
        with style.applied():
            content = style.png(figure)
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f".{name}.{os.getpid()}.unfinished"
        try:
            unfinished.write_bytes(content)
            unfinished.replace(folder / f"{name}.png")
        finally:
            unfinished.unlink(missing_ok=True)
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed (pip install {error.name})"
    except ValueError as error:
        return str(error).partition("\n")[0]
    except Exception as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return None


def _read_request(path: Path) -> dict[str, Any]:
    import numpy as np

    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    path.unlink(missing_ok=True)
    data = {**json.loads(str(arrays.pop(""))), **arrays}
    for name, value in data.items():
        if isinstance(value, dict) and set(value) == {"rows of"}:
            data[name] = _rows(Path(value["rows of"]))
    return data


def _rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a file of JSON lines; the last line may be cut off."""
    rows = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
