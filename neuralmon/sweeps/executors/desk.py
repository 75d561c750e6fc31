"""The desk: on the coordinator's side, what all workers speak to that are elsewhere, whatever carries their messages.

It knows which worker has which trials, and hands those of a worker that died out again. Each of them then has a worker
for itself, so that it is known which of them kills its worker: that is a row with this reason.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from neuralmon.errors import RequestError, RunError
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.executors.rounds import Rounds
from neuralmon.sweeps.folder import Row
from neuralmon.sweeps.search import Decision, Report
from neuralmon.sweeps.trials import Trial

_DEATHS = 2  # of a trial's workers, after which it is not trained again

Answers = list[tuple[int, Any]]  # which worker is to be told what


class Desk:
    """Serves the workers of one sweep; each is known by a number that no other one ever has.

    What they may call are the methods of `remote.RemoteCoordinator`: those of `_ASKED` are answered, those of `_TOLD`
    are not.

    Args:
      coordinator: decides.
      workers: how many there are at the same time.

    Attributes:
      compilations: programs that workers compiled which have ended.
      busy: numbers of the workers that have not ended.
    """

    def __init__(self, coordinator: Coordinator, workers: int) -> None:
        self._coordinator, self._workers = coordinator, workers
        self._held: dict[int, dict[int, Trial]] = {}
        self._steps: dict[int, dict[int, int]] = {}
        self._again: list[Trial] = []
        self._deaths = Counter[int]()
        self._took: set[int] = set()
        self._early = 0  # how many workers died one after the other before they asked for work
        self._rounds = (
            None if coordinator.searcher.upfront else Rounds(workers, self._handed, self._is_behind, coordinator.report)
        )
        self.compilations = 0

    @property
    def busy(self) -> set[int]:
        """Numbers of the workers that have not ended."""
        return set(self._held)

    def expect(self, worker: int) -> None:
        """Announces a worker, which will ask for work."""
        self._held[worker], self._steps[worker] = {}, {}
        if self._rounds:
            self._rounds.expect(worker)

    def call(self, worker: int, name: str, arguments: Sequence[Any]) -> Answers:
        """Does what a worker says; returns what is to be sent to it and, where they waited for it, to others.

        Raises:
          NeuralmonError: of the coordinator, or what a worker came upon that holds for the sweep as a whole.
        """
        if worker not in self._held:
            return []  # it was given up, and others have its trials
        if name in _TOLD:
            _TOLD[name](self, worker, *arguments)
            # Others may have waited for one that has ended.
            return self.overlook(worker) if name == "ended" else []
        if name == "take":
            self._took.add(worker)
            self._early = 0
        if self._rounds and name in ("take", "report"):
            return self._rounds.ask(worker, name, arguments)
        return [(worker, _ASKED[name](self, worker, *arguments))]

    def lost(self, worker: int, how: str, successor: int | None) -> Answers:
        """Takes note that a worker died, which `how` says; returns what others can be told now.

        Raises:
          RunError: one after the other dies before it does anything, or what it leaves cannot be done again.
        """
        held = self._held.pop(worker)
        del self._steps[worker]
        if successor is not None:
            self.expect(successor)
        if worker not in self._took:
            self._early += 1
            if self._early > self._workers:
                raise RunError(f"no worker comes to the point of asking for work: {how}")
        if held:
            self._begin_again(held, how)
        return self.overlook(worker)

    def overlook(self, worker: int) -> Answers:
        """Lets the others go on without a worker: it has ended, or not begun; once it speaks it is waited for again."""
        return self._rounds.forget(worker) if self._rounds else []

    def _begin_again(self, held: Mapping[int, Trial], how: str) -> None:
        if getattr(self._coordinator.searcher, "joint", False) and self._coordinator.rows:
            what = "when trials had ended whose states others took over"
            raise RunError(f"a worker ended ({how}) {what}: launch again, with the same --workdir")
        self._coordinator.progress.notice(f"a worker ended ({how}): {len(held)} trials are begun again")
        self._deaths.update(held.keys())
        for number, trial in held.items():
            if self._deaths[number] < _DEATHS:
                self._again.append(trial)
                if self._rounds:
                    self._rounds.begin_again(number)
            else:
                self._coordinator.fail(trial, f"{_DEATHS} workers that trained it ended: {how}")

    def _take(self, worker: int, count: int, structure: str | None) -> tuple[list[Trial] | None, dict[int, Row]]:
        """Returns trials for a worker, None if there will be no more, and what earlier launches wrote of them."""
        held = self._held[worker]
        if any(self._deaths[number] for number in held):
            return [], {}
        if self._again and not held and (again := self._begun_again(1, structure)):
            return self._given(worker, again)
        return self._given(worker, self._coordinator.take(*self._shared(worker, count, structure)))

    def _handed(self, worker: int, count: int, structure: str | None) -> tuple[list[Trial] | None, dict[int, Row]]:
        """Does the same in rounds, where trials that are begun again go on together, each beside those it was beside.

        One that was begun later waits until the others are where they were then.
        """
        if (known := self._next_known(worker)) is not None:
            due = {trial.number for trial in self._again if (self._round_of(trial.number) or known + 1) <= known}
            return self._given(worker, self._begun_again(count, structure, due))
        again = self._begun_again(count, structure)
        structure = again[0].structure if again else structure
        taken = self._coordinator.take(count - len(again), structure) if len(again) < count else []
        return self._given(worker, [*again, *(taken or [])] if again or taken is not None else None)

    def _is_behind(self, worker: int) -> bool:
        return self._next_known(worker) is not None

    def _next_known(self, worker: int) -> int | None:
        """Returns the first round that a worker's trials, or those it is to have, come through again; None: none."""
        numbers = self._held[worker].keys() or [trial.number for trial in self._again]
        return min((known for number in numbers if (known := self._round_of(number)) is not None), default=None)

    def _round_of(self, number: int) -> int | None:
        return self._rounds.next_known(number) if self._rounds else None

    def _given(self, worker: int, taken: list[Trial] | None) -> tuple[list[Trial] | None, dict[int, Row]]:
        self._held[worker] |= {trial.number: trial for trial in taken or ()}
        records = {trial.number: self._coordinator.recorded(trial) for trial in taken or ()}
        # Values as they were proposed may be of types that another process does not know; records of them are plain.
        plain = taken and [dataclasses.replace(trial, asked={}) for trial in taken]
        return plain, {number: row for number, row in records.items() if row is not None}

    def _begun_again(self, count: int, structure: str | None, due: Collection[int] | None = None) -> list[Trial]:
        """Returns trials of workers that died, all of one structure; None: whichever are `due`."""
        waiting = [trial for trial in self._again if due is None or trial.number in due]
        structure = structure or (waiting[0].structure if waiting else None)
        taken = [trial for trial in waiting if trial.structure == structure][:count]
        numbers = {trial.number for trial in taken}
        self._again = [trial for trial in self._again if trial.number not in numbers]
        return taken

    def _shared(self, worker: int, count: int, structure: str | None) -> tuple[int, str | None]:
        """Returns how many trials a worker gets, and of which structure, so that all are busy to the end."""
        waiting = self._coordinator.waiting
        if not waiting:
            return count, structure
        if structure is None:
            # One that nobody trains yet: then it is compiled once.
            others = {trial.structure for held in self._held.values() for trial in held.values()}
            structure = next((one for one in waiting if one not in others), next(iter(waiting)))
        held = [len(trials) for trials in self._held.values()]
        share = -(-(sum(waiting.values()) + sum(held)) // self._workers)
        return max(1, min(count, share - len(self._held[worker]))), structure

    def _report(self, worker: int, reports: Sequence[Report]) -> Sequence[Decision]:
        return self._coordinator.report(reports)

    def _wants(self, worker: int, number: int, objective: float | None) -> bool:
        return self._coordinator.wants(self._held[worker][number], objective)

    def _like(self, worker: int, number: int) -> Any:
        return self._coordinator.trials.like(self._held[worker][number]).to_json()

    def _advanced(self, worker: int, steps: Mapping[int, int], objectives: Mapping[int, float]) -> None:
        self._steps[worker] = {number: step for number, step in steps.items() if number in self._held[worker]}
        together = {number: step for one in self._steps.values() for number, step in one.items()}
        self._coordinator.advanced(together, objectives)

    def _finish(self, worker: int, number: int, row: Row, history: list[dict[str, Any]], state: Any) -> None:
        self._steps[worker].pop(number, None)
        self._coordinator.finish(self._held[worker].pop(number), row, history, state)

    def _replayed(self, worker: int, number: int, row: Row) -> None:
        self._steps[worker].pop(number, None)
        self._coordinator.replayed(self._held[worker].pop(number), row)

    def _ended(self, worker: int, compilations: int) -> None:
        """A worker has nothing more to do."""
        self.compilations += compilations
        del self._held[worker], self._steps[worker]

    def _failed(self, worker: int, what: str, is_request: bool) -> None:
        """A worker came upon an error that is written for people."""
        raise (RequestError if is_request else RunError)(what)


_ASKED: dict[str, Callable[..., Any]] = {
    "take": Desk._take,
    "report": Desk._report,
    "wants": Desk._wants,
    "like": Desk._like,
}
_TOLD: dict[str, Callable[..., None]] = {
    "advanced": Desk._advanced,
    "finish": Desk._finish,
    "replayed": Desk._replayed,
    "ended": Desk._ended,
    "failed": Desk._failed,
}
