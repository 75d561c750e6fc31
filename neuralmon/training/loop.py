"""The loop around the compiled program: chunks, evaluations, checkpoints."""

import dataclasses
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

import jax
import numpy as np

from neuralmon.errors import RunError
from neuralmon.experiment import Experiment
from neuralmon.state import TrainState
from neuralmon.training.checkpoint import Checkpoints
from neuralmon.training.program import Data, Numbers, Program
from neuralmon.training.progress import Progress
from neuralmon.training.writers import Writers


class Interrupted(KeyboardInterrupt):
    """Training was stopped by a signal after saving; `signal` is its number."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


class StopSignals:
    """While active, the first SIGINT or SIGTERM asks the loop to stop; a second one ends the process at once."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # Only the main thread may set handlers; elsewhere the caller's own stay.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        for each in self._previous:
            signal.signal(each, signal.SIG_DFL)


@dataclasses.dataclass
class Loop:
    """Trains from a state to the end of the run.

    Attributes:
      experiment: what is run, resolved.
      program: its compiled functions.
      numbers: their arguments.
      data: every split on the device.
      checkpoints: where states go; None: nowhere.
      writers: where metrics go.
      progress: what one sees.
      history: every row of metrics, in order.
      workdir: the run's folder, or None.
      seconds: what went into training, evaluation and checkpoints.
    """

    experiment: Experiment
    program: Program
    numbers: Numbers
    data: Mapping[str, Data]
    checkpoints: Checkpoints | None
    writers: Writers
    progress: Progress
    history: list[dict[str, Any]]
    workdir: Path | None
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0})

    def run(self, state: TrainState, stop: StopSignals) -> TrainState:
        """Returns the state after the last step.

        Raises:
          RunError: the loss stopped being finite, or the disk failed.
          Interrupted: a signal asked to stop; the state was saved.
        """
        training = self.experiment.training
        size = self.experiment.dataset.spec().sizes["train"]
        num_steps = training.num_steps(size)
        step = int(state.step)
        pending: tuple[int, int, dict[str, Any]] | None = None
        self._clock = time.monotonic()
        while step < num_steps:
            end = training.boundary_after(step, size)
            state, sums = self.program.chunk(self.numbers, state, self.data["train"], np.int32(end - step))
            # The previous chunk's metrics are fetched while this one computes, so the device never waits for the host.
            self._settle(pending)
            pending, step = (step, end, sums), end
            evaluates = step % training.evaluation_interval(size) == 0 or step == num_steps
            saves = step % training.checkpoint_interval(size) == 0 or step == num_steps
            if not (evaluates or saves or stop.received is not None):
                continue
            self._settle(pending)
            pending = None
            metrics = self._evaluate(state, step) if evaluates and "validation" in self.data else None
            stopped = stop.received  # Read once: what is not saved must not be said to be.
            if (saves or stopped is not None) and self.checkpoints is not None:
                self.checkpoints.save(step, state, metrics=_monitored(metrics, self.experiment.task.monitor()[0]))
            if stopped is not None and step < num_steps:
                self._interrupt(stopped, step, num_steps)
        return state

    def evaluate(self, state: TrainState, split: str) -> dict[str, Any]:
        """Returns the metrics of a split."""
        start = time.monotonic()
        sums = jax.device_get(self.program.evaluate(self.numbers, state, self.data[split]))
        self.seconds["evaluation"] += time.monotonic() - start
        return self.experiment.task.report(sums, self.experiment.dataset.spec())

    def _settle(self, pending: tuple[int, int, dict[str, Any]] | None) -> None:
        if pending is None:
            return
        start, end, sums = pending
        fetched = jax.device_get(sums)
        now = time.monotonic()
        elapsed, self._clock = now - self._clock, now
        self.seconds["training"] += elapsed
        if (bad_step := int(fetched.pop("first_bad_step"))) >= 0:
            raise RunError(self._diverged(f"training diverged: in step {bad_step} loss or parameters are not finite"))
        metrics = self.experiment.task.report(fetched, self.experiment.dataset.spec())
        self._write(end, "train", metrics)
        self.progress.train(end, metrics, (end - start) * self.experiment.training.batch_size / elapsed)

    def _evaluate(self, state: TrainState, step: int) -> dict[str, Any]:
        metrics = self.evaluate(state, "validation")
        if not np.isfinite(metrics["loss"]):
            raise RunError(self._diverged(f"training diverged: after {step} steps the validation loss is not finite"))
        self._write(step, "validation", metrics)
        self.progress.evaluation(step, "validation", metrics)
        self._clock = time.monotonic()
        return metrics

    def _write(self, step: int, split: str, metrics: dict[str, Any]) -> None:
        self.history.append({"step": step, "split": split, **metrics})
        self.writers.write(step, split, metrics)

    def _diverged(self, what: str) -> str:
        saved = self.checkpoints.steps() if self.checkpoints else ()
        where = f"the last good checkpoint is of step {saved[-1]}" if saved else "there is no checkpoint yet"
        remedies = "a smaller learning rate, a longer warm-up, optimizer.clip_norm, or model.dtype=float32"
        return f"{what}; {where}. Try {remedies}"

    def _interrupt(self, number: int, step: int, num_steps: int) -> None:
        if self.checkpoints is not None:
            self.checkpoints.wait()
        saved = f"saved, launch again with --workdir={self.workdir} to go on" if self.workdir else "nothing was saved"
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        raise Interrupted(number, f"stopped by {name} at step {step} of {num_steps}: {saved}")


def _monitored(metrics: dict[str, Any] | None, name: str) -> dict[str, float]:
    return {name: metrics[name]} if metrics else {}
