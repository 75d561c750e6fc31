"""Examples a second while evaluating: losses and accuracies of all examples, nothing trained."""

import contextlib
import math
import tempfile
from pathlib import Path

from benchmarks.job import prepare
from benchmarks.measures.processes import Worker, installed
from benchmarks.rows import OURS, Row
from benchmarks.works import WORKS


def measure(quick: bool) -> list[Row]:
    """Returns a row for the CNN and one for GPT; each contender's first answer is not counted.

    Raises:
      RuntimeError: the losses of the same weights differ.
    """
    rows = []
    for name, size in {"cnn": 10_240, "gpt": 1_280}.items():
        work, rounds = WORKS[name], []
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            workers = {OURS: stack.enter_context(Worker("neuralmon_worker", "evaluation", name, str(size)))}
            if installed("torch"):
                prepare(work, Path(folder))
                workers["PyTorch eager"] = stack.enter_context(Worker("torch_worker", "evaluation", folder, str(size)))
            for _ in range(2 if quick else 4):
                answers = {side: worker.ask() for side, worker in workers.items()}
                losses = [answer["loss"] for answer in answers.values()]
                if any(not math.isclose(loss, losses[0], rel_tol=1e-4) for loss in losses):
                    raise RuntimeError(f"the same weights have other losses: {answers}")
                rounds.append({side: size / answer["seconds"] for side, answer in answers.items()})
        rows.append(Row(f"evaluation: {work.title}", "examples/s", rounds[1:]))
    return rows
