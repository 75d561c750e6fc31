"""Metrics arrive whole, once and in order, whatever interrupts the run."""

import concurrent.futures
import json
import math
import os
import struct
import threading
import time
from pathlib import Path
from typing import IO, Any

import pytest

from neuralmon.errors import RunError
from neuralmon.training.writers import JsonLines, TensorBoard, Writers


def _lines(path: Path) -> list[dict[str, Any]]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def _train(path: Path, steps: range, resume_step: int | None = None) -> None:
    with Writers(JsonLines(path, resume_step)) as writers:
        for step in steps:
            writers.write(step, "train", {"loss": 1 / (step + 1)})
            if step % 2 == 0:
                writers.write(step, "validation", {"loss": 2 / (step + 1), "f1": {"3": 0.5}})


def _events(directory: Path) -> list[Any]:
    """Reads event files by TFRecord framing: length, its checksum, data, its checksum."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

    events = []
    for path in sorted(directory.iterdir()):
        data, offset = path.read_bytes(), 0
        while offset < len(data):
            (length,) = struct.unpack_from("<Q", data, offset)
            events.append(Event.FromString(data[offset + 12 : offset + 12 + length]))
            offset += length + 16
        assert offset == len(data)
    return events


def _visible(directory: Path) -> dict[tuple[int, str], float]:
    """What TensorBoard shows: a session's start hides the earlier events from its step on."""
    from tensorboardX.proto.event_pb2 import SessionLog

    scalars: dict[tuple[int, str], float] = {}
    for event in _events(directory):
        if event.session_log.status == SessionLog.START:
            scalars = {key: value for key, value in scalars.items() if key[0] < event.step}
        for value in event.summary.value:
            assert (event.step, value.tag) not in scalars
            scalars[event.step, value.tag] = value.simple_value
    return scalars


def test_a_line_is_on_disk_before_write_returns(tmp_path: Path) -> None:
    writer = JsonLines(tmp_path / "metrics.jsonl")
    writer.write(430, "validation", {"loss": 0.05})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 430, "split": "validation", "loss": 0.05}\n'
    writer.close()


def test_json_is_valid_for_tables_and_non_finite_numbers(tmp_path: Path) -> None:
    with Writers(JsonLines(tmp_path / "m.jsonl")) as writers:
        metrics = {"loss": math.nan, "norm": -math.inf, "confusion": [[1, 2]], "f1": {"3": math.inf, "4": [0.25]}}
        writers.write(1, "test", metrics)
    expected = {"loss": None, "norm": None, "confusion": [[1, 2]], "f1": {"3": None, "4": [0.25]}}
    assert _lines(tmp_path / "m.jsonl") == [{"step": 1, "split": "test", **expected}]


@pytest.mark.parametrize("resume_step", [0, 4, 6])
@pytest.mark.parametrize("torn", [0, 7])
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path: Path, resume_step: int, torn: int) -> None:
    whole, resumed = tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"
    _train(whole, range(10))
    _train(resumed, range(8))
    resumed.write_bytes(resumed.read_bytes() + b'{"step": 8, "split"'[:torn])
    _train(resumed, range(resume_step + 1, 10), resume_step)
    assert resumed.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resumed.jsonl", "whole.jsonl"]


def test_a_last_line_without_newline_but_complete_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 4, "split": "train", "loss": 1}')
    _train(path, range(5, 6), resume_step=4)
    assert [line["step"] for line in _lines(path)] == [4, 5]


def test_without_a_checkpoint_the_file_starts_empty(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    _train(path, range(3))
    _train(path, range(1))
    assert [line["step"] for line in _lines(path)] == [0, 0]
    path.unlink()
    _train(path, range(1, 2), resume_step=0)
    assert [line["step"] for line in _lines(path)] == [1]


def test_a_damaged_middle_line_is_named_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"step": 1}\nnot json\n{"step": 2}\n')
    with pytest.raises(RunError, match=r"m\.jsonl, line 2"):
        JsonLines(path, resume_step=2)
    assert path.read_text() == '{"step": 1}\nnot json\n{"step": 2}\n'


