"""Draws a metric of several runs into one figure, from their folders.

    python -m neuralmon.figures.compare runs/lstm runs/rnn --metric=mse --output=comparison.png
    python -m neuralmon.figures.compare LSTM=runs/lstm_seed0 LSTM=runs/lstm_seed1 RNN=runs/rnn_seed0

A run is a folder or LABEL=FOLDER; without a label it is called by its experiment, or by its folder where two would be
called the same. Runs of one label are drawn with their mean.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from neuralmon import figures
from neuralmon.errors import RequestError
from neuralmon.figures import style


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line asks for and returns the exit code: 2 if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m neuralmon.figures.compare", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or LABEL=FOLDER")
    parser.add_argument("--metric", default="loss", help="a metric of metrics.jsonl (default: loss)")
    parser.add_argument("--split", default="validation", help="train, validation or test (default: validation)")
    parser.add_argument("--title", default="", help="what stands above")
    parser.add_argument("--output", default="comparison.png", help="the picture (default: comparison.png)")
    asked = parser.parse_args(arguments)
    try:
        output = Path(asked.output)
        if not output.parent.is_dir():
            raise RequestError(f"--output={output}: there is no folder {output.parent}")
        runs = read_runs(asked.runs)
        try:
            figure = figures.figure("comparison", runs=runs, metric=asked.metric, split=asked.split, title=asked.title)
        except ValueError as error:
            raise RequestError(str(error)) from None
        with style.applied():
            output.write_bytes(style.png(figure))
    except RequestError as error:
        print(f"neuralmon: error: {error}", file=sys.stderr)
        return 2
    print(output)
    return 0


def read_runs(given: list[str]) -> list[dict[str, Any]]:
    """Returns the runs as `comparison` takes them.

    Raises:
      RequestError: one of them is no run's folder, or its metrics are damaged.
    """
    labelled = [(label, Path(folder)) for label, _, folder in (text.rpartition("=") for text in given)]
    names = [_experiment(folder) for _, folder in labelled]
    runs = []
    for (label, folder), name in zip(labelled, names, strict=True):
        unlike = names.count(name) == 1
        runs.append({"label": label or (name if unlike else str(folder)), "rows": _rows(folder)})
    return runs


def _rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except OSError as error:
        raise RequestError(f"{folder} is no run's folder: {path.name} cannot be read ({error.strerror})") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            # The last line of a run that is still training may be half written.
            if line.endswith("\n"):
                raise RequestError(f"{path}, line {number} is damaged: it is no JSON") from None
    return rows


def _experiment(folder: Path) -> str:
    try:
        name = json.loads((folder / "experiment.json").read_text(encoding="utf-8"))["experiment"]["name"]
    except (OSError, ValueError, KeyError, TypeError):
        name = ""
    return name or folder.name


if __name__ == "__main__":
    sys.exit(main())
