"""How long a checkpoint of 10 million parameters and their Adam, 120 MB, keeps training waiting; and reading it."""

import contextlib
from typing import Any

from benchmarks.measures.processes import Worker, installed
from benchmarks.rows import OURS, Row


def measure(quick: bool) -> list[Row]:
    """Returns rows of saving and of restoring; the first round is not counted."""
    with contextlib.ExitStack() as stack:
        workers = {OURS: stack.enter_context(Worker("neuralmon_worker", "checkpoint"))}
        if installed("torch"):
            workers["PyTorch eager"] = stack.enter_context(Worker("torch_worker", "checkpoint"))
        answers = [{name: worker.ask() for name, worker in workers.items()} for _ in range(4 if quick else 8)][1:]

    def row(work: str, field: str, **more: Any) -> Row:
        rounds = [{name: 1000 * answer[field] for name, answer in turn.items()} for turn in answers]
        return Row(work, "ms", rounds, more_is_better=False, **more)

    written = [1000 * turn[OURS]["written"] for turn in answers]
    return [
        row("checkpoint of 120 MB: training waits", "blocked", details={"written_ms": written}),
        row("checkpoint of 120 MB: restore", "restore", note="neuralmon verifies every byte"),
    ]