def test_tensorboard_gets_scalars_and_tables_per_class(tmp_path: Path) -> None:
    writer = TensorBoard(tmp_path)
    writer.write(1, "train", {"loss": 0.25})
    metrics = {
        "accuracy": 0.75,
        "per_class": {"3": {"f1": 0.5, "examples": 7}},
        "confusion": [[1, 0], [0, 1]],
        "counts": {str(number): number for number in range(1000)},
        "note": "text",
        "loss": math.nan,
    }
    writer.write(2, "validation", metrics)
    writer.close()
    shown = _visible(tmp_path)
    assert math.isnan(shown.pop((2, "validation/loss")))
    assert shown == {
        (1, "train/loss"): 0.25,
        (2, "validation/accuracy"): 0.75,
        (2, "validation/per_class/3/f1"): 0.5,
        (2, "validation/per_class/3/examples"): 7.0,
    }
    assert all(abs(event.wall_time - time.time()) < 60 for event in _events(tmp_path))


def test_tensorboard_shows_a_resumed_run_as_an_uninterrupted_one(tmp_path: Path) -> None:
    for resume_step, steps in ((None, range(8)), (4, range(5, 10)), (4, range(5, 10))):
        writer = TensorBoard(tmp_path, resume_step)
        for step in steps:
            writer.write(step, "train", {"loss": step / 2})
        writer.close()
    assert _visible(tmp_path) == {(step, "train/loss"): step / 2 for step in range(10)}
    assert len(list(tmp_path.iterdir())) == 3  # launches within a second do not overwrite


def test_training_does_not_wait_for_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk_answers = threading.Event()

    def open_slowly(path: str) -> IO[bytes]:
        assert disk_answers.wait(timeout=2)
        return Path(path).open("wb")

    monkeypatch.setattr("tensorboardX.record_writer.open_file", open_slowly)
    writer = TensorBoard(tmp_path)
    for step in range(100):
        writer.write(step, "train", {"loss": 1.0})
    assert not list(tmp_path.iterdir())
    disk_answers.set()
    writer.close()
    assert len(_visible(tmp_path)) == 100
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("TensorBoard")]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_full_disk_is_a_run_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(RunError, match=r"/dev/full: No space left on device"),
        Writers(JsonLines(Path("/dev/full"))) as w,
    ):
        w.write(1, "train", {"loss": 1.0})

    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr("tensorboardX.record_writer.open_file", lambda _: full)
        board = TensorBoard(tmp_path)
        board.write(1, "train", {"loss": 1.0})
        concurrent.futures.wait(board._pending, timeout=2)
        with pytest.raises(RunError, match=r"No space left on device"):
            board.write(2, "train", {"loss": 1.0})
        with pytest.raises(RunError, match=r"No space left on device"):
            board.close()


def test_a_place_that_cannot_be_written_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"file/metrics\.jsonl: "):
        JsonLines(tmp_path / "file" / "metrics.jsonl")
    with pytest.raises(RunError, match=r"file"), Writers(TensorBoard(tmp_path / "file")) as writers:
        writers.write(1, "train", {"loss": 1.0})


def test_all_writers_are_closed_and_the_first_trouble_is_reported(tmp_path: Path) -> None:
    closed = []

    class Failing:
        def write(self, step: int, split: str, metrics: object) -> None:
            del step, split, metrics

        result = write

        def close(self, status: str) -> None:
            closed.append(status)
            raise RunError("in closing")

    with pytest.raises(RunError, match="in closing"), Writers(Failing(), Failing()):
        pass
    assert closed == ["finished", "finished"]
    for error, status in ((KeyboardInterrupt, "killed"), (RunError, "failed")):
        with pytest.raises(error), Writers(Failing(), JsonLines(tmp_path / "m.jsonl")):
            raise error("the news")
        assert closed[-1] == status
    assert len(closed) == 4


def test_the_result_is_shown_beside_the_curves(tmp_path: Path) -> None:
    with Writers(JsonLines(tmp_path / "m.jsonl"), TensorBoard(tmp_path / "events")) as writers:
        writers.write(7, "validation", {"loss": 0.5})
        writers.result(7, {"metrics": {"validation": {"loss": 0.5}, "test": {"loss": 0.25}}, "fingerprint": "ab"})
    assert _visible(tmp_path / "events") == {(7, "validation/loss"): 0.5, (7, "test/loss"): 0.25}
    assert [line["split"] for line in _lines(tmp_path / "m.jsonl")] == ["validation"]
