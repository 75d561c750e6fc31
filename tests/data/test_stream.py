"""Streams give the very batches that data on the device gives, whoever reads them and whoever dies."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.data.dataset import Rows, whole
from neuralmon.data.pipeline import evaluation_batch, resident_batch, streams, window_batches
from neuralmon.data.stream import Place, Reader, Stream, default_workers
from neuralmon.errors import RunError

BATCH, WINDOW, SEED = 32, 3, 5


@pytest.fixture(scope="module")
def dataset(tiny):
    return dataclasses.replace(tiny.dataset, pipeline="stream")


def reader(dataset, places):
    return Reader(dataset, places, BATCH, WINDOW, SEED)


def windows(dataset, places, workers, notices):
    stream = Stream(reader(dataset, places), workers, notices.append)
    try:
        return list(stream)
    finally:
        stream.close()


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_window_has_the_batches_of_the_device(dataset):
    data = {name: jnp.asarray(array) for name, array in dataset.load()["train"].items()}
    expect = jax.jit(lambda step: resident_batch(data, jnp.int32(SEED), step, BATCH))
    for start, length in [(0, 3), (17, 2), (1000, 3)]:  # an epoch has 18.75 batches
        window = reader(dataset, []).window(Place("train", start, length, shuffled=True))
        for index in range(length):
            same({name: array[index] for name, array in window.items()}, expect(start + index))
        assert not window["weights"][length:].any()


def test_an_evaluation_has_every_example_once(dataset):
    arrays = dataset.load()["validation"]
    data = {name: jnp.asarray(array) for name, array in arrays.items()}
    places = [Place("validation", 0, 3), Place("validation", 3, 1)]
    flat = [array for place in places for array in zip(*reader(dataset, []).window(place).values(), strict=True)]
    counted = np.concatenate([targets[weights > 0] for _, targets, weights in flat])
    np.testing.assert_array_equal(counted, arrays["targets"])
    for index in range(4):
        expected = evaluation_batch(data, jnp.int32(index), BATCH)
        window = reader(dataset, []).window(places[index // 3])
        same({name: array[index % 3] for name, array in window.items()}, expected)


def test_readers_agree_wherever_they_begin(dataset):
    places = [Place("train", step, WINDOW, shuffled=True) for step in range(0, 30, WINDOW)] + [Place("test", 0, 2)]
    expected = [reader(dataset, []).window(place) for place in places]
    for begin in (0, 7):
        found = windows(dataset, places[begin:], 0, [])
        for one, other in zip(found, expected[begin:], strict=True):
            same(one, other)


def test_workers_read_the_same_and_a_killed_one_is_replaced(dataset):
    places = [Place("train", step, WINDOW, shuffled=True) for step in range(6, 66, WINDOW)] + [Place("test", 0, 2)]
    notices: list[str] = []
    stream = Stream(reader(dataset, places), 2, notices.append)
    try:
        found = [next(stream) for _ in range(4)]
        children = [int(pid) for pid in _children() if "spawn_main" in _command(pid)]
        assert len(children) == 2
        os.kill(children[0], signal.SIGKILL)
        found += list(stream)
    finally:
        stream.close()
    assert len(notices) == 1 and "died" in notices[0]
    for one, place in zip(found, places, strict=True):
        same(one, reader(dataset, []).window(place))


@dataclasses.dataclass(frozen=True)
class Failing:
    """A dataset whose examples cannot be read."""

    deadly: bool = False

    def spec(self):
        feature = jax.ShapeDtypeStruct((2,), np.float32)
        return nm.data.Spec(
            {"inputs": feature, "targets": jax.ShapeDtypeStruct((), np.int32)}, {"train": 64}, ("a", "b")
        )

    def load(self):
        if self.deadly:
            os._exit(9)
        raise RunError("photos/cat.png has vanished")

    def prepare(self, key, batch, train):
        return batch


def test_what_the_reader_says_is_heard():
    with pytest.raises(RunError, match=r"photos/cat.png has vanished"):
        windows(Failing(), [Place("train", 0, 1)], 0, [])


SCRIPT = """
import sys
sys.path[:0] = {folders!r}
import neuralmon as nm
from test_stream import BATCH, SEED, Failing
from neuralmon.data.stream import Place, Reader, Stream

