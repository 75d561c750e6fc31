"""The loop around the compiled program: chunks, evaluations, checkpoints."""

import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from neuralmon.data.pipeline import Data
from neuralmon.errors import Interrupted, RunError
from neuralmon.experiment import Experiment
from neuralmon.state import TrainState
from neuralmon.training.checkpoint import Checkpoints
from neuralmon.training.evaluation import added, evaluate, monitor, standing
from neuralmon.training.feed import Feed
from neuralmon.training.profiling import Profile
from neuralmon.training.program import Numbers, Program
from neuralmon.training.progress import Progress
from neuralmon.training.signals import StopSignals
from neuralmon.training.writers import SPEED, Writers


@dataclasses.dataclass
class Loop:
    """Trains from a state to the end of the run.

    Attributes:
      experiment: the resolved experiment.
      program: its compiled functions.
      numbers: what they take.
      feed: its data.
      checkpoints: where to save, or None.
      writers: where metrics go beside `history`.
      progress: what one sees.
      history: a row per chunk and evaluation, so far and from here on.
      workdir: the run's folder, or None.
      profile: what traces some of the steps, or None.
      explain: told a step that was not finite by the state before it, says in words where; None: states are not kept
        for that.
      watch: shown the state after each evaluation, or None.
      seconds: what went into training, evaluation and checkpoints.
      steps: updates done here.
    """

    experiment: Experiment
    program: Program
    numbers: Numbers
    feed: Feed
    checkpoints: Checkpoints | None
    writers: Writers
    progress: Progress
    history: list[dict[str, Any]]
    workdir: Path | None
    profile: Profile | None = None
    explain: Callable[[TrainState], str] | None = None
    watch: Callable[[TrainState], None] | None = None
    seconds: dict[str, float] = dataclasses.field(default_factory=lambda: {"training": 0.0, "evaluation": 0.0})
    steps: int = 0

    def __post_init__(self) -> None:
        self._validated: tuple[int, dict[str, Any]] | None = None
        self._pending: tuple[int, int, list[Any]] | None = None

    def run(self, state: TrainState, stop: StopSignals) -> TrainState:
        """Returns the state after the last step or, with `Training.patience`, the one that was best.

        Raises:
          RunError: the loss stopped being finite, or the disk failed.
          Interrupted: a signal asked to stop; the state was saved.
        """
        training, spec = self.experiment.training, self.experiment.dataset.spec()
        size = spec.sizes["train"]
        num_steps = training.num_steps(size)
        step = int(state.step)
        best, waited = self._standing()
        kept: TrainState | None = None  # the best state, where there is no checkpoint of it
        self._clock = time.monotonic()
        while step < num_steps and not (training.patience and waited >= training.patience):
            end = training.boundary_after(step, size)
            state, sums = self._chunk(state, step, end)
            # The previous chunk's metrics are fetched while this one computes, so the device never waits for the host.
            self._settle()
            self._pending, step = (step, end, sums), end
            evaluates, saves = training.evaluates_at(step, size), training.saves_at(step, size)
            if not (evaluates or saves or stop.received is not None):
                continue
            self._settle()
            metrics = self._evaluate(state, step) if evaluates and "validation" in spec.sizes else None
            if metrics is not None:
                best, waited = self._standing()
                saves |= best == step  # or the best state could be one between two checkpoints
                if training.patience is not None and best == step and self.checkpoints is None:
                    kept = jax.tree.map(lambda leaf: leaf.copy(), state)
            stopped = stop.received  # Read once: what is not saved must not be said to be.
            if (saves or stopped is not None) and self.checkpoints is not None:
                self.checkpoints.save(step, state, metrics=_monitored(metrics, monitor(self.experiment)[0]))
            if stopped is not None and step < num_steps:
                self._interrupt(stopped, step, num_steps)
        if training.patience is None or best in (None, step):
            return state
        self.progress.notice(f"the best state is that of step {best}: it counts as the run's")
        if kept is not None or self.checkpoints is None:
            return kept or state
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
        restored = self.checkpoints.restore(like, best)
        return restored.state if restored else state

    def evaluate(self, state: TrainState, split: str) -> dict[str, Any]:
        """Returns the metrics of a split."""
        step = int(state.step)
        if split == "validation" and self._validated and self._validated[0] == step:
            return self._validated[1]
        start = time.monotonic()
        with self._lasting():
            metrics = evaluate(self.experiment, self.program, self.numbers, state, self.feed, split)
        self.seconds["evaluation"] += time.monotonic() - start
        if split == "validation":
            self._validated = step, metrics
        return metrics

    def _chunk(self, state: TrainState, start: int, end: int) -> tuple[TrainState, list[Any]]:
        sums: list[Any] = []
        for length, data in self._data(start, end):
            if self.profile is not None:
                self.profile.at(start, state)
            before = jax.tree.map(lambda leaf: leaf.copy(), state) if self.explain else state
            with self.profile.step(start) if self.profile else contextlib.nullcontext():
                state, part = self.program.chunk(self.numbers, state, data, np.int32(length))
            sums.append(part)
            start += length
            if len(sums) > 2:
                jax.block_until_ready(sums[-3])  # or the parts that wait for the device would fill its memory
            if self.explain and int(part["first_bad_step"]) >= 0:
                self._settle()
                sentence, _, table = self.explain(before).partition("\n")
                self.progress.notice(table)
                raise RunError(self._diverged(f"training diverged in {sentence}"))
        if self.profile is not None:
            self.profile.at(end, state)
        return state, sums

    def _data(self, start: int, end: int) -> Iterator[tuple[int, Data]]:
        with self._lasting():
            yield from self.feed.train(start, end)

    @contextlib.contextmanager
    def _lasting(self) -> Iterator[None]:
        """Says of an error in reading the data what is not lost."""
        try:
            yield
        except RunError as error:
            raise RunError(f"{error}; {self._saved()}: launch again to go on once that is mended") from error

    def _settle(self) -> None:
        """Records the chunk that was sent to the device last."""
        if self._pending is None:
            return
        (start, end, parts), self._pending = self._pending, None
        fetched = added(jax.device_get(parts))
        now = time.monotonic()
        elapsed, self._clock = now - self._clock, now
        self.seconds["training"] += elapsed
        self.steps += end - start
        if (bad_step := int(fetched.pop("first_bad_step"))) >= 0:
            raise RunError(
                self._diverged(f"training diverged: in step {bad_step} loss or parameters are not finite")
                + "; --debug_nans names the layer"
            )
        metrics = self.experiment.task.report(fetched, self.experiment.dataset.spec())
        self._write(end, "train", metrics)
        speed = (end - start) * self.experiment.training.batch_size / elapsed
        self.writers.write(end, SPEED, {"examples_per_second": speed})
        self.progress.train(end, metrics, speed)

    def _evaluate(self, state: TrainState, step: int) -> dict[str, Any]:
        metrics = self.evaluate(state, "validation")
        if not np.isfinite(metrics["loss"]):
            raise RunError(self._diverged(f"training diverged: after {step} steps the validation loss is not finite"))
        self._write(step, "validation", metrics)
        self.progress.evaluation(step, "validation", metrics)
        if self.watch is not None:
            self.watch(state)
        self._clock = time.monotonic()
        return metrics

    def _standing(self) -> tuple[int | None, int]:
        """Returns the step of the best evaluation so far, and how many came after it."""
        rows = [row for row in self.history if row["split"] == "validation"]
        return standing(rows, monitor(self.experiment))

    def _write(self, step: int, split: str, metrics: dict[str, Any]) -> None:
        self.history.append({"step": step, "split": split, **metrics})
        self.writers.write(step, split, metrics)

    def _diverged(self, what: str) -> str:
        remedies = "a smaller learning rate, a longer warm-up, optimizer.clip_norm, or model.dtype=float32"
        return f"{what}; {self._saved()}. Try {remedies}"

    def _saved(self) -> str:
        if self.checkpoints is not None:
            with contextlib.suppress(RunError):  # what is said of is the news
                self.checkpoints.wait()
        saved = self.checkpoints.steps() if self.checkpoints else ()
        return f"the last good checkpoint is of step {saved[-1]}" if saved else "there is no checkpoint yet"

    def _interrupt(self, number: int, step: int, num_steps: int) -> None:
        if self.checkpoints is not None:
            self.checkpoints.wait()
        saved = f"saved, launch again with --workdir={self.workdir} to go on" if self.workdir else "nothing was saved"
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        raise Interrupted(number, f"stopped by {name} at step {step} of {num_steps}: {saved}")


def _monitored(metrics: dict[str, Any] | None, name: str) -> dict[str, float]:
    return {name: metrics[name]} if metrics and metrics.get(name) is not None else {}
