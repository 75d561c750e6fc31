"""What one sees while training: a live bar in a terminal, plain lines in a pipe, or nothing."""

import atexit
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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


class _Measured(Progress):
    """What both visible forms know: where the run stands and how fast it moves.

    The time before the end of the first chunk is compilation for the most part, and the steps
    before `start` belong to an earlier launch: neither enters the time still needed.
    """

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        _Measured.start(self, "", 0, 0)

    def start(self, title: str, total_steps: int, step: int) -> None:
        """Begins at `step`."""
        self._title, self._total, self._step = title, total_steps, step
        self._metrics: Mapping[str, Any] = {}
        self._rate: float | None = None
        self._chunks = 0
        self._started = self._first_time = self._last_time = self._clock()
        self._first_step = step

    def train(self, step: int, metrics: Mapping[str, Any], examples_per_second: float) -> None:
        """Takes the metrics of the chunk that ended at `step`; the next refresh shows them."""
        now = self._clock()
        if self._chunks == 0:
            self._first_step, self._first_time = step, now
        self._step, self._metrics, self._last_time = step, metrics, now
        self._chunks += 1
        if self._rate is None or self._chunks <= 2:  # the first chunk's rate contains compilation
            self._rate = examples_per_second
        else:
            self._rate += 0.3 * (examples_per_second - self._rate)

    def _eta(self) -> str:
        steps = self._step - self._first_step
        if self._step >= self._total:
            return "ETA 0:00"
        if steps <= 0:
            return "ETA -:--"
        needed = (self._last_time - self._first_time) / steps * (self._total - self._step)
        return f"ETA {_duration(needed - (self._clock() - self._last_time))}"

    def _speed(self) -> list[str]:
        if self._rate is None:
            return []
        return [f"{self._rate:{',.0f' if self._rate >= 100 else '.3g'}} examples/s"]

    def _position(self, step: int) -> str:
        return f"{step:{len(str(self._total))}d}/{self._total}"

    def _percent(self, step: int) -> str:
        return f"{100 * step // max(self._total, 1):3d} %"


class PlainLines(_Measured):
    """Prints exactly one line per evaluation, and notices."""

    def evaluation(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints the step, the last chunk's metrics, the evaluation's, the speed and the ETA."""
        parts = [" ".join([split, *_shown(metrics)]), *self._speed()]
        if self._chunks:
            parts = [" ".join(["train", *_shown(self._metrics)]), *parts, self._eta()]
        line = f"step {self._position(step)} {self._percent(step)}  {' | '.join(parts)}"
        self.notice(line)

    def notice(self, text: str) -> None:
        """Prints `text`."""
        print(text, file=self._stream, flush=True)


class LiveBar(_Measured):
    """Two lines at the bottom of the terminal; evaluations and notices stay above them."""

    def __init__(self, stream: TextIO, clock: Clock = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._console_made: Console | None = None
        self._live: Live | None = None

    @property
    def _console(self) -> "Console":
        if self._console_made is None:
            from rich.console import Console

            self._console_made = Console(file=self._stream, highlight=False)
        return self._console_made

    def start(self, title: str, total_steps: int, step: int) -> None:
        """Shows the bar at `step`."""
        from rich.live import Live

        super().start(title, total_steps, step)
        if self._live is None:
            # Refreshed by the clock, however often train() is called. The permanent lines say
            # all that the bar does, so it goes when the training ends. What is printed meanwhile
            # goes above the bar, unless it was sent to a file.
            self._live = Live(
                self,
                console=self._console,
                refresh_per_second=5,
                transient=True,
                redirect_stdout=sys.stdout.isatty(),
                redirect_stderr=sys.stderr.isatty(),
            )
            atexit.register(self.close)  # the cursor comes back even without `with`
            self._live.start()

    def evaluation(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints a line above the bar: the evaluation whole, of the last chunk what fits."""
        from rich.text import Text

        line = f"step {self._position(step)}  {' '.join([split, *_shown(metrics)])}"
        first, *others = _shown(self._metrics) or [""]
        train = _fit([f" | train {first}", *others], self._console.width - len(line), " ")
        self._console.print(Text(line) + Text(train if first else "", style="dim"))

    def notice(self, text: str) -> None:
        """Prints `text` above the bar."""
        from rich.text import Text

        self._console.print(Text(text, style="yellow"))

    def close(self) -> None:
        """Takes the bar away and gives the cursor back."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()
            atexit.unregister(self.close)

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "Iterator[Text]":
        """Renders the two lines for the width the terminal has now."""
        from rich.text import Text

        width = options.max_width
        elapsed = _duration(self._clock() - self._started)
        right = _fit([self._percent(self._step), self._position(self._step), self._eta(), elapsed], width)
        room = width - len(right) - 2
        title = f"{self._title}  " if len(self._title) + 12 <= room else ""
        cells = min(40, room - len(title))
        # Two characters and not only two colours, for NO_COLOR.
        done, left = ("#", "-") if options.ascii_only else ("━", "─")
        filled = cells * self._step // max(self._total, 1)
        bar = Text.assemble((done * filled, "green"), (left * (cells - filled), "dim"), "  ")
        yield Text.assemble((title, "bold"), bar if cells >= 4 else "", right, no_wrap=True)
        shown = _shown(self._metrics)
        numbers = [*shown[:2], *self._speed(), *shown[2:]] or ["compiling, then the first steps"]
        yield Text(_fit(numbers, width), no_wrap=True)


def _shown(metrics: Mapping[str, Any]) -> list[str]:
    """Gives `loss 0.05120`, `accuracy 0.9850` and at most two more of the scalars."""
    scalars = {
        name: float(value)
        for name, value in metrics.items()
        if (isinstance(value, int | float) or getattr(value, "ndim", None) == 0) and not isinstance(value, bool)
    }
    first = [name for name in ("loss", "accuracy") if name in scalars]
    names = first + [name for name in scalars if name not in first]
    return [f"{name} {_number(scalars[name])}" for name in names[:4]]


def _number(value: float) -> str:
    """Formats with 4 significant digits, trailing zeros kept; whole from 1,000 to a million."""
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:#.4g}".rstrip(".")


def _duration(seconds: float) -> str:
    minutes, second = divmod(max(0, round(seconds)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


def _fit(parts: Sequence[str], width: int, separator: str = "  ") -> str:
    """Joins as many of the first `parts` as `width` holds."""
    while parts and len(separator.join(parts)) > width:
        parts = parts[:-1]
    return separator.join(parts)
