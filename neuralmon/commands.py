"""What a command line asks for: training, evaluating, predicting, a summary, help on an experiment's fields.

The experiment is found first; then flags are applied to it from shallow to deep, since a flag that replaces a whole
part (`--model='MLP(hidden=(512,))'`) decides which flags there are below it (`--model.hidden`).
"""

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
from absl import flags

from neuralmon import codec, process
from neuralmon.arguments import defined, help_text, parse
from neuralmon.catalog import load_experiment
from neuralmon.errors import NeuralmonError, RequestError, did_you_mean, first_line
from neuralmon.experiment import replace_at, walk
from neuralmon.models.presets import PRESETS
from neuralmon.names import Names
from neuralmon.reports.fields import field_help
from neuralmon.reports.predictions import predictions
from neuralmon.reports.results import results
from neuralmon.reports.summary import model_summary, summary
from neuralmon.sampling import SampleRequest
from neuralmon.sweeps.folder import SweepFolder
from neuralmon.sweeps.launch import goes_on, run_sweep
from neuralmon.training.check import check
from neuralmon.training.options import Options
from neuralmon.training.progress import progress_for
from neuralmon.training.result import load_run
from neuralmon.training.run_folder import RunFolder, default_workdir
from neuralmon.training.train import train


def run(argv: list[str], fields: list[str], options: flags.FlagValues, swept: Mapping[str, str]) -> int:
    """Does what is asked and returns the exit code.

    Args:
      argv: the whole command line.
      fields: what in it is no option.
      options: its options.
      swept: what `--sweep.PATH=VALUES` says, by path.

    Raises:
      RequestError: it cannot be done.
    """
    _refuse_idle(options)
    if options.mode in ("evaluate", "predict", "sample"):
        return _use(fields, options)
    if options.mode == "results":
        if fields:
            raise RequestError(f"{fields[0]}: --mode=results takes what it tells from the runs' folders")
        print(results(options.workdir or "runs"))
        return 0
    if goes_on(options, swept):
        names = load_experiment(options.experiment).names if options.experiment else None
        experiment = SweepFolder(Path(options.workdir)).recorded_experiment(names)
    elif options.experiment is not None:
        experiment = load_experiment(options.experiment)
    elif options.workdir is not None:
        experiment = RunFolder(Path(options.workdir)).experiment()
    elif options.mode == "summary" and any(field.lstrip("-").startswith("model") for field in fields):
        print(_preset_summary(argv))
        return 0
    else:
        raise RequestError("say what to run: --experiment=NAME_OR_FILE (--list prints the names, --help explains)")
    experiment = _override(argv, experiment, experiment.names)
    if options.help:
        print(f"{help_text(options)}\n{field_help(experiment)}")
        return 0
    if options.mode == "summary":
        print(summary(check(experiment)))
        return 0
    experiment.check_recordable()
    if options.mode == "sweep":
        return run_sweep(experiment, swept, options)
    workdir, progress = options.workdir or default_workdir(experiment.name), progress_for(sys.stderr, options.quiet)
    chosen: dict[str, Any] = {field.name: options[field.name].value for field in dataclasses.fields(Options)}
    chosen |= {name: tuple(chosen[name]) for name in ("init_patterns", "writers")}
    result = train(experiment, workdir, progress=progress, **chosen)
    if not options.quiet:
        for split, metrics in result.metrics.items():
            _print_metrics(split, metrics, tables=split == "test")
        print(f"{'seconds':<11} " + "  ".join(f"{name} {value:.1f}" for name, value in result.seconds.items()))
        if speed := (RunFolder(Path(workdir)).read("result.json") or {}).get("throughput"):
            print(f"{'speed':<11} {_speed(speed)}")
        print(f"{'run':<11} {result.workdir}\n{'fingerprint':<11} {result.fingerprint}")
    return 0


# Options that mean nothing in other modes.
_ONLY_IN = {
    **dict.fromkeys((field.name for field in dataclasses.fields(Options)), ("train",)),
    **dict.fromkeys((field.name for field in dataclasses.fields(SampleRequest)), ("sample",)),
    "checkpoint": ("evaluate", "predict", "sample"),
    "split": ("evaluate",),
    "input": ("predict", "sample"),
    "format": ("predict",),
    **dict.fromkeys(("reference_ops", "figures"), ("train", "sweep")),
    **dict.fromkeys(
        ("sweep_trials", "sweep_search", "sweep_zip", "sweep_seed", "sweep_slots", "sweep_keep"), ("sweep",)
    ),
    **dict.fromkeys(("executor", "sweep_workers", "ray_address"), ("sweep",)),
}


