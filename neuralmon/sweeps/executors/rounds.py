"""Rounds: how several workers ask a search that decides by how trials do, so that it never decides by who is faster.

Nobody is answered before every worker has asked: for work, or what is to become of its trials. Then reports go to the
search in one call, in the order of their trials, as they do where one process has all the slots. The price is that
workers wait for the slowest one at each evaluation.
"""

from collections.abc import Callable, Sequence
from typing import Any

from neuralmon.sweeps.search import Decision, Report

Take = Callable[[int, int, str | None], tuple[Any, Any]]


class Rounds:
    """Gathers what workers ask.

    A trial that is done again after its worker's death reports what the search knows already: it is told what it was
    told then, while the others wait for it.

    Args:
      workers: how many there are; one that replaces another has its number and a multiple of this.
      take: (worker, count, structure) -> (trials, records).
      behind: says whether a worker has trials to do again that others wait for.
      report: asks the search.
    """

    def __init__(
        self,
        workers: int,
        take: Take,
        behind: Callable[[int], bool],
        report: Callable[[Sequence[Report]], Sequence[Decision]],
    ) -> None:
        self._workers, self._take, self._behind, self._report = workers, take, behind, report
        self._expected: set[int] = set()
        self._asked: dict[int, tuple[str, Sequence[Any]]] = {}
        self._decided: dict[tuple[int, int], Decision] = {}
        self._rounds: dict[int, list[int]] = {}  # in which a trial was reported
        self._done: dict[int, int] = {}  # how many of them it has come through, since it was last begun
        self._round = 0

    def expect(self, worker: int) -> None:
        """Waits for this one, too, from now on."""
        self._expected.add(worker)

    def forget(self, worker: int) -> list[tuple[int, Any]]:
        """Waits for this one no more."""
        self._expected.discard(worker)
        self._asked.pop(worker, None)
        return self._answered()

    def begin_again(self, trial: int) -> None:
        """Takes note that a trial is trained from its beginning again."""
        self._done[trial] = 0

    def next_known(self, trial: int) -> int | None:
        """Returns the round in which was decided what this trial reports next; None: it was not yet."""
        rounds, done = self._rounds.get(trial, []), self._done.get(trial, 0)
        return rounds[done] if done < len(rounds) else None

    def ask(self, worker: int, name: str, arguments: Sequence[Any]) -> list[tuple[int, Any]]:
        """Takes a question; returns the answers that can be given now, to whom."""
        if name == "report":
            for one in arguments[0]:
                self._done[one.trial] = self._done.get(one.trial, 0) + 1
            if all((one.trial, one.step) in self._decided for one in arguments[0]):
                return [(worker, self._decisions(arguments[0]))]
        elif self._behind(worker):
            return [(worker, self._take(worker, *arguments))]
        self._expected.add(worker)  # it may have been forgotten before it began
        self._asked[worker] = name, arguments
        return self._answered()

    def _answered(self) -> list[tuple[int, Any]]:
        if not self._expected or not self._expected <= self._asked.keys():
            return []
        answers: list[tuple[int, Any]] = []
        for worker, (name, arguments) in sorted(self._asked.items(), key=lambda item: item[0] % self._workers):
            if name == "take":
                taken, records = self._take(worker, *arguments)
                # One that has nothing to do waits until there is something.
                if taken or taken is None or arguments[1] is not None:
                    answers.append((worker, (taken, records)))
        # New trials first go as far as the others are.
        answers = answers or self._reported()
        for worker, _ in answers:
            del self._asked[worker]
        return answers

    def _reported(self) -> list[tuple[int, Any]]:
        by_worker = {worker: arguments[0] for worker, (name, arguments) in self._asked.items() if name == "report"}
        new = [one for reports in by_worker.values() for one in reports if (one.trial, one.step) not in self._decided]
        new.sort(key=lambda one: one.trial)
        self._round += 1
        for one, decision in zip(new, self._report(new), strict=True):
            self._decided[one.trial, one.step] = decision
            self._rounds.setdefault(one.trial, []).append(self._round)
        return [(worker, self._decisions(reports)) for worker, reports in by_worker.items()]

    def _decisions(self, reports: Sequence[Report]) -> list[Decision]:
        return [self._decided[one.trial, one.step] for one in reports]
