"""Executors: where the workers of a sweep are; without one, in the sweep's own process.

A worker (`sweeps/work.py`) is the same everywhere. What an executor adds is where it runs, how it reaches the
coordinator (`remote.py` on its side, `desk.py` on the other), and what happens when it dies.
"""

import importlib
from typing import TYPE_CHECKING, Any, Protocol

from neuralmon.errors import RequestError, did_you_mean

if TYPE_CHECKING:
    from neuralmon.sweeps.coordinator import Coordinator


class Executor(Protocol):
    """Runs the workers of one sweep.

    Attributes:
      slots: how many trials train at the same time, in all workers together.
    """

    slots: int

    def run(self, coordinator: "Coordinator") -> int:
        """Trains all there is and returns how many programs were compiled; ends early when the coordinator stops.

        Raises:
          RequestError: the experiment cannot be told to another process, or a worker says what else is not possible.
          RunError: no worker can be started.
        """
        ...


# By name: the class, made of what the command line says; loaded when it is asked for.
EXECUTORS = {
    "process": "neuralmon.sweeps.executors.process:ProcessExecutor",
    "ray": "neuralmon.sweeps.executors.cluster:RayExecutor",
}


def make_executor(
    name: str | None, workers: int | None = None, slots: int | None = None, address: str | None = None
) -> Executor | None:
    """Returns the executor of this name; None for None: trials are trained in this process.

    Args:
      name: which.
      workers: how many of them; None: one per device or, of CPUs, per core.
      slots: how many trials train at the same time; None: as many as are sensible.
      address: of a Ray cluster; None: the one that is there, or else one of this machine alone.

    Raises:
      RequestError: there is none, or it cannot be had here.
    """
    if name is None:
        if workers is not None:
            raise RequestError("sweep_workers: there are none without --executor=process or --executor=ray")
        if address is not None:
            raise RequestError("ray_address: has no effect without --executor=ray")
        return None
    if name not in EXECUTORS:
        raise RequestError(f"executor: there is no {name!r}{did_you_mean(name, EXECUTORS)}; there are process and ray")
    if address is not None and name != "ray":
        raise RequestError(f"ray_address: has no effect with executor={name}")
    module, _, cls = EXECUTORS[name].partition(":")
    make: Any = getattr(importlib.import_module(module), cls)
    return make(workers, slots, **({"address": address} if name == "ray" else {}))