def _refuse_idle(options: flags.FlagValues) -> None:
    """Refuses options that would have no effect."""
    for name, modes in _ONLY_IN.items():
        if options[name].present and options.mode not in modes:
            raise RequestError(f"--{name} has no effect in --mode={options.mode}: it is for {' and '.join(modes)}")


def _override(argv: list[str], experiment: Any, names: Names) -> Any:
    applied: set[str] = set()
    while True:
        values, nodes = defined(), {node.path: node for node in walk(experiment)}
        for path in nodes:
            flags.DEFINE_string(path, None, "", values)
        parse(values, argv, known_only=True)
        waiting = [path for path in nodes if path not in applied and values[path].present]
        if not waiting:
            parse(values, argv)
            return experiment
        path = min(waiting, key=lambda path: path.count("."))
        try:
            value = codec.parse(str(values[path].value), nodes[path].annotation, names)
        except RequestError as error:
            raise RequestError(f"--{path}={values[path].value}: {error}") from None
        experiment = replace_at(experiment, path, value)
        applied.add(path)


@dataclasses.dataclass(frozen=True)
class _Preset:
    """What has fields when a published network stands alone."""

    model: nn.Module


def _preset_summary(argv: list[str]) -> str:
    """Returns the summary of a published network, with what flags such as --model.dtype=bfloat16 make of it."""
    values, names = defined(), Names()
    flags.DEFINE_string("model", "", "", values)
    rest = parse(values, argv, known_only=True)
    if values.model not in PRESETS:
        hint = did_you_mean(values.model, PRESETS)
        raise RequestError(f"--model={values.model}{hint}: without --experiment, one of {', '.join(PRESETS)}")
    preset = PRESETS[values.model]
    model = _override([argv[0], *rest], _Preset(preset.model), names).model
    try:
        return model_summary(values.model, model, preset.inputs, names)
    except NeuralmonError:
        raise
    except Exception as error:  # of a model whose fields, changed by flags, do not fit each other or its inputs
        what = f"{type(error).__name__}: {first_line(error)}"
        raise RequestError(f"model: {type(model).__name__} cannot be applied to its inputs: {what}") from error


def _use(fields: list[str], options: flags.FlagValues) -> int:
    """Evaluates the model of a run's folder, has it predict, or make something."""
    mode = f"--mode={options.mode}"
    if fields:
        raise RequestError(f"{fields[0]}: {mode} takes every field from the run's folder")
    if options.workdir is None:
        raise RequestError(f"{mode} needs the run's folder: --workdir=FOLDER")
    if options.mode == "predict" and not options.input:
        raise RequestError(f"{mode} needs examples: --input=FILE_OR_FOLDER")
    checkpoint = int(options.checkpoint) if options.checkpoint.isdecimal() else options.checkpoint
    if checkpoint not in ("latest", "best") and not isinstance(checkpoint, int):
        raise RequestError(f"--checkpoint={checkpoint}: allowed are latest, best, or a step")
    given: dict[str, Any] = {field.name: options[field.name].value for field in dataclasses.fields(SampleRequest)}
    request = SampleRequest(**given) if options.mode == "sample" else None
    process.begun()
    result = load_run(options.workdir, options.experiment, checkpoint, progress_for(sys.stderr, options.quiet).notice)
    if request is not None:
        for piece in result.sample(request):
            print(piece, end="", flush=True)
        return 0
    if options.mode == "predict":
        print(predictions(result, options.input, options.format))
        return 0
    metrics = result.evaluate(options.split)
    print(f"step {int(result.state.step)}")
    _print_metrics(options.split, metrics)
    return 0


def _speed(throughput: dict[str, float | None]) -> str:
    examples, used = throughput["examples_per_second"], throughput.get("utilisation")
    return f"{examples:,.0f} examples/s" + (f"  {used:.1%} of the devices' peak" if used is not None else "")


def _print_metrics(split: str, metrics: dict[str, Any], tables: bool = True) -> None:
    scalars = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    print(f"{split:<11} " + "  ".join(f"{name} {value:.4f}" for name, value in scalars.items()))
    for name, table in metrics.items() if tables else ():
        if isinstance(table, dict):
            columns = list(next(iter(table.values())))
            print(f"\n{name.replace('_', ' '):<11} " + " ".join(f"{column:>10}" for column in columns))
            for row, cells in table.items():
                shown = [f"{cells[c]:>10}" if isinstance(cells[c], int) else f"{cells[c]:>10.4f}" for c in columns]
                print(f"{row:<11} " + " ".join(shown))
            print()
