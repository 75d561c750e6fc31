"""The command line.

The experiment is found first; then flags are applied to it from shallow to deep, since a flag that replaces a whole
part (`--model='MLP(hidden=(512,))'`) decides which flags there are below it (`--model.hidden`).
"""

import dataclasses
import inspect
import re
import signal
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import flax.linen as nn
from absl import flags

from neuralmon import codec
from neuralmon.catalog import load_experiment, shipped
from neuralmon.errors import NeuralmonError, RequestError, first_line
from neuralmon.experiment import Experiment, replace_at, walk
from neuralmon.models.presets import PRESETS
from neuralmon.names import Names, did_you_mean, field_names
from neuralmon.reports.predictions import FORMATS, predictions
from neuralmon.reports.summary import model_summary, summary
from neuralmon.training import environment
from neuralmon.training.check import check
from neuralmon.training.options import Options
from neuralmon.training.progress import progress_for
from neuralmon.training.result import load_run
from neuralmon.training.run_folder import RunFolder, default_workdir
from neuralmon.training.signals import Interrupted
from neuralmon.training.train import train

_USAGE = """usage: python launch.py --experiment=NAME_OR_FILE [--mode=MODE] [--workdir=FOLDER] [--FIELD=VALUE ...]

  python launch.py --list                                      the experiments there are
  python launch.py --experiment=cnn_mnist                      train, evaluate and save
  python launch.py --experiment=cnn_mnist --help               every field with its type, default and meaning
  python launch.py --experiment=cnn_mnist --optimizer.learning_rate.peak=1e-3 --model.features=16,32
  python launch.py --experiment=cnn_mnist --model='MLP(hidden=(512, 512))'
  python launch.py --workdir=runs/mine                         go on with a run
  python launch.py --mode=evaluate --workdir=runs/mine         evaluate it again
  python launch.py --mode=predict --workdir=runs/mine --input=FILE_OR_FOLDER [--format=csv]
  python launch.py --mode=summary --model=resnet50             a published network by name: layers, parameters, FLOPs
"""


def _flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("experiment", None, "a shipped experiment's name, or the path of your own file", values)
    flags.DEFINE_enum(
        "mode", "train", ["train", "evaluate", "predict", "summary"], "what is done with the experiment", values
    )
    flags.DEFINE_string("workdir", None, "the run's folder (runs/<experiment>/<time>); a run in it goes on", values)
    flags.DEFINE_bool("allow_changes", False, "go on with a run although numbers have changed", values)
    flags.DEFINE_string("init_from", None, "train: another run's folder, whose parameters to start with", values)
    flags.DEFINE_list("init_patterns", ["*"], "train: which of them, by their paths, such as 'conv_*'", values)
    flags.DEFINE_bool("figures", True, "train: draw figures into the run's folder", values)
    flags.DEFINE_list("writers", [], "train: where metrics go as well: wandb, mlflow", values)
    flags.DEFINE_integer("data_workers", None, "processes that read streamed data; 0: threads", 0, flag_values=values)
    flags.DEFINE_string("profile", None, "train: steps to profile, such as 100:110", values)
    flags.DEFINE_bool("debug_nans", False, "train: step by step, to name the layer that stops being finite", values)
    flags.DEFINE_string("checkpoint", "latest", "evaluate, predict: latest, best, or a step", values)
    flags.DEFINE_string("split", "test", "evaluate: the split of the data", values)
    flags.DEFINE_string("input", None, "predict: a file or folder of examples", values)
    flags.DEFINE_enum("format", "table", FORMATS, "predict: what is printed", values)
    flags.DEFINE_integer("devices", None, "CPU devices to cut each batch over", 1, flag_values=values)
    flags.DEFINE_bool("quiet", False, "print nothing but errors", values)
    flags.DEFINE_bool("debug", False, "print the traceback of an error", values)
    flags.DEFINE_bool("list", False, "print the experiments there are", values)
    flags.DEFINE_bool("help", False, "print this help", values, short_name="h")
    return values


