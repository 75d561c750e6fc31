"""What one sees while training: a live bar in a terminal, plain lines in a pipe, or nothing."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.live import Live
    from rich.text import Text

Clock = Callable[[], float]


class Progress:
    """Follows one training and shows nothing of it; subclasses show what they override.

    A context manager, so that the terminal is restored however the training ends.
    """

    def start(self, title: str, total_steps: int, step: int) -> None:
        """Begins at `step`, which is above 0 for a resumed run."""

    def train(self, step: int, metrics: Mapping[str, Any], examples_per_second: float) -> None:
        """Takes the metrics of the chunk that ended at `step`."""

    def evaluation(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Shows an evaluation, permanently."""

    def notice(self, text: str) -> None:
        """Shows a line one must see."""

    def close(self) -> None:
        """Restores the terminal; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close()


def progress_for(stream: TextIO, quiet: bool) -> Progress:
    """Chooses for `stream`; NO_COLOR is honoured by rich, and takes the colour only."""
    if quiet:
        return Silent()
    movable_cursor = os.environ.get("TERM") not in ("dumb", "unknown")
    if stream.isatty() and movable_cursor and "ipykernel" not in sys.modules:
        return LiveBar(stream)
    return PlainLines(stream)


class Silent(Progress):
    """Shows nothing; errors reach the person as exceptions."""


class PlainLines(Progress):
    """Prints exactly one line per evaluation, and notices."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        PlainLines.start(self, "", 0, 0)

    def start(self, title: str, total_steps: int, step: int) -> None:
        """Begins at `step`."""
        self._title, self._total, self._step = title, total_steps, step
        self._started = self._clock()
        self._first: tuple[int, float] | None = None  # compiling, and an earlier launch, are no measure of speed
        self._end: float | None = None
        self._metrics: list[str] = []
        self._speed: list[str] = []

    def train(self, step: int, metrics: Mapping[str, Any], examples_per_second: float) -> None:
        """Takes the metrics of the chunk that ended at `step`."""
        now = self._clock()
        first_step, first_time = self._first = self._first or (step, now)
        if step > first_step:
            self._end = now + (now - first_time) / (step - first_step) * (self._total - step)
        self._step, self._metrics = step, _shown(metrics)
        self._speed = [f"{examples_per_second:{',.0f' if examples_per_second >= 100 else '.3g'}} examples/s"]

    def evaluation(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints the step, the last chunk's metrics, the evaluation's, the speed and the time still needed."""
        train = [" ".join(["train", *self._metrics])] if self._metrics else []
        parts = [*train, " ".join([split, *_shown(metrics)]), *self._speed, *self._eta()]
        self.notice(f"step {self._position(step)}  {' | '.join(parts)}")

    def notice(self, text: str) -> None:
        """Prints `text`."""
        print(text, file=self._stream, flush=True)

    def _eta(self) -> list[str]:
        return [] if self._end is None else [f"ETA {duration(self._end - self._clock())}"]

    def _position(self, step: int) -> str:
        return f"{step:{len(str(self._total))}d}/{self._total} {100 * step // max(self._total, 1):3d} %"


class LiveBar(PlainLines):
    """Two lines at the bottom of the terminal; evaluations and notices stay above them."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        from rich.console import Console

        super().__init__(stream, clock)
        self._console = Console(file=stream, highlight=False)
        self._live: Live | None = None

    def start(self, title: str, total_steps: int, step: int) -> None:
        """Shows the bar at `step`."""
        from rich.live import Live

        super().start(title, total_steps, step)
        # What is printed meanwhile goes above the bar, unless it was sent to a file.
        out, err = sys.stdout.isatty(), sys.stderr.isatty()
        self._live = Live(
            self, console=self._console, refresh_per_second=5, transient=True, redirect_stdout=out, redirect_stderr=err
        )
        self._live.start()

    def evaluation(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints a line above the bar: loss and accuracy, and the last chunk's loss, fit into 80 columns."""
        from rich.text import Text

        line = f"{self._position(step)}  {' '.join([split, *_shown(metrics)[:2]])}"
        self._console.print(Text.assemble(line, (f"  train {self._metrics[0]}" if self._metrics else "", "dim")))

    def notice(self, text: str) -> None:
        """Prints `text` above the bar."""
        self._console.print(text, style="yellow", markup=False)

    def close(self) -> None:
        """Takes the bar away and gives the cursor back."""
        if self._live is not None:
            self._live.stop()

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        """Renders the two lines, cut where the terminal ends."""
        from rich.text import Text

        # Two characters and not only two colours, for NO_COLOR.
        done, left = ("#", "-") if options.ascii_only else ("━", "─")
        filled = 24 * self._step // max(self._total, 1)
        bar = Text.assemble((done * filled, "green"), (left * (24 - filled), "dim"))
        times = "  ".join(["", *self._eta(), duration(self._clock() - self._started), ""])
        line = f"{self._position(self._step)}  ", bar, times, (self._title, "bold")
        yield Text.assemble(*line, no_wrap=True, overflow="ellipsis")
        numbers = [*self._metrics[:2], *self._speed, *self._metrics[2:]] or ["compiling, then the first steps"]
        yield Text("  ".join(numbers), no_wrap=True, overflow="ellipsis")


def _shown(metrics: Mapping[str, Any]) -> list[str]:
    """Gives `loss 0.05120`, `accuracy 0.9850` and at most two more of the scalars."""
    scalars = {name: float(value) for name, value in metrics.items() if isinstance(value, int | float)}
    first = [name for name in ("loss", "accuracy") if name in scalars]
    names = first + [name for name in scalars if name not in first]
    return [f"{name} {_number(scalars[name])}" for name in names[:4]]


def _number(value: float) -> str:
    """Formats with 4 significant digits, trailing zeros kept; whole from 1,000 to a million."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:#.4g}".rstrip(".")


def duration(seconds: float) -> str:
    """Returns 1:02:03 or 2:03."""
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
