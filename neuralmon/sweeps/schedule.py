"""What a trial was trained with from which step on, where its numbers changed: population based training."""

from collections.abc import Mapping
from typing import Any

from neuralmon.sweeps.folder import Row


def schedule_of(rows: Mapping[int, Row], number: int) -> list[dict[str, Any]]:
    """Returns the entries {"step", "trial", "values"} that lead to a trial's final state, in the order of steps.

    Each says that from this step on the state was that of this trial, trained with these values. Trained alone with
    them, from step 0 on, an experiment ends in the same state.

    Args:
      rows: of all trials, by their numbers.
      number: of one of them.
    """
    return _before(rows, number, None)


def _before(rows: Mapping[int, Row], number: int, step: int | None) -> list[dict[str, Any]]:
    """Returns the entries for a trial's state as it was at a step, before what changed there; None: at its end."""
    row = rows[number]
    changes = [change for change in row.get("changes", []) if step is None or change["step"] < step]
    if not changes:
        return [{"step": 0, "trial": number, "values": dict(row["values"])}]
    last = changes[-1]
    before = _before(rows, last["source"], last["step"])
    return [*before, {"step": last["step"], "trial": number, "values": dict(last["values"])}]
