"""The command line.

The experiment is found first; then flags are applied to it from shallow to deep, since a flag that replaces a whole
part (`--model='MLP(hidden=(512,))'`) decides which flags there are below it (`--model.hidden`).
"""

import difflib
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from absl import flags

from neuralmon import codec
from neuralmon.catalog import load_experiment, shipped
from neuralmon.errors import NeuralmonError, RequestError
from neuralmon.experiment import Experiment, replace_at, walk
from neuralmon.names import field_help, field_names
from neuralmon.training import environment
from neuralmon.training.loop import Interrupted
from neuralmon.training.progress import progress_for
from neuralmon.training.result import Result, load_run
from neuralmon.training.run_folder import RunFolder, default_workdir
from neuralmon.training.train import check, train

_USAGE = """usage: python launch.py --experiment=NAME_OR_FILE [--mode=MODE] [--workdir=FOLDER] [--FIELD=VALUE ...]

  python launch.py --list                                      the experiments there are
  python launch.py --experiment=cnn_mnist                      train, evaluate and save
  python launch.py --experiment=cnn_mnist --help               every field with its type, default and meaning
  python launch.py --experiment=cnn_mnist --optimizer.learning_rate.peak=1e-3 --model.features=16,32
  python launch.py --experiment=cnn_mnist --model='MLP(hidden=(512, 512))'
  python launch.py --workdir=runs/mine                         go on with a run
  python launch.py --mode=evaluate --workdir=runs/mine         evaluate it again
"""
_MODES = ("train", "evaluate", "summary")