if __name__ == "__main__":
    mode = sys.argv[1]
    dataset = nm.data.Mnist() if mode == "orphans" else Failing(deadly=mode == "deadly")
    stream = Stream(Reader(dataset, [Place("train", 0, 1)] * 1000, BATCH, 1, SEED), 1, print)
    try:
        next(stream)
        print("reading", flush=True)
        if mode == "orphans":
            input()
    except nm.RunError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def script(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("stream") / "script.py"
    path.write_text(SCRIPT.format(folders=[str(root), str(Path(__file__).parent)]))
    return path


@pytest.mark.slow
def test_workers_that_die_again_and_again_end_the_run(script):
    done = subprocess.run([sys.executable, script, "deadly"], capture_output=True, text=True, timeout=300)
    assert "died 6 times" in done.stdout, done.stderr


def test_workers_end_with_a_killed_parent(script):
    process = subprocess.Popen(
        [sys.executable, script, "orphans"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "reading\n"
    children = [pid for pid in _children(process.pid) if "spawn_main" in _command(pid)]
    assert children
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 20
    while any("spawn_main" in _command(pid) for pid in children):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def _children(parent=None):
    parent = parent or os.getpid()
    return subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True).stdout.split()


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_what_is_streamed_when(tiny):
    size = tiny.dataset.spec().stored_bytes()
    assert size == (600 + 101 + 53) * (64 + 4)
    assert not streams(tiny.dataset, 4 * size)
    assert streams(tiny.dataset, 4 * size - 1)
    assert streams(dataclasses.replace(tiny.dataset, pipeline="stream"), 2**40)
    assert not streams(dataclasses.replace(tiny.dataset, pipeline="device"), 1)


@pytest.mark.parametrize(
    ("shape", "most", "expected"), [((28, 28, 1), 50, 50), ((512, 512, 3), 50, 1), ((64, 64, 3), 50, 10)]
)
def test_windows_are_of_equal_size_and_small(shape, most, expected):
    spec = nm.data.Spec({"inputs": jax.ShapeDtypeStruct(shape, np.uint8)}, {"train": 1000})
    count = window_batches(spec, 128, most)
    assert count == expected
    assert count == 1 or count * 128 * int(np.prod(shape)) <= 16 * 2**20


def test_arrays_need_no_worker_processes(dataset):
    assert default_workers(dataset.load()) == 0
    assert default_workers(dataclasses.replace(nm.data.Mnist(), balanced_sampling=True).load()) == 0


@dataclasses.dataclass(frozen=True)
class Short(Failing):
    """It loads less than it says."""

    def load(self):
        return {"train": {"inputs": np.zeros((40, 2), np.float32), "targets": np.zeros(40, np.int32)}}


def test_a_stream_is_what_its_spec_says():
    with pytest.raises(RunError, match=r"gave float32\[40, 2\] as 'inputs' of 'train', but spec\(\) says"):
        windows(Short(), [Place("train", 0, 1)], 0, [])


def test_padding_is_of_examples_that_there_are(dataset):
    window = reader(dataset, []).window(Place("test", 0, 2))
    last = dataset.load()["test"]["inputs"][-1]
    np.testing.assert_array_equal(window["inputs"][-1, -1], last)


def test_rows_of_rows():
    column = Rows(Rows(np.arange(10) * 10, np.array([5, 5, 7, 1])), np.array([3, 0, 1]))
    assert column.shape == (3,) and column.dtype == np.dtype(int)
    np.testing.assert_array_equal(whole(column), [10, 50, 50])
    np.testing.assert_array_equal(column[np.array([2, 0])], [50, 10])
