"""What a worker does: trains what the coordinator hands out, as many trials at once as there are slots."""

import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import jax
from jax.sharding import Mesh

from neuralmon import codec
from neuralmon.data.pipeline import Data
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.sweeps.coordinator import Coordinator
from neuralmon.sweeps.group import Group
from neuralmon.sweeps.mapped import slot_mesh
from neuralmon.sweeps.slots import Slots
from neuralmon.sweeps.trials import Trial, Trials
from neuralmon.training.feed import resident
from neuralmon.training.program import window_of

_IDLE = 0.05  # seconds between two questions for work, while others have it all


class Worker:
    """Trains trials on this process's devices.

    Args:
      coordinator: where trials come from and results go; what stands for it, in another process.
      trials: makes experiments of trials; in another process one of its own, of the same experiment.
      slots: how many trials train at once; None: as many as are sensible here.
      whole: there are as many slots from the beginning, however few trials there are then.

    Attributes:
      compilations: how many programs were compiled for training.
    """

    def __init__(self, coordinator: Coordinator, trials: Trials, slots: int | None = None, whole: bool = False) -> None:
        self._coordinator, self._trials = coordinator, trials
        self._mesh = slot_mesh()
        self._whole = whole
        self._wanted = slots or default_slots(self._mesh)
        self._data: tuple[str, Future[dict[str, Data]]] | None = None
        self.compilations = 0

    def run(self) -> None:
        """Works until there is nothing more to do."""
        with ThreadPoolExecutor(1) as self._pool:
            while (taken := self._coordinator.take(self._wanted)) is not None:
                if taken:
                    self._train(taken)
                else:
                    time.sleep(_IDLE)

    def data(self, experiment: Experiment) -> Mapping[str, Data] | None:
        """Returns the splits of an experiment's data on the first device, if they are there."""
        if self._data is None or self._data[0] != _name_of_data(experiment):
            return None
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data, self._data[1].result())

    def _train(self, taken: list[Trial]) -> None:
        """Trains trials of one structure until there are no more of it."""
        structure = taken[0].structure
        experiment = self._trials.like(taken[0])
        group = Group(experiment, self._coordinator)
        group.fill(taken)
        while group.waits or group.live:
            if group.waits:
                group.slots = group.slots or self._slots_of(experiment, len(taken))
                group.place()
            if not group.advance():
                return
            free = (group.slots.size if group.slots is not None else self._wanted) - len(group.live)
            if free > 0:
                group.fill(self._coordinator.take(free, structure) or [])

    def _slots_of(self, experiment: Experiment, count: int) -> Slots:
        """Returns slots for trials of one structure, and sees to it that their data is there."""
        if window_of(experiment, self._mesh) is not None:
            raise RequestError("dataset: a sweep needs its data in memory, and this is streamed: pipeline=device")
        name = _name_of_data(experiment)
        if self._data is None or self._data[0] != name:
            # Reading the data and compiling the program need different cores.
            self._data = name, self._pool.submit(resident, experiment.dataset, self._mesh)
        slots = Slots(experiment, self._wanted if self._whole else count, self._wanted, self._mesh)
        self.compilations += slots.compilations
        slots.data = self._data[1].result()
        return slots


def default_slots(mesh: Mesh) -> int:
    """Returns how many trials train at once where nobody says.

    On a CPU a device's slots are trained in turn: a few are enough for the calls to cost nothing, and the fewer there
    are, the less is lost by a kill. Other devices want many.
    """
    return mesh.size * (4 if mesh.devices.flat[0].platform == "cpu" else 64)


def _name_of_data(experiment: Experiment) -> str:
    return codec.canonical(codec.to_json(experiment.dataset, experiment.names))
