"""A trace of some steps: what the device and the host did, and when.

The files are what jax writes: TensorBoard's profile plugin reads the folder, and ui.perfetto.dev opens its
`*.trace.json.gz`.
"""

import re
from pathlib import Path
from typing import Any, Self

import jax

from neuralmon.errors import RequestError, RunError


def parse_range(text: str) -> tuple[int, int]:
    """Returns (start, stop) of '100:110', steps 100 to 109, or of '100', that step alone.

    Raises:
      RequestError: it is neither.
    """
    match = re.fullmatch(r"\s*(\d+)\s*(?::\s*(\d+)\s*)?", text, re.ASCII)
    if match is None:
        raise RequestError(f"profile: {text!r} is no range of steps such as 100:110 (steps 100 to 109) or 100")
    start = int(match[1])
    stop = start + 1 if match[2] is None else int(match[2])
    if stop <= start:
        raise RequestError(f"profile: {text!r} holds no step: the second number must be larger than the first")
    return start, stop


class Profile:
    """Traces the steps from `start` up to, but not with, `stop`; a context manager that ends a trace left open.

    The loop cuts its chunks at `cuts`, calls `at` between chunks, and runs each chunk within `step`:

        with Profile(100, 110, folder) as profile:
            while step < num_steps:
                profile.at(step, state)
                with profile.step(step):
                    state = chunk(state, end - step)

    A run resumed within the range traces what is left of it.

    Args:
      start: the first step that is traced, counted from 0.
      stop: the step before which tracing ends.
      folder: where the trace goes, by convention `profile` in the run's folder; each launch adds to it.

    Attributes:
      running: whether a trace is being taken.
      written: the folder of the finished trace, or None.
    """

    def __init__(self, start: int, stop: int, folder: Path) -> None:
        self._start, self._stop, self._folder = start, stop, folder
        self.running = False
        self.written: Path | None = None

    @property
    def cuts(self) -> tuple[int, int]:
        """The steps at which a chunk must end, so that the trace holds whole chunks and nothing else."""
        return self._start, self._stop

    def check(self, num_steps: int) -> None:
        """Raises RequestError if the run does not have all of these steps."""
        if self._stop > num_steps:
            raise RequestError(
                f"profile: {self._start}:{self._stop} goes beyond the run, which has {num_steps:,} steps (0 to "
                f"{num_steps - 1})"
            )

    def at(self, step: int, state: Any) -> None:
        """Starts or ends the trace, if it is time to; `state`, of which all work before `step` is part, is waited for.

        Raises:
          RunError: the trace cannot be taken or written.
        """
        if self.running and step >= self._stop:
            jax.block_until_ready(state)
            self._end()
        elif not self.running and self.written is None and self._start <= step < self._stop:
            jax.block_until_ready(state)  # what came before is no part of it
            self._begin()

    def step(self, step: int) -> jax.profiler.StepTraceAnnotation:
        """Returns a context that names what is done in it, in the trace, by the number of its first step."""
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: object, traceback: object) -> None:
        if not self.running:
            return
        try:
            self._end()
        except RunError:
            if kind is None:  # whatever else ended the run is the news
                raise

    def _begin(self) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            options = jax.profiler.ProfileOptions()
            # Every Python call would be more events than the viewers show, and slow the host down.
            options.python_tracer_level = 0
            jax.profiler.start_trace(self._folder, profiler_options=options)
        except (OSError, RuntimeError) as error:
            raise RunError(f"profile: no trace can be taken into {self._folder}: {error}") from error
        self.running = True

    def _end(self) -> None:
        self.running = False
        try:
            jax.profiler.stop_trace()
            self.written = max((self._folder / "plugins" / "profile").iterdir())
        except (OSError, RuntimeError, ValueError) as error:
            raise RunError(f"profile: the trace cannot be written to {self._folder}: {error}") from error
