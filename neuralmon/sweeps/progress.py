"""What one sees of a sweep: a live table of the best trials in a terminal, plain lines in a pipe, or nothing."""

import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from neuralmon.sweeps.search import Direction
from neuralmon.sweeps.trials import Trial
from neuralmon.syntax import write_text
from neuralmon.training.progress import Clock, Progress, duration

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.live import Live

_SHOWN = 10


class SweepProgress(Progress):
    """Follows a sweep and shows nothing of it; subclasses show what they override."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self.begin("", "loss", "min", None, 1)

    def begin(self, title: str, metric: str, direction: Direction, total: int | None, steps: int) -> None:
        """Begins a sweep of so many trials, if that is known, of so many steps each."""
        self._title, self._metric, self._direction = title, metric, direction
        self._total, self._steps = total, max(1, steps)
        self._begun = self._clock()
        self._ended = self._done = 0
        self._first: tuple[float, float] | None = None  # when, and the steps by then: compiling is no measure of speed
        self._live: dict[int, int] = {}
        self._scores: dict[int, float] = {}
        self._trials: dict[int, str] = {}

    def advanced(self, steps: Mapping[int, int], objectives: Mapping[int, float]) -> None:
        """Takes how far the trials are that are trained, by their numbers, and their last objectives."""
        self._live = dict(steps)
        self._scores |= objectives
        self._first = self._first or (self._clock(), self._position)

    def ended(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """Takes a trial that has ended."""
        self._ended += 1
        self._done += int(row["step"])
        self._live.pop(trial.number, None)
        self._trials[trial.number] = ", ".join(f"{short(path)}={write_text(v)}" for path, v in trial.values.items())
        if row["objective"] is not None:
            self._scores[trial.number] = row["objective"]

    @property
    def ranking(self) -> list[tuple[int, float]]:
        """Trials by number with their objectives, the best first."""
        sign = -1.0 if self._direction == "max" else 1.0
        return sorted(self._scores.items(), key=lambda pair: (sign * pair[1], pair[0]))

    @property
    def _position(self) -> float:
        return self._done + sum(self._live.values())

    def _eta(self) -> str:
        if self._total is None or self._first is None:
            return ""
        begun, before = self._first
        done = self._position - before
        if done <= 0:
            return ""
        left = (self._total - self._ended) * self._steps - sum(self._live.values())
        return f"ETA {duration(max(0.0, left) * (self._clock() - begun) / done)}"

    def _counted(self) -> str:
        return f"{self._ended}/{self._total} trials" if self._total is not None else f"{self._ended} trials"


class PlainSweep(SweepProgress):
    """Prints a line at each tenth of the trials, and notices."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(clock)
        self._stream = stream

    def ended(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """Prints how far the sweep is and the best trial, now and then; each trial that did not come to its end."""
        super().ended(trial, row)
        if row["status"] in ("failed", "diverged"):
            self.notice(f"{trial.said} {row['status']}: {row['reason']}")
        tenth = max(1, (self._total or 10) // 10)
        if (self._ended % tenth == 0 or self._ended == self._total) and (ranking := self.ranking):
            number, score = ranking[0]
            best = f"best {self._metric} {score:.4f}: trial {number} ({self._trials.get(number, 'still training')})"
            self.notice("  ".join(filter(None, (self._counted(), best, self._eta()))))

    def notice(self, text: str) -> None:
        """Prints `text`."""
        print(text, file=self._stream, flush=True)


class LiveSweep(SweepProgress):
    """The best trials so far, at the bottom of the terminal; notices stay above them."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        from rich.console import Console

        self._console = Console(file=stream, highlight=False)
        self._display: Live | None = None
        super().__init__(clock)

    def begin(self, title: str, metric: str, direction: Direction, total: int | None, steps: int) -> None:
        """Shows the table."""
        super().begin(title, metric, direction, total, steps)
        if title and self._display is None:
            from rich.live import Live

            out, err = sys.stdout.isatty(), sys.stderr.isatty()
            self._display = Live(
                self, console=self._console, refresh_per_second=4, transient=True,
                redirect_stdout=out, redirect_stderr=err,
            )  # fmt: skip
            self._display.start()

    def notice(self, text: str) -> None:
        """Prints `text` above the table."""
        self._console.print(text, style="yellow", markup=False)

    def close(self) -> None:
        """Takes the table away and gives the cursor back."""
        if self._display is not None:
            self._display.stop()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[RenderableType]":
        """Renders the table of the best trials and a bar."""
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for column in ("trial", self._metric, "step", "values"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for number, score in self.ranking[: min(_SHOWN, options.height or _SHOWN)]:
            step = str(self._live[number]) if number in self._live else "done"
            table.add_row(str(number), f"{score:.4f}", step, self._trials.get(number, ""))
        yield table
        done, left = ("#", "-") if options.ascii_only else ("━", "─")
        share = self._position / max(1, (self._total or self._ended or 1) * self._steps)
        filled = min(24, int(24 * share))
        times = "  ".join(filter(None, ("", self._eta(), duration(self._clock() - self._begun), "")))
        line = f"{self._counted()}  ", (done * filled, "green"), (left * (24 - filled), "dim"), f"  {times}  "
        yield Text.assemble(*line, (self._title, "bold"), no_wrap=True, overflow="ellipsis")


def sweep_progress_for(stream: TextIO, quiet: bool) -> SweepProgress:
    """Chooses for `stream`, as `progress_for` does."""
    if quiet:
        return SweepProgress()
    movable_cursor = os.environ.get("TERM") not in ("dumb", "unknown")
    if stream.isatty() and movable_cursor and "ipykernel" not in sys.modules:
        return LiveSweep(stream)
    return PlainSweep(stream)


def short(path: str) -> str:
    """Returns the last part of a path, the part before it too where that says more: learning_rate.peak."""
    parts = path.split(".")
    return ".".join(parts[-2:]) if parts[-1] in ("peak", "warmup", "end", "scale") else parts[-1]
