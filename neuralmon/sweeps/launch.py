"""A sweep that a command line asks for."""

import contextlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import flags

from neuralmon import ops
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.sweeps import pictures
from neuralmon.sweeps.folder import SweepFolder
from neuralmon.sweeps.progress import sweep_progress_for
from neuralmon.sweeps.space import Space
from neuralmon.sweeps.sweep import space_of_file, sweep
from neuralmon.training.run_folder import default_workdir


def goes_on(options: flags.FlagValues, swept: Mapping[str, str]) -> bool:
    """Returns whether a command line asks for nothing but to go on with the sweep in its folder."""
    new = bool(swept) or (options["mode"].present and options.experiment is not None)
    return options.mode == "sweep" and options.workdir is not None and not new


def run_sweep(experiment: Experiment, swept: Mapping[str, str], options: flags.FlagValues) -> int:
    """Does a sweep, or goes on with one, prints its table and returns the exit code.

    Args:
      experiment: what is trained, with the flags applied that are no part of the sweep.
      swept: values by path as text; with `--mode=sweep` besides those of the experiment's file.
      options: the command line's.

    Raises:
      RequestError: it cannot be done.
    """
    if options.sweep_keep != "all" and not options.sweep_keep.isdecimal():
        raise RequestError(f"--sweep_keep={options.sweep_keep}: allowed is a number from 1, or all")
    chosen: dict[str, Any] = {name: options[f"sweep_{name}"].value for name in ("trials", "search", "seed", "slots")}
    chosen |= {"executor": options.executor, "workers": options.sweep_workers, "address": options.ray_address}
    chosen["keep"] = None if options.sweep_keep == "all" else int(options.sweep_keep)
    zipped = [[path.strip() for path in group.split(",")] for group in options.sweep_zip.split(";") if group]
    workdir = Path(options.workdir or default_workdir(experiment.name, "-sweep"))
    space: Mapping[str, Any] | Space = dict(swept)
    if goes_on(options, swept):
        plan = SweepFolder(workdir).recorded_plan()
        space = Space.from_json(plan["space"])
        chosen |= {name: plan[name] for name in ("trials", "search", "seed")}
    elif options["mode"].present:
        space = {**space_of_file(experiment), **swept}
    definitions = ops.reference if options.reference_ops else contextlib.nullcontext
    with definitions():
        progress = sweep_progress_for(sys.stderr, options.quiet)
        result = sweep(experiment, space, workdir, zipped=zipped, progress=progress, **chosen)
    if not options.quiet:
        print(result.summary())
        print("seconds     " + "  ".join(f"{name} {value:.1f}" for name, value in result.seconds.items()))
        print(f"sweep       {workdir}", flush=True)
    if options.figures and not (workdir / "figures").exists():
        for trouble in pictures.draw(result, workdir / "figures"):
            print(f"neuralmon: {trouble}", file=sys.stderr)
    return 0 if result.best is not None else 1
