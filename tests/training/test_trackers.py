"""What trackers are given can be read back; a resumed run is one record; a tracker's trouble is not the run's."""

import contextlib
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from neuralmon.errors import RequestError
from neuralmon.training import trackers
from neuralmon.training.tracker import PACKAGES, Tracker
from neuralmon.training.trackers import tracker
from neuralmon.training.writers import Writers

_PARAMETERS = {"optimizer.learning_rate": 0.1, "model.features": [32, 64], "model.dropout": None, "task.name": "x"}
_RESULT = {"metrics": {"test": {"accuracy": 0.75}}, "seconds": {"total": 3.5}, "fingerprint": "abc"}


@pytest.fixture(autouse=True)
def _nothing_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_RUN_ID", "WANDB_NAME", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("MLFLOW_ALLOW_FILE_STORE", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.setenv(name, "1")  # so that what the tracker sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run").mkdir()


def _launch(
    name: str,
    folder: Path,
    steps: range,
    *,
    finished: bool = True,
    error: type[BaseException] | None = None,
    **changed: Any,
) -> list[str]:
    """A launch that evaluates after every second step; returns the notices."""
    notices: list[str] = []
    known = contextlib.suppress(*([error] if error else []))
    with known, Writers(tracker(name, folder, "digits", {**_PARAMETERS, **changed}, notices.append)) as writers:
        for step in steps:
            writers.write(step, "train", {"loss": 1 / (step + 1)})
            if step % 2 == 0:
                writers.write(step, "validation", {"loss": 2 / (step + 1), "f1": {"a/b #1": 0.5}, "table": [[1]]})
        if error is not None:
            raise error("the news")
        if finished:
            writers.result(steps[-1], _RESULT)
    return notices


def _run_id(folder: Path, name: str, field: str) -> str:
    return json.loads((folder / "trackers.json").read_text())[name][field]


class TestMLflow:
    """Against its own file store, read back through its client."""

    @pytest.fixture
    def client(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        tracking = pytest.importorskip("mlflow.tracking")
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        return tracking.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())

    def test_everything_can_be_read_back(self, tmp_path: Path, client: Any) -> None:
        (notice,) = _launch("mlflow", tmp_path / "run", range(5))
        run_id = _run_id(tmp_path / "run", "mlflow", "run_id")
        assert run_id in notice and "mlruns" in notice
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED" and run.info.run_name == "run"
        assert client.get_experiment(run.info.experiment_id).name == "digits"
        assert run.data.params == {
            "optimizer.learning_rate": "0.1", "model.features": "[32, 64]", "model.dropout": "null", "task.name": "x",
        }  # fmt: skip
        assert {m.step: m.value for m in client.get_metric_history(run_id, "train/loss")} == {
            step: 1 / (step + 1) for step in range(5)
        }
        assert [m.step for m in client.get_metric_history(run_id, "validation/f1/a/b _1")] == [0, 2, 4]
        assert run.data.metrics["final/test/accuracy"] == 0.75 and run.data.metrics["final/seconds/total"] == 3.5
        assert run.data.tags["fingerprint"] == "abc"

    def test_a_resumed_run_is_the_same_run_with_every_step_once(self, tmp_path: Path, client: Any) -> None:
        _launch("mlflow", tmp_path / "run", range(6), error=KeyboardInterrupt)
        run_id = _run_id(tmp_path / "run", "mlflow", "run_id")
        assert client.get_run(run_id).info.status == "KILLED"
        (notice,) = _launch("mlflow", tmp_path / "run", range(3, 9), **{"optimizer.learning_rate": 0.2})
        assert f"continues run {run_id}" in notice
        run = client.get_run(run_id)
        assert run.info.status == "FINISHED"
        for key, steps in (("train/loss", list(range(9))), ("validation/loss", [0, 2, 4, 6, 8])):
            assert [m.step for m in client.get_metric_history(run_id, key)] == steps
        assert run.data.params["optimizer.learning_rate"] == "0.1"
        assert run.data.tags["changed.optimizer.learning_rate"] == "0.2"
        assert len(client.search_runs([run.info.experiment_id])) == 1

    def test_a_failed_run_is_said_to_have_failed(self, tmp_path: Path, client: Any) -> None:
        _launch("mlflow", tmp_path / "run", range(1), error=ZeroDivisionError)
        assert client.get_run(_run_id(tmp_path / "run", "mlflow", "run_id")).info.status == "FAILED"

    def test_what_is_not_finite_is_kept(self, tmp_path: Path, client: Any) -> None:
        with Writers(tracker("mlflow", tmp_path / "run", "digits", {}, lambda _: None)) as writers:
            writers.write(1, "train", {"loss": math.nan, "norm": math.inf})
        metrics = client.get_run(_run_id(tmp_path / "run", "mlflow", "run_id")).data.metrics
        assert math.isnan(metrics["train/loss"]) and metrics["train/norm"] > 1e300

    def test_a_server_that_does_not_answer_is_a_quick_request_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("mlflow")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        with pytest.raises(RequestError, match=r"^mlflow: no run can be begun at http://127\.0\.0\.1:9 \("):
            tracker("mlflow", tmp_path / "run", "digits", {}, lambda _: None)

    def test_a_store_that_vanishes_is_given_up_once(self, tmp_path: Path, client: Any) -> None:
        notices: list[str] = []
        with Writers(tracker("mlflow", tmp_path / "run", "digits", {}, notices.append)) as writers:
            writers.write(0, "train", {"loss": 1.0})
            writers._writers[0]._client.log_batch = _refuse  # type: ignore[attr-defined]
            for step in range(1, 6):
                writers.write(step, "train", {"loss": 1.0})
            time.sleep(0.2)
            writers.write(6, "train", {"loss": 1.0})
        assert ["given up" in notice for notice in notices] == [False, True, False]
        assert "no route to host" in notices[1] and "7 records are missing" in notices[2]


