"""The trials of one structure that are trained at the same time, from one chunk to the next."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from neuralmon.experiment import Experiment
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.live import Live, Rules
from neuralmon.sweeps.search import Copy, Stop
from neuralmon.sweeps.slots import Slots, fetched
from neuralmon.sweeps.trials import Trial


class Group:
    """A trial means here what `training/loop.py` means by a run; at each evaluation it may be decided upon.

    Args:
      experiment: a resolved experiment of the structure.
      coordinator: is told what becomes of the trials.

    Attributes:
      slots: where they are trained; to be set before the first `place`.
      live: the trials by slot. One that an earlier launch trained takes no slot, but reports when it did then; it is
        found under a negative number.
    """

    def __init__(self, experiment: Experiment, coordinator: Coordinator) -> None:
        self._task, self._spec = experiment.task, experiment.dataset.spec()
        self._rules, self._coordinator = Rules.of(experiment), coordinator
        self._clock = time.monotonic()
        self._pending: tuple[dict[int, int], Any] | None = None
        self._waiting: list[Live] = []
        self.slots: Slots | None = None
        self.live: dict[int, Live] = {}

    @property
    def waits(self) -> bool:
        """Whether there are trials that need a slot."""
        return bool(self._waiting)

    def fill(self, trials: Sequence[Trial]) -> None:
        """Takes trials in."""
        for trial in trials:
            live = Live(trial, self._rules, self._coordinator.recorded(trial), dict(trial.numbers))
            if live.record is None:
                self._waiting.append(live)
            else:
                self.live[-1 - trial.number] = live

    def place(self) -> None:
        """Gives those that wait the slots that are free."""
        if self.slots is not None:
            free = [slot for slot in range(self.slots.size) if slot not in self.live]
            placed = dict(zip(free, self._waiting, strict=False))
            self._waiting = self._waiting[len(placed) :]
            self.live |= placed
            self.slots.begin({slot: live.numbers for slot, live in placed.items()})

    def advance(self) -> bool:
        """Trains all to the ends of their chunks, evaluates what is due, and ends what is over.

        Returns whether to go on.
        """
        ends = {slot: live.next_boundary for slot, live in self.live.items()}
        # One that is no longer finite stands still until its next evaluation, when that is said.
        trained = {slot: ends[slot] for slot, live in self.live.items() if slot >= 0 and live.trouble is None}
        lengths = {slot: end - self.live[slot].step for slot, end in trained.items()}
        sums = self.slots.advance(lengths) if self.slots is not None and lengths else None
        # The chunk before is looked at while this one computes.
        self._settle()
        self._pending = trained, sums
        for slot, end in ends.items():
            self.live[slot].step = end
        objectives: dict[int, float] = {}
        due = sorted((live.trial.number, slot) for slot, live in self.live.items() if live.is_due)
        if due:
            self._settle()
            objectives = self._evaluate([slot for _, slot in due])
        steps = {live.trial.number: live.step for live in self.live.values()}
        return self._coordinator.advanced(steps, objectives)

    def _settle(self) -> None:
        """Takes the metrics of the chunk that was sent to the devices last."""
        if self._pending is None:
            return
        (ends, sums), self._pending = self._pending, None
        there = fetched(sums, list(ends)) if ends else {}
        now = time.monotonic()
        elapsed, self._clock = now - self._clock, now
        for slot, end in ends.items():
            live, bad = self.live[slot], int(there[slot].pop("first_bad_step"))
            live.seconds += elapsed / len(ends)
            if bad >= 0 and live.trouble is None:
                live.trouble = bad, f"in step {bad} loss or parameters are not finite"
            if live.trouble is None:
                live.write("train", end, self._task.report(there[slot], self._spec))

    def _evaluate(self, due: Sequence[int]) -> dict[int, float]:
        """Evaluates these slots, asks what is to become of them, and does it; returns their objectives."""
        here = [slot for slot in due if slot >= 0 and self.live[slot].trouble is None]
        if here and self.slots is not None:
            for slot, sums in fetched(self.slots.evaluate("validation", here), here).items():
                live, metrics = self.live[slot], self._task.report(sums, self._spec)
                if np.isfinite(metrics["loss"]):
                    live.write("validation", live.step, metrics)
                else:
                    live.trouble = live.step, f"after {live.step} steps the validation loss is not finite"
        for slot in due:
            if slot < 0:
                self.live[slot].replay()
        if self._rules.training.patience is not None and self.slots is not None:
            self.slots.remember([slot for slot in here if self.live[slot].best == self.live[slot].step])
        over = {slot: self.live[slot].over for slot in due}
        reports = [self.live[slot].report(over[slot]) for slot in due]
        self._decide(dict(zip(due, self._coordinator.report(reports), strict=True)), over)
        return {report.trial: report.objective for report in reports if report.objective is not None}

    def _decide(self, decisions: dict[int, Any], over: dict[int, bool]) -> None:
        slot_of = {self.live[slot].trial.number: slot for slot in decisions}
        copies = {slot: slot_of[one.source] for slot, one in decisions.items() if isinstance(one, Copy)}
        for slot in copies:
            self.live[slot].change(decisions[slot])
            if self.slots is not None and slot >= 0:
                self.slots.set_numbers(slot, self.live[slot].numbers)
        if self.slots is not None and copies:
            self.slots.copy(copies)
        ended = [slot for slot in decisions if over[slot] or isinstance(decisions[slot], Stop)]
        for slot in sorted(ended, key=self._place):
            self._end(slot, over[slot], getattr(decisions[slot], "reason", None))

    def _place(self, slot: int) -> float:
        """Sorts the best first, so that fewer states are kept that are not the best in the end."""
        objective = self.live[slot].report(True).objective
        if objective is None:
            return float("inf")
        return -objective if self._rules.metric[1] == "max" else objective

    def _end(self, slot: int, over: bool, reason: str | None) -> None:
        live = self.live.pop(slot)
        if live.record is not None:
            self._coordinator.replayed(live.trial, live.record)
            return
        row = live.row("diverged" if live.trouble else "finished" if over else "stopped", reason)
        state = None
        if (
            self.slots is not None
            and row["status"] == "finished"
            and self._coordinator.wants(live.trial, row["objective"])
        ):
            state = self.slots.state(slot, best=live.best != live.step)
        self._coordinator.finish(live.trial, row, live.history if state is not None else [], state)
