"""Data that does not live on the device: windows of batches, read ahead by threads or worker processes.

A window is `{feature: (batches, batch, ...), "weights": (batches, batch)}` of one split. Which examples are in it is a
function of the seed and its place (see `neuralmon.data.permutation`), so a stream starts anywhere, and a worker process
that dies is replaced by another one that makes the same windows.
"""

import dataclasses
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from neuralmon.data.dataset import Dataset, load_checked
from neuralmon.data.permutation import batch_indices_numpy
from neuralmon.errors import NeuralmonError, RunError

Window = Mapping[str, np.ndarray]
_RESTARTS = 5


class Place(NamedTuple):
    """Where a window is: `length` batches of `split` from batch number `start` on, shuffled or from front to back."""

    split: str
    start: int
    length: int
    shuffled: bool = False


@dataclasses.dataclass
class Reader:
    """Makes windows; random access to `places` is what grain asks of a source. It is copied to worker processes.

    Attributes:
      dataset: what is read; opened when first asked, in each process anew.
      places: the windows, in order.
      batch_size: examples of a batch.
      num_batches: batches of a window; one that holds fewer is filled up with copies of an example, of weight 0.
      seed: of the order of shuffled examples.
      splits: what the dataset has loaded in this process; None: not yet.
    """

    dataset: Dataset
    places: Sequence[Place]
    batch_size: int
    num_batches: int
    seed: int
    splits: Mapping[str, Mapping[str, Any]] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Window:
        return self.window(self.places[index])

    def window(self, place: Place) -> Window:
        """Returns the window at `place`."""
        columns = self.columns(place.split)
        batches = range(place.start, place.start + place.length)
        rows, weights = self._rows(place.shuffled, batches, next(iter(columns.values())).shape[0])
        window = {}
        for name, column in columns.items():
            examples = np.asarray(column[rows])
            if examples.shape[1:] != tuple(column.shape[1:]) or examples.dtype != column.dtype:
                raise RunError(f"dataset: {name!r} of {place.split!r} gave {examples.dtype}{list(examples.shape)}")
            window[name] = np.empty((self.num_batches * self.batch_size, *examples.shape[1:]), examples.dtype)
            window[name][: len(rows)] = examples
            window[name][len(rows) :] = examples[-1]  # what a model can take, unlike zeros
        window["weights"] = np.zeros(self.num_batches * self.batch_size, np.float32)
        window["weights"][: len(rows)] = weights
        shape = self.num_batches, self.batch_size
        return {name: array.reshape(*shape, *array.shape[1:]) for name, array in window.items()}

    def columns(self, split: str) -> Mapping[str, Any]:
        """Returns the columns of a split."""
        if self.splits is None:
            self.splits = load_checked(self.dataset)
        return self.splits[split]

    def _rows(self, shuffled: bool, batches: range, size: int) -> tuple[np.ndarray, np.ndarray | float]:
        if shuffled:
            rows = [batch_indices_numpy(self.seed, step, self.batch_size, size) for step in batches]
            return np.concatenate(rows).astype(np.int64), 1.0
        positions = np.arange(batches.start * self.batch_size, batches.stop * self.batch_size)
        return np.minimum(positions, size - 1), (positions < size).astype(np.float32)

    def __getstate__(self) -> dict[str, Any]:
        # Memory-mapped arrays would be copied as a whole; a worker process opens them for itself.
        return {**vars(self), "splits": None}


class Stream:
    """Iterates over a reader's windows, reading ahead.

    Args:
      reader: what makes the windows.
      workers: worker processes; 0: threads of this process, best where reading is copying.
      notice: told, in one line, of a worker process that died and was replaced.
    """

    def __init__(self, reader: Reader, workers: int, notice: Callable[[str], None]) -> None:
        self._reader = reader
        self._workers = workers
        self._notice = notice
        self._next = 0
        self._restarts = 0
        self._iterator: Any = None

    def __iter__(self) -> Iterator[Window]:
        return self

    def __next__(self) -> Window:
        while self._next < len(self._reader):
            try:
                if self._iterator is None:
                    self._iterator = self._open()
                window = next(self._iterator)
            except (NeuralmonError, StopIteration):
                raise
            except RuntimeError as error:
                if "terminated unexpectedly" not in str(error):
                    raise
                self._restart()
                continue
            self._next += 1
            self._restarts = 0
            # A copy, since the processes' shared memory is theirs and must be given back.
            return {name: np.array(array) for name, array in window.items()} if self._workers else window
        raise StopIteration

    def start(self) -> None:
        """Begins to read ahead, which otherwise the first window would wait for."""
        if self._iterator is None and len(self._reader) > self._next:
            self._iterator = self._open()
            self._iterator.start_prefetch()

    def close(self) -> None:
        """Ends the worker processes."""
        if self._iterator is not None:
            self._iterator.close()
            self._iterator = None
            if self._workers:
                # grain's arrays in shared memory are given back by a thread, once nobody refers to them.
                gc.collect()
                time.sleep(0.1)

    def _restart(self) -> None:
        self.close()
        self._restarts += 1
        if self._restarts > _RESTARTS:
            raise RunError(
                f"worker processes that read the data died {self._restarts} times: is there enough memory? "
                "Fewer of them (--data_workers) need less"
            ) from None
        self._notice("a worker process that reads the data died; another goes on at the same place")

    def _open(self) -> Any:
        import grain
        from absl import flags

        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # grain looks its own flags up, which hold their defaults

        rest = dataclasses.replace(self._reader, places=self._reader.places[self._next :])
        windows = grain.MapDataset.source(rest)
        options = grain.ReadOptions(
            num_threads=1 if self._workers else 2, prefetch_buffer_size=1 if self._workers else 2
        )
        dataset = windows.to_iter_dataset(options)
        if self._workers:
            processes = grain.MultiprocessingOptions(num_workers=self._workers, per_worker_buffer_size=1)
            dataset = dataset.mp_prefetch(processes, worker_init_fn=_end_with_parent)
        return iter(dataset)


def default_workers(splits: Mapping[str, Mapping[str, Any]]) -> int:
    """Returns how many worker processes read these splits: none if all are arrays, else as many as cores but one."""
    columns = [column for split in splits.values() for column in split.values()]
    while any(lazy := [hasattr(column, "column") for column in columns]):
        columns = [column.column if is_lazy else column for column, is_lazy in zip(columns, lazy, strict=True)]
    if all(isinstance(column, np.ndarray) for column in columns):
        return 0
    return max(1, min(8, (os.cpu_count() or 2) - 1))


def _end_with_parent(index: int, count: int) -> None:
    """Makes a worker process end when the one that started it was killed, which it could not tell its workers."""
    import multiprocessing
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent says when to end
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
