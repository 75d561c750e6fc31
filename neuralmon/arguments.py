"""Flags: which there are, and what is wrong with a command line; nothing here imports jax."""

import dataclasses
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from absl import flags

from neuralmon.docstrings import meaning
from neuralmon.errors import RequestError, did_you_mean
from neuralmon.sampling import SampleRequest

# The parts of an experiment: the fields of `neuralmon.Experiment`.
PARTS = ("dataset", "model", "task", "optimizer", "training", "name")

USAGE = """usage: python launch.py --experiment=NAME_OR_FILE [--mode=MODE] [--workdir=FOLDER] [--FIELD=VALUE ...]

  python launch.py --list                                      the experiments there are
  python launch.py --experiment=cnn_mnist                      train, evaluate and save
  python launch.py --experiment=cnn_mnist --help               every field with its type, default and meaning
  python launch.py --experiment=cnn_mnist --optimizer.learning_rate.peak=1e-3 --model.features=16,32
  python launch.py --experiment=cnn_mnist --model='MLP(hidden=(512, 512))'
  python launch.py --workdir=runs/mine                         go on with a run
  python launch.py --mode=evaluate --workdir=runs/mine         evaluate it again
  python launch.py --mode=predict --workdir=runs/mine --input=FILE_OR_FOLDER [--format=csv]
  python launch.py --mode=sample --workdir=runs/mine --prompt="To be" [--temperature=0.8]
  python launch.py --mode=results --workdir=runs               all finished runs in one table
  python launch.py --mode=summary --model=resnet50             a published network by name: layers, parameters, FLOPs

many trainings in one program, of any field; values are a,b,c  0..7  low:high:count  low:high:log:count and, to draw
--sweep_trials=N from, uniform(low, high)  loguniform(low, high)  int(low, high)  choice(a, b):

  python launch.py --experiment=mlp_mnist --sweep.optimizer.weight_decay=1e-3:1:log:4 --sweep.training.seed=0..7
  python launch.py --experiment=./my_own.py --mode=sweep       the values that its file calls SWEEP
  python launch.py --sweep_search=hyperband --help             what a search does, and its options
"""


_DEFINE: dict[str, Callable[..., Any]] = {
    "str": flags.DEFINE_string,
    "int": flags.DEFINE_integer,
    "float": flags.DEFINE_float,
}


