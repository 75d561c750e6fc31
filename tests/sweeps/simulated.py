"""Sweeps in which nothing is trained: a trial's state is whatever a function makes of it between two evaluations."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from neuralmon.sweeps.search import Asked, Copy, Report, Searcher, Stop
from neuralmon.sweeps.space import Space


@dataclasses.dataclass
class Row:
    """What came of a trial."""

    values: Mapping[str, Any]
    present: Mapping[str, Any]
    state: Any = None
    steps: int = 0
    objectives: list[float | None] = dataclasses.field(default_factory=list)
    reason: str | None = None
    changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def objective(self) -> float | None:
        return self.objectives[-1]


def asked(
    space: Mapping[str, Any], direction: str = "max", evaluations: tuple[int, ...] = (10,), **others: Any
) -> Asked:
    return Asked(Space.of(space), direction, steps=evaluations[-1], evaluations=evaluations, **others)


def sweep(searcher: Searcher, question: Asked, train: Callable[[Any, Mapping[str, Any], int], Any]) -> list[Row]:
    """Returns the table of a sweep on slots that advance together, as they do in one program.

    Args:
      searcher: decides.
      question: of the searcher.
      train: (state or None, values, step) -> (state, objective).
    """
    rows, alive = list[Row](), dict[int, Row]()
    while True:
        new = searcher.propose(question.slots - len(alive)) if len(alive) < question.slots else []
        assert new is None or len(new) <= question.slots - len(alive)
        for values in new or []:
            alive[len(rows)] = row = Row(values, values)
            rows.append(row)
        if not alive:
            assert new is None, "nobody is under way, and yet the searcher waits"
            return rows
        reports = []
        for number, row in alive.items():
            row.steps = next(step for step in question.evaluations if step > row.steps)
            row.state, objective = train(row.state, row.present, row.steps)
            row.objectives.append(objective)
            ended = objective is None or row.steps == question.steps
            reports.append(Report(number, row.steps, question.steps, objective, ended, {}))
        decisions = searcher.report(reports)
        before = {number: row.state for number, row in alive.items()}
        for report, decision in zip(reports, decisions, strict=True):
            row = alive[report.trial]
            if isinstance(decision, Copy):
                assert not report.ended and alive[decision.source].steps == row.steps
                row.state, row.present = before[decision.source], {**row.present, **decision.values}
                row.changes.append({"step": row.steps, "source": decision.source, "values": decision.values})
            if isinstance(decision, Stop):
                row.reason = decision.reason
            if report.ended or isinstance(decision, Stop):
                del alive[report.trial]