def main(argv: list[str]) -> int:
    """Runs a command line and returns its exit code.

    0; 2: something is wrong in what was asked, found before compiling; 1: the run failed; 130 and 143: stopped by
    Ctrl-C and SIGTERM after saving.
    """
    try:
        return _main(argv)
    except Interrupted as stopped:
        print(f"neuralmon: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        if {"--debug", "-debug", "--debug=true"} & set(argv):
            traceback.print_exc()
        if isinstance(error, NeuralmonError):
            print(f"neuralmon: error: {error}", file=sys.stderr)
            return error.exit_code
        what = f"the run failed: {type(error).__name__}: {first_line(error)}"
        print(f"neuralmon: {what} (--debug prints the traceback)", file=sys.stderr)
        return 1


def _main(argv: list[str]) -> int:
    options = _flags()
    fields = _parse(options, argv, known_only=True)
    _refuse_unknown(fields, options)
    if options.list:
        print("\n".join(f"{name:24}{description}" for name, description in shipped().items()))
        return 0
    if options.help and options.experiment is None and options.workdir is None:
        print(_help(options))
        return 0
    _refuse_idle(options)
    if options.workdir == "":
        raise RequestError("--workdir= is empty; give a folder")
    if options.mode in ("evaluate", "predict"):
        return _use(fields, options)
    if options.experiment is not None:
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
        print(_help(options, experiment))
        return 0
    environment.configure(options.devices)
    if options.mode == "summary":
        print(summary(check(experiment)))
        return 0
    experiment.check_recordable()
    workdir, progress = options.workdir or default_workdir(experiment.name), progress_for(sys.stderr, options.quiet)
    chosen: dict[str, Any] = {field.name: options[field.name].value for field in dataclasses.fields(Options)}
    chosen |= {name: tuple(chosen[name]) for name in ("init_patterns", "writers")}
    result = train(experiment, workdir, progress=progress, **chosen)
    if not options.quiet:
        for split, metrics in result.metrics.items():
            _print_metrics(split, metrics, tables=split == "test")
        print(f"{'seconds':<11} " + "  ".join(f"{name} {value:.1f}" for name, value in result.seconds.items()))
        print(f"{'run':<11} {result.workdir}\n{'fingerprint':<11} {result.fingerprint}")
    return 0


def _parse(values: flags.FlagValues, argv: list[str], known_only: bool = False) -> list[str]:
    """Parses into `values` and returns what is no flag or, with `known_only`, none that is defined."""
    try:
        return list(values(argv, known_only)[1:])
    except flags.UnrecognizedFlagError as error:
        raise _unknown(error.flagname, values) from None
    except flags.Error as error:
        message = str(error).removeprefix("flag ")
        if "invalid literal for int" in message:
            message = f"{message.partition(': invalid')[0]}: expected a whole number"
        if "Non-boolean" in message:
            message = f"{message.partition(': (')[0]}: allowed are true and false"
        raise RequestError(message) from None


def _unknown(flag: str, known: Iterable[str]) -> RequestError:
    hint = did_you_mean(flag, known, 2, "--")
    return RequestError(f"there is no flag --{flag}{hint}; --help lists all, with --experiment those of fields too")


def _refuse_unknown(arguments: list[str], options: flags.FlagValues) -> None:
    """Refuses what no experiment could have a flag for: found before any is loaded."""
    parts, rest = field_names(Experiment), iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            raise RequestError(f"{argument!r} is not a flag; flags are written --name=value (--help lists them)")
        if flag.partition(".")[0] not in parts:
            raise _unknown(flag, [*options, *parts])
        if not equals:  # the next word is the value
            next(rest, None)


# Options that mean nothing in other modes.
_ONLY_IN = {
    **dict.fromkeys((field.name for field in dataclasses.fields(Options)), ("train",)),
    "checkpoint": ("evaluate", "predict"),
    "split": ("evaluate",),
    "input": ("predict",),
    "format": ("predict",),
}


def _refuse_idle(options: flags.FlagValues) -> None:
    """Refuses options that would have no effect."""
    for name, modes in _ONLY_IN.items():
        if options[name].present and options.mode not in modes:
            raise RequestError(f"--{name} has no effect in --mode={options.mode}: it is for {' and '.join(modes)}")


def _override(argv: list[str], experiment: Any, names: Names) -> Any:
    applied: set[str] = set()
    while True:
        values, nodes = _flags(), {node.path: node for node in walk(experiment)}
        for path in nodes:
            flags.DEFINE_string(path, None, "", values)
        _parse(values, argv, known_only=True)
        waiting = [path for path in nodes if path not in applied and values[path].present]
        if not waiting:
            _parse(values, argv)
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
    values, names = _flags(), Names()
    flags.DEFINE_string("model", "", "", values)
    rest = _parse(values, argv, known_only=True)
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
    """Evaluates the model of a run's folder, or has it predict."""
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
    environment.configure(options.devices)
    result = load_run(options.workdir, options.experiment, checkpoint, progress_for(sys.stderr, options.quiet).notice)
    if options.mode == "predict":
        print(predictions(result, options.input, options.format))
        return 0
    metrics = result.evaluate(options.split)
    print(f"step {int(result.state.step)}")
    _print_metrics(options.split, metrics)
    return 0


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


def _help(options: flags.FlagValues, experiment: Experiment | None = None) -> str:
    lines = [_USAGE, "options:"]
    for flag in dict.fromkeys(options[name] for name in options):
        kind = "" if flag.boolean else "=" + "|".join(getattr(flag.parser, "enum_values", [flag.flag_type()]))
        lines.append(f"  --{flag.name + kind:<34} {flag.help.rpartition('>: ')[2]}")
    if experiment is None:
        return "\n".join(lines)
    lines += ["", "fields (a flag sets a field or replaces a whole part):"]
    for node in walk(experiment):
        try:
            value = codec.format(node.value, experiment.names, annotation=node.annotation)
        except RequestError:  # such as Linen's own initialisers, which have no names
            value = "..."
        said = _meaning(type(node.owner), node.field) or (_first_words(node.value) if "." in node.path else "")
        meaning = "; ".join(filter(None, [codec.type_name(node.annotation), said]))
        lines += [*([] if "." in node.path else [""]), f"  --{node.path}={value}", f"      {meaning}"]
    return "\n".join(lines)


def _meaning(cls: type, field: str) -> str:
    """Returns what the `Attributes:` section of a class or of its bases says of a field."""
    for owner in cls.__mro__:
        _, _, section = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")
        if match := re.search(rf"^  {field}: (.*(?:\n    .*)*)", section, re.MULTILINE):
            return " ".join(match[1].split())
    return ""


def _first_words(value: Any) -> str:
    """Returns what a part of a tuple is: the first line of its class's docstring."""
    return inspect.cleandoc(type(value).__doc__ or "").partition("\n")[0] if dataclasses.is_dataclass(value) else ""


def console() -> None:
    """The installed command."""
    sys.exit(main(sys.argv))