def defined() -> flags.FlagValues:
    """Returns the flags that every command line has."""
    values = flags.FlagValues()
    flags.DEFINE_string("experiment", None, "a shipped experiment's name, or the path of your own file", values)
    flags.DEFINE_enum(
        "mode",
        "train",
        ["train", "evaluate", "predict", "sample", "summary", "results", "sweep"],
        "what is done with the experiment",
        values,
    )
    flags.DEFINE_string("workdir", None, "the run's folder (runs/<experiment>/<time>); a run in it goes on", values)
    flags.DEFINE_bool("allow_changes", False, "go on with a run although numbers have changed", values)
    flags.DEFINE_string("init_from", None, "train: another run's folder, whose parameters to start with", values)
    flags.DEFINE_list("init_patterns", ["*"], "train: which of them, by their paths, such as 'conv_*'", values)
    flags.DEFINE_bool("figures", True, "train, sweep: draw figures into the folder", values)
    flags.DEFINE_list("writers", [], "train: where metrics go as well: wandb, mlflow", values)
    flags.DEFINE_integer("data_workers", None, "processes that read streamed data; 0: threads", 0, flag_values=values)
    flags.DEFINE_string("profile", None, "train: steps to profile, such as 100:110", values)
    flags.DEFINE_bool(
        "reference_ops", False, "train, sweep: with the plain definitions of all operations, none faster", values
    )
    flags.DEFINE_bool("debug_nans", False, "train: step by step, to name the layer that stops being finite", values)
    flags.DEFINE_string("checkpoint", "latest", "evaluate, predict, sample: latest, best, or a step", values)
    flags.DEFINE_string("split", "test", "evaluate: the split of the data", values)
    flags.DEFINE_string("input", None, "predict: a file or folder of examples; sample: a text, or a file", values)
    flags.DEFINE_enum("format", "table", ["table", "csv", "json"], "predict: what is printed", values)
    for field in dataclasses.fields(SampleRequest):
        if field.name not in values:
            define = next(define for kind, define in _DEFINE.items() if kind in str(field.type))
            said = meaning(SampleRequest, field.name).removesuffix(".")
            define(field.name, field.default, f"sample: {said}", flag_values=values)
    flags.DEFINE_integer(
        "sweep_trials", None, "sweep: how many trainings, where values are drawn", 1, flag_values=values
    )
    searches = "grid, random, sobol, tpe, cmaes, optuna, halving, hyperband, pbt; options: 'hyperband(eta=4)'"
    flags.DEFINE_string("sweep_search", None, f"sweep: {searches}; None: grid, with sweep_trials random", values)
    flags.DEFINE_string("sweep_zip", "", "sweep: fields that go through their lists together: a.b,c.d;e.f,g", values)
    flags.DEFINE_integer("sweep_seed", 0, "sweep: of what is drawn", 0, flag_values=values)
    flags.DEFINE_integer("sweep_slots", None, "sweep: trainings at the same time", 1, flag_values=values)
    flags.DEFINE_string(
        "sweep_keep", "1", "sweep: how many of the best configurations are kept as runs, or all", values
    )
    where = "in worker processes, one per device or core; ray: on the machines of a Ray cluster"
    flags.DEFINE_enum("executor", None, ["process", "ray"], f"sweep: process: {where}; None: in this one", values)
    flags.DEFINE_integer("sweep_workers", None, "sweep: of an executor; one per device or core", 1, flag_values=values)
    flags.DEFINE_string("ray_address", None, "sweep: of a Ray cluster; else that of this machine, if any", values)
    flags.DEFINE_integer(
        "devices", None, "CPU devices to cut each batch over; of a sweep, to train on", 1, flag_values=values
    )
    flags.DEFINE_bool("quiet", False, "print nothing but errors", values)
    flags.DEFINE_bool("debug", False, "print the traceback of an error", values)
    flags.DEFINE_bool("list", False, "print the experiments there are", values)
    flags.DEFINE_bool("help", False, "print this help", values, short_name="h")
    return values


def take_sweeps(argv: list[str]) -> tuple[list[str], dict[str, str]]:
    """Returns the command line without its `--sweep.PATH=VALUES`, and their values by path."""
    rest, swept, words = [], dict[str, str](), iter(argv)
    for word in words:
        path, equals, values = word.lstrip("-").removeprefix("sweep.").partition("=")
        if not (word.startswith("-") and word.lstrip("-").startswith("sweep.")):
            rest.append(word)
            continue
        if not equals and (values := next(words, "")) == "":
            raise RequestError(f"{word} needs values: {word}=VALUES")
        if path in swept:
            raise RequestError(f"--sweep.{path} is there twice")
        swept[path] = values
    return rest, swept


def parse(values: flags.FlagValues, argv: list[str], known_only: bool = False) -> list[str]:
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


def refuse_unknown(arguments: list[str], options: flags.FlagValues) -> None:
    """Refuses what no experiment could have a flag for: found before any is loaded."""
    rest = iter(arguments)
    for argument in rest:
        flag, equals, _ = argument.lstrip("-").partition("=")
        if not argument.startswith("-"):
            raise RequestError(f"{argument!r} is not a flag; flags are written --name=value (--help lists them)")
        if flag.partition(".")[0] not in PARTS:
            raise _unknown(flag, [*options, *PARTS])
        if not equals:  # the next word is the value
            next(rest, None)


def help_text(options: flags.FlagValues) -> str:
    """Returns what `--help` says of any experiment."""
    lines = [USAGE, "options:"]
    for flag in dict.fromkeys(options[name] for name in options):
        kind = "" if flag.boolean else "=" + "|".join(getattr(flag.parser, "enum_values", [flag.flag_type()]))
        line = f"  --{flag.name + kind:<34} {flag.help.rpartition('>: ')[2]}"
        lines.append(textwrap.fill(" ".join(line.split("\n")), 120, subsequent_indent=" " * 39, break_on_hyphens=False))
    return "\n".join(lines)
