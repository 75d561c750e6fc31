"""neuralmon's training beside PyTorch, torch.compile and a plain Flax loop, on the same work.

  python -m benchmarks [--quick] [--only=mlp,gpt] [--out=FOLDER]

Writes benchmarks.md, benchmarks.json and benchmarks.png into FOLDER. With --only, other results in FOLDER stay.
"""

import argparse
import datetime
import difflib
import importlib
import importlib.util
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.measures import MEASURES
from benchmarks.rounds import Settings
from benchmarks.works import WORKS
from neuralmon.errors import NeuralmonError, RequestError

RESULTS = Path(__file__).parent / "results"
NAMES = (*WORKS, *MEASURES)
# What --quick leaves out, unless it is asked for.
LONG = ("resnet20", "gpt_b12", "transformer", "sweep")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="fewer works, fewer and shorter rounds: under 3 minutes, and less exact"
    )
    parser.add_argument("--only", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help=f"default: {RESULTS}")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the processes end then, too
    try:
        names = chosen(given.only, given.quick)
        if importlib.util.find_spec("torch") is None:
            raise RequestError("there is no PyTorch to compare with: pip install -e '.[references]'")
        run(names, given.quick, given.out)
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except NeuralmonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; what was measured before is written", file=sys.stderr)
        return 130
    return 0


def chosen(only: str | None, quick: bool) -> list[str]:
    """Returns the names of what to measure, in the table's order.

    Raises:
      RequestError: one of them is unknown.
    """
    if only is None:
        return [name for name in NAMES if not (quick and name in LONG)]
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    for name in wanted:
        if name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise RequestError(f"--only={only}: there is no {name}{meant}; there are {', '.join(NAMES)}")
    if not wanted:
        raise RequestError(f"--only={only} names nothing; there are {', '.join(NAMES)}")
    return [name for name in NAMES if name in wanted]


def run(names: Sequence[str], quick: bool, out: Path) -> None:
    """Measures, prints the table, and writes the files after each name, so that nothing is lost."""
    import dataclasses

    from benchmarks import figure, machine, report

    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    settings, results = Settings.chosen(quick), report.read(out / "benchmarks.json")
    for name, rows in _rows(names, quick, settings):
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        results[name] = report.Measured(rows, now, machine.described(), dataclasses.asdict(settings))
        results = {name: results[name] for name in NAMES if name in results}
        report.write(results, out / "benchmarks.json")
        (out / "benchmarks.md").write_text(report.page(results))
        (out / "benchmarks.png").write_bytes(figure.draw(results))
    print(report.table({name: results[name] for name in names}))
    print(f"{out / 'benchmarks.md'}, .json and .png; {time.monotonic() - begun:.0f} s")


def _rows(names: Sequence[str], quick: bool, settings: Settings) -> Iterator[tuple[str, list]]:
    from benchmarks import training

    begun = time.monotonic()
    for name in names:

        def say(text: str, name: str = name) -> None:
            print(f"[{time.monotonic() - begun:4.0f} s] {name}: {text}", file=sys.stderr, flush=True)

        if name in MEASURES:
            say("measures")
            yield name, importlib.import_module(MEASURES[name]).measure(quick)
            continue
        with tempfile.TemporaryDirectory() as folder:
            yield name, [training.measure(name, settings, Path(folder), say)]


if __name__ == "__main__":
    sys.exit(main())
