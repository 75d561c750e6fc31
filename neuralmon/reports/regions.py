"""The decision regions of several models on the same points, in one figure.

    python -m neuralmon.reports.regions runs/perceptron_moons runs/mlp_moons --output=moons.png

A run is a folder or LABEL=FOLDER; without a label it is called by its experiment.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuralmon import figures
from neuralmon.errors import RequestError
from neuralmon.figures import style
from neuralmon.training import Result, load_run


def regions(runs: Mapping[str, Result]) -> dict[str, Any]:
    """Returns what the figure "compared_regions" is drawn of: what each model says of the plane, and the test points.

    Raises:
      RequestError: the examples are no points of two numbers with classes, or not the same in all runs.
    """
    first, *others = runs.values()
    spec, points = first.experiment.dataset.spec(), first.trained.examples("test")
    if spec.features["inputs"].shape != (2,) or not spec.class_names:
        raise RequestError("decision regions are those of two numbers with a class, such as nm.data.Moons has")
    for label, other in zip(list(runs)[1:], others, strict=True):
        own = other.trained.examples("test") if "test" in other.experiment.dataset.spec().sizes else {}
        if own.keys() != points.keys() or not all(np.array_equal(own[name], points[name]) for name in own):
            raise RequestError(f"{label} has other test points than {next(iter(runs))}: train both on the same data")
    grid = figures.decision_grid(points["inputs"])
    said = {}
    for label, run in runs.items():
        right = run.predict(points["inputs"])["class"] == points["targets"]
        said[f"{label}: {right.mean():.1%} of {len(right):,} right"] = run.predict(grid)["probabilities"]
    facts = getattr(first.experiment.dataset, "facts", None)
    names = [column.name for column in facts.columns] if facts is not None else []
    return {
        "grid": grid,
        "probabilities": said,
        **points,
        "class_names": spec.class_names,
        "feature_names": names if len(names) == 2 else (),
    }


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line asks for and returns the exit code: 2 if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m neuralmon.reports.regions", description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or LABEL=FOLDER")
    parser.add_argument("--output", default="regions.png", help="the picture (default: regions.png)")
    asked = parser.parse_args(arguments)
    try:
        runs = {}
        for label, _, folder in (text.rpartition("=") for text in asked.runs):
            run = load_run(folder)
            runs[label or run.experiment.name or folder] = run
        if len(runs) < len(asked.runs):
            raise RequestError("two runs would be called the same: give them as LABEL=FOLDER")
        figure = figures.figure("compared_regions", **regions(runs))
        try:
            with style.applied():
                Path(asked.output).write_bytes(style.png(figure))
        except OSError as error:
            raise RequestError(f"--output={asked.output}: it cannot be written: {error.strerror}") from None
    except RequestError as error:
        print(f"neuralmon: error: {error}", file=sys.stderr)
        return 2
    print(asked.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
