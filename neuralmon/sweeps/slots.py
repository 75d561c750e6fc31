"""Slots: trainings of one structure that go on in one program, each with its own state, step and numbers."""

import contextlib
import operator
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from neuralmon.data.pipeline import Data
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment, split
from neuralmon.state import TrainState
from neuralmon.sweeps.mapped import make_mapped
from neuralmon.training.feed import split_shapes
from neuralmon.training.program import Numbers

_KEPT_FREE = 0.1  # of the memory, for what nobody counts


class Slots:
    """The slots of one structure on this process's devices.

    Args:
      experiment: a resolved experiment of the structure.
      count: how many trainings there are to begin with.
      most: how many slots there may be; there are fewer if the memory does not hold so many.
      mesh: the devices (see `slot_mesh`).

    Attributes:
      data: each split's examples, on every device; to be set before anything is trained.
      states: the states of all slots.
      compilations: how often the program was compiled for them: not, if an earlier sweep of this process did.

    Raises:
      RequestError: not even one training fits into memory.
    """

    data: Mapping[str, Data]

    def __init__(self, experiment: Experiment, count: int, most: int, mesh: Mesh) -> None:
        structure, numbers = split(experiment)
        self._experiment, self.compilations = experiment, 0
        self._mapped = make_mapped(structure, numbers, mesh)
        devices = mesh.size
        # A state is there twice while a chunk is computed, and once more if the best one is remembered.
        bytes_ = self._state_bytes * (2 if experiment.training.patience is None else 3)
        most = min(-(-most // devices), _fitting(bytes_, devices, mesh)) * devices
        # What is compiled for some other number is used as it is; else the second program of a structure is the last.
        compiled = min((size for size in self._mapped.chunks if count <= size <= most), default=None)
        size = compiled or (most if self._mapped.chunks else min(-(-count // devices) * devices, most))
        self._chunk = self._compiled(size, mesh)
        while (size := self._size) > devices and self._temporary > _free_bytes(mesh) // devices:
            self._chunk = self._compiled(size // devices // 2 * devices, mesh)
        self._numbers = {name: np.zeros(self._size, shape.dtype) for name, shape in self._mapped.numbers.items()}
        self.states = jax.tree.map(
            lambda leaf: jax.device_put(np.zeros((self._size, *leaf.shape), leaf.dtype), self._mapped.slots),
            self._mapped.state,
        )
        self._best: Any = None

    @property
    def size(self) -> int:
        """The number of slots."""
        return self._size

    def begin(self, fresh: Mapping[int, Numbers]) -> None:
        """Puts new trainings into slots: slot -> numbers."""
        for slot, numbers in fresh.items():
            self.set_numbers(slot, numbers)
            state = jax.device_put(self._mapped.init(dict(numbers)), self._mapped.whole)
            self.states = self._mapped.put(self.states, state, np.int32(slot))

    def set_numbers(self, slot: int, numbers: Numbers) -> None:
        """Goes on with other numbers in a slot."""
        for name, number in numbers.items():
            self._numbers[name][slot] = number

    def advance(self, lengths: Mapping[int, int]) -> Any:
        """Sends so many steps of each slot to the devices; returns what `fetched` makes sums of."""
        steps = np.zeros(self._size, np.int32)
        for slot, length in lengths.items():
            steps[slot] = length
        self.states, sums = self._chunk(self._numbers, self.states, self.data["train"], steps)
        return sums

    def evaluate(self, split_name: str, wanted: Sequence[int], best: bool = False) -> Any:
        """Sends an evaluation of some slots to the devices, of their best states with `best`; see `fetched`."""
        states = self._best if best else self.states
        return self._mapped.evaluate(self._numbers, states, self.data[split_name], self._mask(wanted))

    def copy(self, sources: Mapping[int, int]) -> None:
        """Gives slots the states of others: slot -> the one it is taken from."""
        chosen = np.arange(self._size)
        for slot, source in sources.items():
            chosen[slot] = source
        self.states = self._mapped.take(self.states, chosen)

    def remember(self, slots: Sequence[int]) -> None:
        """Keeps the present states of some slots as their best ones."""
        if not slots:
            return
        others = jax.tree.map(lambda leaf: leaf.copy(), self.states) if self._best is None else self._best
        self._best = self._mapped.merge(self.states, others, self._mask(slots))

    def state(self, slot: int, best: bool = False) -> TrainState:
        """Returns a copy of a slot's state, on the host."""
        states = self._best if best else self.states

        def one(leaf: jax.Array) -> np.ndarray:
            for shard in leaf.addressable_shards:
                places = range(self._size)[shard.index[0]]
                if slot in places:
                    # NumPy sees a CPU's memory itself; of another device's only this slot's part is fetched.
                    on_cpu = next(iter(shard.data.devices())).platform == "cpu"
                    return np.array((np.asarray(shard.data) if on_cpu else shard.data)[places.index(slot)])
            raise IndexError(f"there is no slot {slot}")

        return jax.tree.map(one, states)

    def _mask(self, slots: Any) -> np.ndarray:
        mask = np.zeros(self._size, bool)
        mask[list(slots)] = True
        return mask

    @property
    def _state_bytes(self) -> int:
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(self._mapped.state))

    def _compiled(self, size: int, mesh: Mesh) -> Any:
        """Returns the chunk for so many slots, and knows the memory that it needs besides."""
        self._size = size

        def slotted(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((size, *leaf.shape), leaf.dtype, sharding=self._mapped.slots)

        shapes = jax.tree.map(slotted, (self._mapped.numbers, self._mapped.state))
        spec = self._experiment.dataset.spec()
        data = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._mapped.whole)
            for name, leaf in split_shapes(spec, "train", mesh).items()
        }
        lengths = slotted(jax.ShapeDtypeStruct((), np.int32))
        if size not in self._mapped.chunks:
            self._mapped.chunks[size] = self._mapped.chunk.lower(*shapes, data, lengths).compile()
            self.compilations += 1
        analysis = self._mapped.chunks[size].memory_analysis()
        self._temporary = int(getattr(analysis, "temp_size_in_bytes", 0) or 0)
        return self._mapped.chunks[size]


def fetched(sums: Any, slots: Sequence[int]) -> dict[int, Any]:
    """Waits for sums and returns those of some slots."""
    there = jax.device_get(sums)
    return {slot: jax.tree.map(operator.itemgetter(slot), there) for slot in slots}


def _fitting(slot_bytes: int, devices: int, mesh: Mesh) -> int:
    """Returns how many slots a device has memory for."""
    free = _free_bytes(mesh) // devices
    if slot_bytes > free:
        what = f"one training takes {slot_bytes / 1e6:,.1f} MB for its state and the copies of it"
        raise RequestError(f"{what}, but only {free / 1e6:,.1f} MB of a device's memory are free")
    return int(max(1, free // max(slot_bytes, 1)))


def _free_bytes(mesh: Mesh) -> int:
    """Returns the bytes of memory that are free for this process's devices, some left for other things."""
    device = mesh.devices.flat[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        free = (stats.get("bytes_limit", 2**63) - stats.get("bytes_in_use", 0)) * mesh.size
        return int(free * (1 - _KEPT_FREE))
    found = []
    with contextlib.suppress(OSError, AttributeError, TypeError):
        found.append(int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) * 1024)  # type: ignore[index]
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
    if not found and hasattr(os, "sysconf"):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    return int(min(found, default=2**63) * (1 - _KEPT_FREE))
