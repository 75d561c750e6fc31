"""The coordinator of a sweep: hands out trials, takes what becomes of them, and is the only one to write its folder.

Workers (`work.py`) call its methods, in its own process or from others: what goes in and out is plain data that can be
pickled, states as NumPy arrays.
"""

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from neuralmon.errors import RequestError, RunError
from neuralmon.sweeps.best import Best, Ended
from neuralmon.sweeps.folder import Row, SweepFolder
from neuralmon.sweeps.keeping import Keeper
from neuralmon.sweeps.progress import SweepProgress
from neuralmon.sweeps.search import Continue, Decision, Report, Searcher
from neuralmon.sweeps.trials import Trial, Trials


@dataclasses.dataclass
class Coordinator:
    """Decides what is trained.

    Attributes:
      trials: makes trials of values.
      searcher: proposes the values.
      best: which trials are kept.
      folder: the sweep's folder, or None.
      progress: what one sees.
      rows: a row per trial that has ended, by its number.
      keeper: writes the trials that are kept into the folder; None: there is none.
      keeps_all: all trials are kept.
      stop: says whether the sweep is to stop.
    """

    trials: Trials
    searcher: Searcher
    best: Best
    folder: SweepFolder | None
    progress: SweepProgress
    rows: dict[int, Row] = dataclasses.field(default_factory=dict)
    keeper: Keeper | None = None
    keeps_all: bool = False
    stop: Callable[[], bool] = bool

    def __post_init__(self) -> None:
        self._recorded: dict[int, Row] = {}
        self._waiting: dict[str, deque[Trial]] = {}
        self._out: dict[int, Trial] = {}
        self._proposed = 0
        self._exhausted = False
        self._again: set[int] = set()
        self._resuming = False
        if self.searcher.upfront:
            while not self._exhausted:
                self._propose(max(1, self.searcher.total or 1))

    @property
    def proposed(self) -> int:
        """How many trials there are so far."""
        return self._proposed

    @property
    def waiting(self) -> dict[str, int]:
        """How many trials wait to be taken, by structure."""
        return {structure: len(queue) for structure, queue in self._waiting.items() if queue}

    def resume(self, rows: Sequence[Row]) -> int:
        """Takes the rows of earlier launches and returns how many there are.

        A row is taken for the trial of its number when that is handed out; if no trial depends on others, that is not
        handed out at all. Trials that take over each other's states are trained again all together.
        """
        if self.searcher.joint and self.folder is not None:
            self.folder.write("trials.jsonl", "")
            rows = []
        self._recorded = {row["trial"]: row for row in rows}
        if self.searcher.upfront and rows:
            self._resuming = True
            for structure, queue in self._waiting.items():
                for trial in queue:
                    if (row := self.recorded(trial)) is not None:
                        self.replayed(trial, row)
                self._waiting[structure] = deque(trial for trial in queue if trial.number not in self._recorded)
            self._resuming = False
            self._keep()
        return len(self._recorded)

    def again(self) -> int:
        """Hands those of the trials that are kept out again whose states a kill has lost; returns how many."""
        missing = [one.trial for one in self.best.kept if one.state is None]
        lost = [trial for trial in missing if self.keeper is None or not self.keeper.has(trial.number)]
        for trial in lost:
            self._recorded.pop(trial.number, None)
            self._again.add(trial.number)
            self._waiting.setdefault(trial.structure, deque()).append(trial)
        return len(lost)

    def recorded(self, trial: Trial) -> Row | None:
        """Returns the row that an earlier launch wrote for a trial, or None: it is to be trained."""
        row = self._recorded.get(trial.number)
        if row is not None and row["values"] != dict(trial.values):
            where = self.folder.path if self.folder else "the record"
            raise RequestError(f"{where}: trial {trial.number} had other values; give another --workdir")
        return row

    def take(self, count: int, structure: str | None = None) -> list[Trial] | None:
        """Returns at most so many trials, all of one structure, of the given one if it is.

        None of them: not before others have ended. None: there will be no more.
        """
        if self.stop():
            return None
        queue = self._queue(structure)
        while len(queue) < count and not self._exhausted and self._propose(count - len(queue)):
            queue = self._queue(structure)
        taken = [queue.popleft() for _ in range(min(count, len(queue)))]
        self._out |= {trial.number: trial for trial in taken}
        if taken or structure is not None or self._out:
            return taken
        if not self._exhausted:
            raise RunError("the search proposes no trial although none is being trained")
        return None

    def report(self, reports: Sequence[Report]) -> Sequence[Decision]:
        """Tells the searcher how trials do at an evaluation and returns its decisions."""
        told = [report for report in reports if report.trial not in self._again]
        decisions = iter(self.searcher.report(told)) if told else iter(())
        return [Continue() if report.trial in self._again else next(decisions) for report in reports]

    def advanced(self, steps: Mapping[int, int], live: Mapping[int, float]) -> bool:
        """Takes how far trials are, and the objectives known so far; returns whether they are to go on."""
        self.progress.advanced(steps, live)
        return not self.stop()

    def wants(self, trial: Trial, objective: float | None) -> bool:
        """Returns whether the final state of a trial may be one of those that are kept."""
        return trial.number in self._again or self.best.wants(trial, objective)

    def finish(self, trial: Trial, row: Row, history: list[dict[str, Any]], state: Any | None) -> None:
        """Takes a trial that has ended: its row, its metrics in between and, if wanted, its final state."""
        self._out.pop(trial.number, None)
        if trial.number in self._again:
            self._again.discard(trial.number)
            self.best.restore(Ended(trial, row, history, state))
            self._keep()
            return
        kept_others = self.best.add(Ended(trial, row, history, state))
        if self.folder is not None:
            self.folder.append(row)
        if kept_others:
            self._keep()
        self._end(trial, row)

    def replayed(self, trial: Trial, row: Row) -> None:
        """Takes a trial that an earlier launch finished."""
        if self.best.add(Ended(trial, row, [], None)) and not self._resuming:
            self._keep()
        self._end(trial, row)

    def fail(self, trial: Trial, reason: str) -> None:
        """Takes a trial that cannot be trained: it is a row, too."""
        row = {"trial": trial.number, "values": dict(trial.values), "status": "failed", "reason": reason}
        row |= {"step": 0, "objective": None, "metrics": {}, "evaluations": [], "seconds": 0.0}
        report = Report(trial.number, 0, 0, None, True, {})
        self.searcher.report([report])
        if self.folder is not None and trial.number not in self._recorded:
            self.folder.append(row)
        self._end(trial, row)

    def _keep(self) -> None:
        if self.folder is not None and self.keeper is not None:
            # If all are kept, their states would fill the memory.
            self.keeper.want(self.best.kept, wait=self.keeps_all)
            if self.keeps_all:
                self.best.release(self.keeper.has)
            self.folder.write("best.json", self.best.described(self.trials))

    def _end(self, trial: Trial, row: Row) -> None:
        self._out.pop(trial.number, None)
        self.rows[trial.number] = row
        self.progress.ended(trial, row)

    def _queue(self, structure: str | None) -> deque[Trial]:
        if structure is None:
            return next((queue for queue in self._waiting.values() if queue), deque())
        return self._waiting.get(structure, deque())

    def _propose(self, count: int) -> bool:
        """Asks for new trials; returns whether there were any."""
        proposed = self.searcher.propose(count)
        if proposed is None:
            self._exhausted = True
            return False
        for values in proposed:
            number, self._proposed = self._proposed, self._proposed + 1
            try:
                trial = self.trials.trial(number, values)
            except RequestError as error:
                if self.searcher.upfront:
                    raise
                self.fail(Trial(number, {path: str(value) for path, value in values.items()}), str(error))
                continue
            self._waiting.setdefault(trial.structure, deque()).append(trial)
        return bool(proposed)
