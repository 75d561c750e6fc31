"""The command line.

What can be said without jax is said here; the rest is done by `commands.py`, in a process that is set up for it first.
"""

import signal
import sys
import traceback
from pathlib import Path

from neuralmon import process
from neuralmon.arguments import defined, help_text, parse, refuse_unknown, take_sweeps
from neuralmon.errors import Interrupted, NeuralmonError, RequestError, first_line
from neuralmon.shipped import find_experiment, shipped


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
    options = defined()
    argv, swept = take_sweeps(argv)
    fields = parse(options, argv, known_only=True)
    refuse_unknown(fields, options)
    if options.list:
        print("\n".join(f"{name:24}{description}" for name, description in shipped().items()))
        return 0
    if options.help and options.sweep_search:
        from neuralmon.sweeps.search import search_help

        print(search_help(options.sweep_search))
        return 0
    if options.help and options.experiment is None and options.workdir is None:
        print(help_text(options))
        return 0
    if options.workdir == "":
        raise RequestError("--workdir= is empty; give a folder")
    if options.experiment is not None:
        find_experiment(options.experiment)
    if swept and options["mode"].present and options.mode != "sweep":
        raise RequestError(f"--sweep.{next(iter(swept))} has no effect in --mode={options.mode}")
    if swept or (options.mode == "train" and options.workdir and (Path(options.workdir) / "sweep.json").is_file()):
        options["mode"].value = "sweep"
    # A trial of a sweep is trained on one device, and each core can be one.
    process.configure(options.devices, all_cores=options.mode == "sweep")
    from neuralmon import commands  # imports jax

    return commands.run(argv, fields, options, swept)


def console() -> None:
    """The installed command."""
    process.hasten()
    sys.exit(main(sys.argv))