def _refuse(*_: Any, **__: Any) -> None:
    raise ConnectionError("no route to host\nand more")


def _records(folder: Path) -> list[list[Any]]:
    """Reads W&B's transaction logs: LevelDB's log format behind a header of 7 bytes, blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    files = []
    for path in sorted(folder.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns):
        data, offset, parts, records = path.read_bytes(), 7, b"", []
        assert data[:4] == b":W&B"
        while offset + 7 <= len(data):
            if 32768 - offset % 32768 < 7:
                offset += 32768 - offset % 32768
                continue
            length, kind = int.from_bytes(data[offset + 4 : offset + 6], "little"), data[offset + 6]
            parts += data[offset + 7 : offset + 7 + length]
            offset += 7 + length
            if kind in (1, 4):  # whole, last
                records.append(wandb_internal_pb2.Record.FromString(parts))
                parts = b""
        files.append(records)
    return files


def _settled(folder: Path) -> list[list[Any]]:
    """The records once W&B's own process has written all of them, which may be a moment after the run."""
    deadline = time.monotonic() + 20
    while True:
        files = _records(folder)
        if all(records and records[-1].WhichOneof("record_type") == "exit" for records in files):
            return files
        assert time.monotonic() < deadline, [[record.WhichOneof("record_type") for record in part] for part in files]
        time.sleep(0.2)


def _rows(records: list[Any]) -> dict[tuple[int, str], float]:
    rows: dict[tuple[int, str], float] = {}
    for record in records:
        if record.WhichOneof("record_type") == "history":
            for item in record.history.item:
                key = item.key or "/".join(item.nested_key)
                if not key.startswith("_"):
                    assert (record.history.step.num, key) not in rows
                    rows[record.history.step.num, key] = json.loads(item.value_json)
    return rows


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


