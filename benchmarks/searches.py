"""What searches find beside a full grid, fixed schedules and chance: a hidden layer of 64, on 10,000 digits of MNIST.

  python -m benchmarks.searches halving|pbt|tpe [--seeds=10] [--out=FOLDER]

Each sweep is a folder in FOLDER: launched again after an interruption, what is finished is not done again. Prints a
table in Markdown.

halving  Successive halving and Hyperband against all 64 combinations of a grid: how near they come, for how many steps.
pbt      A population of 16 against 16 fixed schedules and 16 fixed rates, each of as many steps.
tpe      TPE and CMA-ES against random values, with as many trials: 5 numbers, 2,000 training images.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from neuralmon import process

# 10,000 images, 316 steps with an evaluation after every 20.
SMALL = {
    "dataset.examples": 1000,
    "model.hidden": "(64,)",
    "training.epochs": 4,
    "training.evaluate_every": "Epochs(0.25)",
}
RATE, DECAY = "optimizer.learning_rate", "optimizer.weight_decay"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.searches", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--seeds", type=int, default=10, help="sweeps of each kind, default: %(default)s")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/searches"), metavar="FOLDER", help="default: %(default)s"
    )
    options = parser.parse_args(arguments)
    process.configure(all_cores=True)
    print(WHAT[options.what](options.out / options.what, options.seeds))
    return 0


def halving(out: Path, seeds: int) -> str:
    """The same grid for all; seeds are of the order in which its combinations come."""
    space = {f"{RATE}.peak": "1e-4:1e-1:log:16", DECAY: "1e-2:1:log:4"}
    grid = swept(out / "grid", SMALL, space)
    rows = [("grid", [grid])]
    for name, trials in (("halving(eta=4)", None), ("hyperband(eta=4)", 48)):
        found = [
            swept(out / f"{name[:7]}-{seed}", SMALL, space, search=name, seed=seed, trials=trials)
            for seed in range(seeds)
        ]
        rows.append((name, found))
    return table(rows, steps_of(grid))


def pbt(out: Path, seeds: int) -> str:
    """An exchange each quarter of an epoch; seeds are of the trainings, too."""
    decays = {DECAY: "1e-1,1"}
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "fixed cosine schedules": ({f"{RATE}.peak": "3e-4:3e-2:log:8", **decays}, {}),
        "fixed rates": ({RATE: "3e-4:3e-2:log:8", **decays}, {}),
        "pbt of peaks": (
            {f"{RATE}.peak": "loguniform(3e-4, 3e-2)", DECAY: "loguniform(1e-1, 1)"},
            {"search": "pbt", "slots": 16},
        ),
        "pbt": ({RATE: "loguniform(3e-4, 3e-2)", DECAY: "loguniform(1e-1, 1)"}, {"search": "pbt", "slots": 16}),
    }
    rows = []
    for name, (space, asked) in kinds.items():
        found = []
        for seed in range(seeds):
            options = {**asked, **({"seed": seed} if asked else {})}
            found.append(swept(out / f"{name.split()[-1]}-{seed}", {**SMALL, "training.seed": seed}, space, **options))
        rows.append((name, found))
    return table(rows, steps_of(rows[0][1][0]))


def tpe(out: Path, seeds: int) -> str:
    """48 trials of 10 epochs of 2,000 images."""
    tiny = {"dataset.examples": 200, "training.epochs": 10, "training.evaluate_every": "Epochs(10)"}
    space = {
        f"{RATE}.peak": "loguniform(1e-4, 1e-1)",
        f"{RATE}.warmup": "uniform(0, 0.5)",
        DECAY: "loguniform(1e-3, 3)",
        "model.dropout": "uniform(0, 0.7)",
        "task.label_smoothing": "uniform(0, 0.3)",
    }
    rows = []
    for name in ("random", "tpe", "cmaes"):
        found = [
            swept(out / f"{name}-{seed}", {**SMALL, **tiny}, space, search=name, seed=seed, trials=48)
            for seed in range(seeds)
        ]
        rows.append((name, found))
    return table(rows, steps_of(rows[0][1][0]))


WHAT: Mapping[str, Callable[[Path, int], str]] = {"halving": halving, "pbt": pbt, "tpe": tpe}


def swept(workdir: Path, changes: Mapping[str, Any], space: Mapping[str, Any], **options: Any) -> Any:
    """Returns the result of a sweep of mlp_mnist with these changes."""
    import neuralmon as nm
    from neuralmon import codec
    from neuralmon.experiment import replace_at, walk
    from neuralmon.sweeps.progress import sweep_progress_for

    experiment = nm.load_experiment("mlp_mnist")
    for path, value in changes.items():
        node = next(node for node in walk(experiment) if node.path == path)
        experiment = replace_at(experiment, path, codec.parse(str(value), node.annotation, experiment.names))
    print(workdir, file=sys.stderr)
    return nm.sweep(experiment, space, workdir, progress=sweep_progress_for(sys.stderr, quiet=True), **options)


def steps_of(result: Any) -> int:
    """Returns the training steps of all trials."""
    return sum(row["step"] for row in result.rows)


def table(rows: Sequence[tuple[str, Sequence[Any]]], steps: int) -> str:
    """Returns a row per search: its best trial on validation and test data, and its steps, `steps` being all."""
    lines = [
        "| search | sweeps | trials | best validation accuracy | its test accuracy | steps |",
        "|---|---|---|---|---|---|",
    ]
    for name, results in rows:
        scores = [[100 * one.best.metrics[split]["accuracy"] for one in results] for split in ("validation", "test")]
        said = [
            f"{statistics.fmean(s):.2f} %" + (f" ± {statistics.stdev(s):.2f}" if len(s) > 1 else "") for s in scores
        ]
        share = statistics.fmean(steps_of(one) for one in results) / steps
        trials = statistics.fmean(len(one.rows) for one in results)
        lines.append(f"| {name} | {len(results)} | {trials:.0f} | {said[0]} | {said[1]} | {share:.1%} |")
        each = " ".join(f"{score:.2f}" for score in scores[0])
        print(f"{name}: validation {each}", file=sys.stderr)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
