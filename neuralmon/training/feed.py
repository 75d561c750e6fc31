"""Where the compiled program's data comes from: what lies on the devices, or the windows of a stream."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from neuralmon.data import Dataset, Spec
from neuralmon.data.dataset import load_checked, whole
from neuralmon.data.pipeline import Data
from neuralmon.data.stream import Place, Reader, Stream, default_workers
from neuralmon.experiment import Experiment
from neuralmon.parallel import batches_over, replicated


class Feed(Protocol):
    """The data of one run, for `Program.chunk` and `Program.evaluate`."""

    def train(self, start: int, end: int) -> Iterator[tuple[int, Data]]:
        """Yields (steps, data) for the updates from `start` to `end`, as often as a chunk has to be cut."""
        ...

    def evaluation(self, split: str) -> Iterator[Data]:
        """Yields the data of a split, in one or many parts."""
        ...

    def examples(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns some examples of a split as stored, on the host."""
        ...

    def close(self) -> None:
        """Ends what reads ahead."""
        ...


class Resident:
    """All data on every device. `cuts` are further steps at which a chunk ends, `longest` the most steps of a part."""

    def __init__(self, splits: Mapping[str, Data], cuts: Sequence[int] = (), longest: int | None = None) -> None:
        self.splits = splits
        self._cuts = cuts
        self._longest = longest

    def train(self, start: int, end: int) -> Iterator[tuple[int, Data]]:
        """See `Feed.train`."""
        for _, length in _parts(start, end, self._longest or end, self._cuts):
            yield length, self.splits["train"]

    def evaluation(self, split: str) -> Iterator[Data]:
        """See `Feed.evaluation`."""
        yield self.splits[split]

    def examples(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See `Feed.examples`."""
        return {name: np.asarray(array[rows]) for name, array in self.splits[split].items()}

    def close(self) -> None:
        """See `Feed.close`."""


class Streamed:
    """Windows of a stream, read ahead in the order in which a run from `step` on, or one evaluation, needs them.

    Args:
      experiment: the resolved experiment.
      mesh: the devices.
      window: batches of a window.
      step: where the run begins.
      cuts: further steps at which a chunk ends.
      longest: the most steps of a part; None: a window's.
      workers: worker processes that read; 0: threads of this one; None: as the data needs.
      notice: told of a worker process that died.
      only: the one split that will be evaluated, where there is no run.
    """

    def __init__(
        self,
        experiment: Experiment,
        mesh: Mesh,
        window: int,
        step: int,
        cuts: Sequence[int] = (),
        longest: int | None = None,
        workers: int | None = None,
        notice: Callable[[str], None] = print,
        only: str | None = None,
    ) -> None:
        dataset, training = experiment.dataset, experiment.training
        splits = load_checked(dataset)
        self.workers = default_workers(splits) if workers is None else workers
        self._spec, self._training, self._cuts = dataset.spec(), training, cuts
        self._longest = min(window, longest or window)
        self._reader = Reader(dataset, (), training.batch_size, window, training.seed, splits)
        self._sharding = batches_over(mesh)
        self._notice = notice
        self._open(self._evaluation_places(only) if only else list(self._plan(step)))

    def train(self, start: int, end: int) -> Iterator[tuple[int, Data]]:
        """See `Feed.train`."""
        places = self._train_places(start, end)
        for place, window in zip(places, self._windows(places), strict=True):
            yield place.length, window

    def evaluation(self, split: str) -> Iterator[Data]:
        """See `Feed.evaluation`."""
        return self._windows(self._evaluation_places(split))

    def examples(self, split: str, rows: np.ndarray) -> dict[str, np.ndarray]:
        """See `Feed.examples`."""
        return {name: np.asarray(column[rows]) for name, column in self._reader.columns(split).items()}

    def close(self) -> None:
        """See `Feed.close`."""
        self._stream.close()

    def _open(self, order: list[Place]) -> None:
        self._order, self._position = order, 0
        reader = dataclasses.replace(self._reader, places=order)
        self._stream = Stream(reader, self.workers, self._notice)
        self._stream.start()

    def _windows(self, places: list[Place]) -> Iterator[Data]:
        if self._order[self._position : self._position + len(places)] != places:
            # What was not planned, such as the evaluation at the end of a run that stops early.
            self._stream.close()
            self._open(places)
        for _ in places:
            window = next(self._stream)
            self._position += 1
            yield jax.device_put(dict(window), self._sharding)

    def _plan(self, step: int) -> Iterator[Place]:
        training, size = self._training, self._spec.sizes["train"]
        while step < training.num_steps(size):
            end = training.boundary_after(step, size)
            yield from self._train_places(step, end)
            step = end
            if training.evaluates_at(step, size) and "validation" in self._spec.sizes:
                yield from self._evaluation_places("validation")
        for split in self._spec.sizes:
            if split not in ("train", "validation"):
                yield from self._evaluation_places(split)

    def _train_places(self, start: int, end: int) -> list[Place]:
        return [Place("train", *part, shuffled=True) for part in _parts(start, end, self._longest, self._cuts)]

    def _evaluation_places(self, split: str) -> list[Place]:
        batches = -(-self._spec.sizes[split] // self._training.batch_size)
        return [Place(split, *part) for part in _parts(0, batches, self._reader.num_batches, ())]


def _parts(start: int, end: int, longest: int, cuts: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yields (start, length) of the parts from `start` to `end`, none longer than `longest` or across a cut."""
    while start < end:
        stop = min(end, start + longest, *(cut for cut in cuts if cut > start))
        yield start, stop - start
        start = stop


def window_shapes(spec: Spec, batch_size: int, window: int, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a window and where it lies."""
    return {
        name: jax.ShapeDtypeStruct((window, *feature.shape), feature.dtype, sharding=batches_over(mesh))
        for name, feature in spec.batch(batch_size).items()
    }


def split_shapes(spec: Spec, split: str, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a split that lies on every device."""
    return {
        name: jax.ShapeDtypeStruct((spec.sizes[split], *feature.shape), feature.dtype, sharding=replicated(mesh))
        for name, feature in spec.features.items()
    }


def resident(dataset: Dataset, mesh: Mesh, splits: Sequence[str] = ()) -> dict[str, Data]:
    """Reads the named splits, or all, and puts them on every device."""
    loaded, names = load_checked(dataset), splits or tuple(dataset.spec().sizes)
    arrays = {name: {feature: whole(column) for feature, column in loaded[name].items()} for name in names}
    return {name: dict(jax.device_put(arrays[name], replicated(mesh))) for name in names}