class TestWandB:
    """Offline, read back from what `wandb sync` would send."""

    @pytest.fixture(autouse=True)
    def _offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("wandb")
        monkeypatch.setenv("WANDB_MODE", "offline")

    def test_resumed_offline_runs_are_one_run_with_every_step_once(self, tmp_path: Path) -> None:
        folder = tmp_path / "run"
        (notice,) = _launch("wandb", folder, range(6), error=KeyboardInterrupt)
        assert "offline" in notice and "wandb sync" in notice
        first_id = _run_id(folder, "wandb", "id")
        time.sleep(1.1)  # W&B names folders by the second
        notices = _launch("wandb", folder, range(3, 9), **{"optimizer.learning_rate": 0.2})
        assert not any("given up" in notice for notice in notices)
        first, second = _settled(folder)
        for records, rate in ((first, 0.1), (second, 0.2)):
            run = next(record.run for record in records if record.WhichOneof("record_type") == "run")
            assert run.run_id == first_id == _run_id(folder, "wandb", "id")
            assert (run.project, run.display_name) == ("digits", "run")
            config = {}
            for record in records:
                kind = record.WhichOneof("record_type")
                if kind in ("run", "config"):
                    config |= _values(record.run.config.update if kind == "run" else record.config.update)
            assert config["optimizer.learning_rate"] == rate and config["model.features"] == "[32, 64]"
        rows, more = _rows(first), _rows(second)
        assert not rows.keys() & more.keys()
        assert {step: value for (step, key), value in (rows | more).items() if key == "train/loss"} == {
            step: 1 / (step + 1) for step in range(9)
        }
        assert sorted(step for step, key in rows | more if key == "validation/loss") == [0, 2, 4, 6, 8]
        summary = {}
        for record in second:
            if record.WhichOneof("record_type") == "summary":
                summary |= _values(record.summary.update)
        assert summary["final/test/accuracy"] == 0.75 and summary["fingerprint"] == "abc"
        codes = [[r.exit.exit_code for r in part if r.WhichOneof("record_type") == "exit"] for part in (first, second)]
        assert codes == [[255], [0]]

    def test_without_a_key_the_answer_is_quick_and_clear(self, tmp_path: Path) -> None:
        """In a process of its own, for W&B reads its variables once."""
        program = (
            "from pathlib import Path; from neuralmon.training.trackers import tracker\n"
            "tracker('wandb', Path('run'), 'digits', {}, print)"
        )
        environ = {"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "WANDB_MODE": "online"}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert "RequestError: wandb: no API key; run `wandb login` first, or set WANDB_MODE=offline" in done.stderr


class _Local(Tracker):
    """A tracker that notes what it is asked."""

    name = "local"

    def start(self, project: str, parameters: dict[str, Any]) -> str:
        self.asked: list[Any] = [project, parameters]
        self._record["id"] = self._record.get("id", 0) + 1
        return "here"

    def log(self, *args: Any) -> None:
        self.asked.append(args)

    summarise = log
    finish = log


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Local]:
    monkeypatch.setitem(trackers._TRACKERS, "local", _Local)
    monkeypatch.setitem(PACKAGES, "local", "local-package")
    monkeypatch.setattr(util, "find_spec", lambda name: name)
    return lambda folder, notice=lambda _: None: tracker("local", folder, "p", {"a": (1,), "b": math.inf}, notice)


def test_records_arrive_in_order_with_plain_parameters(tmp_path: Path, local: Callable[..., _Local]) -> None:
    one = local(tmp_path / "run")
    with Writers(one) as writers:
        writers.write(1, "train", {"loss": 0.5, "table": [1]})
        writers.result(2, _RESULT)
    assert one.asked == [
        "p",
        {"a": "[1]", "b": "inf"},
        (1, {"train/loss": 0.5}),
        (2, {"final/test/accuracy": 0.75, "final/seconds/total": 3.5}, {"fingerprint": "abc"}),
        ("finished",),
    ]


def test_the_file_of_trackers_is_kept_for_the_others(tmp_path: Path, local: Callable[..., _Local]) -> None:
    path = tmp_path / "run" / "trackers.json"
    path.write_text('{"other": {"id": "x"}}')
    for launch in (1, 2):
        local(tmp_path / "run").close()
        assert json.loads(path.read_text()) == {"other": {"id": "x"}, "local": {"id": launch}}
    path.write_text("{torn")
    with pytest.raises(RequestError, match=r"trackers\.json cannot be read .*; delete it"):
        local(tmp_path / "run")
    assert [entry.name for entry in path.parent.iterdir()] == ["trackers.json"]


def test_a_missing_package_and_an_unknown_name_are_request_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match=r"writers: there is no 'tensorbored'; there are wandb, mlflow"):
        trackers.require("tensorbored")
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    for name in ("wandb", "mlflow"):
        with pytest.raises(RequestError, match=rf"pip install 'neuralmon\[{name}\]'"):
            trackers.require(name)


@pytest.mark.parametrize(
    ("tag", "key"),
    [("train/loss", "train/loss"), ("a//b", "a/_/b"), ("f1/#1 é", "f1/_1 é"), ("/x/..", "_/x/_"), ("a:b", "a_b")],
)
def test_mlflow_takes_every_key(tag: str, key: str) -> None:
    assert trackers._key(tag) == key