def _fixed_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    flags.DEFINE_string("experiment", None, "a shipped experiment's name, or the path of your own file", values)
    flags.DEFINE_enum("mode", "train", _MODES, "train; evaluate a run; print a summary of the model", values)
    flags.DEFINE_string("workdir", None, "the run's folder (default: runs/<experiment>/<time>); a run in it goes on",
                        values)  # fmt: skip
    flags.DEFINE_bool("allow_changes", False, "go on with a run although numbers have changed", values)
    flags.DEFINE_string("checkpoint", "latest", "evaluate: latest, best, or a step", values)
    flags.DEFINE_string("split", "test", "evaluate: the split of the data", values)
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
    debug = any(argument in ("--debug", "-debug", "--debug=true") for argument in argv)
    try:
        return _main(argv)
    except Interrupted as stopped:
        print(f"neuralmon: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        if debug:
            traceback.print_exc()
        if isinstance(error, NeuralmonError | flags.Error):
            print(f"neuralmon: error: {error}", file=sys.stderr)
            return error.exit_code if isinstance(error, NeuralmonError) else RequestError.exit_code
        first_line = (str(error).strip() or "no message").splitlines()[0]
        print(f"neuralmon: the run failed: {type(error).__name__}: {first_line} (--debug prints the traceback)",
              file=sys.stderr)  # fmt: skip
        return 1


def _main(argv: list[str]) -> int:
    options = _fixed_flags()
    _refuse_unknown(_parse(options, argv, known_only=True), options)
    if options.list:
        for name, description in shipped().items():
            print(f"{name:24}{description}")
        return 0
    if options.help and options.experiment is None and options.workdir is None:
        print(_USAGE + "\n" + _help_of(options))
        return 0
    if options.workdir == "":
        raise RequestError("--workdir= is empty; give a folder")
    if options.mode == "evaluate":
        return _evaluate(argv, options)
    if options.experiment is not None:
        experiment = load_experiment(options.experiment)
    elif options.workdir is not None:
        experiment = RunFolder(Path(options.workdir)).experiment()
    else:
        raise RequestError("say what to run: --experiment=NAME_OR_FILE (--list prints the names, --help explains)")
    experiment = _override(argv, experiment)
    if options.help:
        print(_USAGE + "\n" + _help_of(options) + "\n" + _experiment_help(experiment))
        return 0
    environment.configure(options.devices)
    if options.mode == "summary":
        from neuralmon.reports.summary import summary

        print(summary(check(experiment)))
        return 0
    experiment.check_recordable()
    result = train(
        experiment,
        options.workdir or default_workdir(experiment.name),
        allow_changes=options.allow_changes,
        progress=progress_for(sys.stderr, options.quiet),
    )
    if not options.quiet:
        _print_result(result)
    return 0


def _parse(values: flags.FlagValues, argv: list[str], known_only: bool = False) -> list[str]:
    """Parses into `values` and returns what is no flag or, with `known_only`, none that is defined."""
    try:
        return list(values(argv, known_only)[1:])
    except flags.UnrecognizedFlagError as error:
        raise _unknown(error.flagname, list(values)) from None
    except flags.Error as error:
        message = str(error).removeprefix("flag ")
        problem = ": allowed are true and false" if "Non-boolean" in message else ""
        raise RequestError(message.partition(": (")[0] + problem if problem else message) from None


def _unknown(flag: str, known: list[str]) -> RequestError:
    close = " or ".join(f"--{name}" for name in difflib.get_close_matches(flag, known, n=2))
    hint = f" (did you mean {close}?)" if close else ""
    return RequestError(f"there is no flag --{flag}{hint}; --help lists all, with --experiment those of fields too")


def _refuse_unknown(arguments: list[str], options: flags.FlagValues) -> None:
    """Refuses what no experiment could have a flag for: found before any is loaded."""
    parts = field_names(Experiment)
    value_follows = False
    for argument in arguments:
        if value_follows:
            value_follows = False
        elif argument.startswith("-"):
            flag, equals, _ = argument.lstrip("-").partition("=")
            if flag.partition(".")[0] not in parts:
                raise _unknown(flag, [*options, *parts])
            value_follows = not equals
        else:
            raise RequestError(f"{argument!r} is not a flag; flags are written --name=value (--help lists them)")


def _override(argv: list[str], experiment: Experiment) -> Experiment:
    applied: set[str] = set()
    while True:
        values = _fixed_flags()
        nodes = {node.path: node for node in walk(experiment)}
        for path in nodes:
            flags.DEFINE_string(path, None, "", values)
        _parse(values, argv, known_only=True)
        waiting = [path for path in nodes if path not in applied and values[path].present]
        if not waiting:
            _parse(values, argv)
            return experiment
        path = min(waiting, key=lambda path: path.count("."))
        try:
            value = codec.parse(str(values[path].value), nodes[path].annotation, experiment.names)
        except RequestError as error:
            raise RequestError(f"--{path}={values[path].value}: {error}") from None
        experiment = replace_at(experiment, path, value)
        applied.add(path)


def _evaluate(argv: list[str], options: flags.FlagValues) -> int:
    if fields := _parse(_fixed_flags(), argv, known_only=True):
        raise RequestError(f"{fields[0]}: --mode=evaluate takes every field from the run's folder")
    if options.workdir is None:
        raise RequestError("--mode=evaluate needs the run's folder: --workdir=FOLDER")
    checkpoint = options.checkpoint
    if checkpoint not in ("latest", "best"):
        if not checkpoint.isdecimal():
            raise RequestError(f"--checkpoint={checkpoint}: allowed are latest, best, or a step")
        checkpoint = int(checkpoint)
    environment.configure(options.devices)
    result = load_run(options.workdir, options.experiment, checkpoint, progress_for(sys.stderr, options.quiet).notice)
    metrics = result.evaluate(options.split)
    print(f"step {int(result.state.step)}")
    _print_metrics(options.split, metrics)
    return 0


def _print_result(result: Result) -> None:
    for split, metrics in result.metrics.items():
        _print_metrics(split, metrics, tables=split == "test")
    print(f"{'seconds':<11} " + "  ".join(f"{name} {value:.1f}" for name, value in result.seconds.items()))
    print(f"{'run':<11} {result.workdir}\n{'fingerprint':<11} {result.fingerprint}")


def _print_metrics(split: str, metrics: dict[str, Any], tables: bool = True) -> None:
    print(f"{split:<11} " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items() if _is_scalar(value)))
    for name, table in metrics.items() if tables else ():
        if isinstance(table, dict):
            columns = list(next(iter(table.values())))
            print(f"\n{name.replace('_', ' '):<11} " + " ".join(f"{column:>10}" for column in columns))
            for row, cells in table.items():
                shown = [f"{cells[c]:>10}" if isinstance(cells[c], int) else f"{cells[c]:>10.4f}" for c in columns]
                print(f"{row:<11} " + " ".join(shown))
            print()


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float)


def _help_of(options: flags.FlagValues) -> str:
    lines = ["options:"]
    for name in ("experiment", "mode", "workdir", "allow_changes", "checkpoint", "split", "devices", "quiet", "debug",
                 "list", "help"):  # fmt: skip
        flag = options[name]
        kind = "" if flag.boolean else f"={'|'.join(_MODES) if name == 'mode' else flag.flag_type()}"
        lines.append(f"  --{name + kind:<34} {flag.help.rpartition('>: ')[2]}")
    return "\n".join(lines) + "\n"


def _experiment_help(experiment: Experiment) -> str:
    lines = ["fields (a flag sets a field or replaces a whole part):"]
    for node in walk(experiment):
        if "." not in node.path:
            lines.append("")
        try:
            value = codec.format(node.value, experiment.names, annotation=node.annotation)
        except RequestError:  # such as Linen's own initialisers, which have no names
            value = "..."
        help_text = field_help(type(node.owner), node.field)
        lines.append(f"  --{node.path}={value}")
        lines.append(f"      {codec.type_name(node.annotation)}{'; ' + help_text if help_text else ''}")
    return "\n".join(lines)


def console() -> None:
    """The installed command."""
    sys.exit(main(sys.argv))
