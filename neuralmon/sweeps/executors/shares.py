"""How many workers a sweep has, and what each of them gets."""

from neuralmon.errors import RequestError
from neuralmon.sweeps.coordinator import Coordinator


def workers_for(coordinator: Coordinator, workers: int, asked: int | None) -> int:
    """Returns how many of so many workers have something to do.

    Args:
      coordinator: knows the search.
      workers: how many there can be.
      asked: how many were asked for, if anybody did.

    Raises:
      RequestError: more were asked for than this search can use.
    """
    if getattr(coordinator.searcher, "joint", False):
        if (asked or 1) > 1:
            what = "trials of this search take over each other's states, which one worker has"
            raise RequestError(f"sweep_workers: {what}: leave it out, or 1")
        return 1
    if coordinator.searcher.upfront:
        return max(1, min(workers, sum(coordinator.waiting.values())))
    return workers


def dealt(slots: int, workers: int) -> list[int]:
    """Returns how many slots each worker gets, as evenly as they can be."""
    return [slots // workers + (index < slots % workers) for index in range(workers)]
