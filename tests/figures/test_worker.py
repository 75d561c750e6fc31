"""The process that draws: it never harms, delays or outlives training."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuralmon import figures
from neuralmon.figures import worker

COUNTS = [[5, 1], [0, 4]]


def python(program, *arguments, **options):
    """Starts a Python process in which `figures` is imported without the rest of neuralmon."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)],
        cwd=Path(figures.__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def alive(process_id):
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def fake_matplotlib(monkeypatch, tmp_path, source):
    folder = tmp_path / "fake"
    folder.mkdir()
    (folder / "matplotlib.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_one_process_draws_all_figures_and_leaves_nothing_else(tmp_path, monkeypatch):
    requests = tmp_path / "requests"
    requests.mkdir()
    monkeypatch.setattr(worker.tempfile, "tempdir", str(requests))
    rows = tmp_path / "metrics.jsonl"
    rows.write_text('{"step": 1, "split": "train", "loss": 2.0}\n{"step": 2, "split": "train", "loss": null}\n{"st')
    with figures.Drawing(tmp_path / "run" / "figures") as drawing:
        drawing.draw("confusion_matrix", counts=np.array(COUNTS), class_names=["no", "$5"])
        process = drawing._process
        drawing.draw("learning_curves", rows=rows, learning_rate=np.array([[0, 0.1], [2, 0.2]]))
        drawing.draw("data", inputs=np.zeros((2, 4, 4, 1), np.float16), labels=["a", "b"])
        assert drawing._process is process
        assert drawing.finish(60) == []
        assert process.returncode == 0
        assert drawing.finish(60) == []
    names = ["confusion_matrix.png", "data.png", "learning_curves.png"]
    assert sorted(path.name for path in (tmp_path / "run" / "figures").iterdir()) == names
    for name in names:
        path = tmp_path / "run" / "figures" / name
        with Image.open(path) as image:
            image.verify()
        with Image.open(path) as image:
            assert 300 <= image.width <= 2000 and 150 <= image.height <= 2400
        assert path.stat().st_size <= 300_000
    assert list(requests.iterdir()) == []


def test_a_failure_is_one_notice_and_the_other_figures_are_drawn(tmp_path):
    drawing = figures.Drawing(tmp_path)
    drawing.draw("confusion_matrix", counts=[[1, 2, 3]])
    drawing.draw("no_such_figure")
    drawing.draw("learning_curves", rows=tmp_path / "missing.jsonl")
    drawing.draw("data", inputs=np.zeros((70_000_000,), np.uint8), labels=[])
    drawing.draw("per_class", table={"a": {"precision": 1, "recall": 0.5, "f1": 0.7, "examples": 3}})
    notices = drawing.finish(60)
    assert [path.name for path in tmp_path.iterdir()] == ["per_class.png"]
    assert len(notices) == 4
    for notice, parts in zip(
        sorted(notices),
        [
            ("confusion_matrix", "(1, 3)"),
            ("data", "70,000,000 bytes"),
            ("learning_curves", "missing.jsonl"),
            ("no_such_figure", "KeyError"),
        ],
        strict=True,
    ):
        assert notice.startswith(f"figures not drawn ({parts[0]}): ") and parts[1] in notice
        assert "\n" not in notice


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise ModuleNotFoundError(name='matplotlib')", "matplotlib is not installed (pip install matplotlib)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended early (exit code -11)"),
        ("import time; time.sleep(60)", "not ready after 1.5 s"),
    ],
)
def test_what_stops_the_process_becomes_one_notice(monkeypatch, tmp_path, source, said):
    fake_matplotlib(monkeypatch, tmp_path, source)
    drawing = figures.Drawing(tmp_path / "figures")
    start = time.monotonic()
    for name in ("confusion_matrix", "per_class", "confusion_matrix"):
        drawing.draw(name, counts=COUNTS)
    assert time.monotonic() - start < 1.0
    (notice,) = drawing.finish(1.5 if "sleep" in source else 60)
    assert notice.startswith("figures not drawn (confusion_matrix, per_class): ") and said in notice


def test_asking_a_process_that_died_raises_nothing(tmp_path):
    drawing = figures.Drawing(tmp_path)
    drawing.draw("confusion_matrix", counts=COUNTS)
    drawing._process.kill()
    drawing._process.wait()
    drawing.draw("per_class", table={})
    (notice,) = drawing.finish(60)
    assert "(confusion_matrix, per_class)" in notice and "exit code -9" in notice


@pytest.mark.parametrize("place", ["a file in the way", "no such interpreter"])
def test_what_cannot_be_written_or_started_is_one_notice(monkeypatch, tmp_path, place):
    folder = tmp_path / "figures"
    if place == "a file in the way":
        folder.write_text("")  # A folder without permission would stop nobody who is root.
    else:
        monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    drawing = figures.Drawing(folder)
    drawing.draw("confusion_matrix", counts=COUNTS)
    drawing.draw("per_class", table={"a": {"precision": 1, "recall": 0.5, "f1": 0.7, "examples": 3}})
    (notice,) = drawing.finish(60)
    assert notice.startswith("figures not drawn (confusion_matrix, per_class): File")


def test_nothing_starts_before_the_first_figure(tmp_path):
    with figures.Drawing(tmp_path / "figures") as drawing:
        assert drawing._process is None
        assert drawing.finish() == []
    assert not (tmp_path / "figures").exists()


def test_a_figure_that_fails_to_be_written_leaves_the_old_one(tmp_path):
    old = tmp_path / "confusion_matrix.png"
    old.mkdir()  # cannot be replaced by a file
    drawing = figures.Drawing(tmp_path)
    drawing.draw("confusion_matrix", counts=COUNTS)
    assert len(drawing.finish(60)) == 1
    assert list(tmp_path.iterdir()) == [old]


def test_the_process_imports_what_draws_and_no_jax(tmp_path):
    request = tmp_path / "requests" / "1.npz"
    request.parent.mkdir()
    worker._write_request(request, {"counts": COUNTS})
    program = """
        import runpy, sys
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
        print(sorted(sys.modules))
    """
    process = python(program, worker._MAIN, tmp_path / "figures", request.parent, stdin=subprocess.PIPE)
    asked = json.dumps({"name": "seen", "figure": "confusion_matrix", "request": str(request)})
    output, errors = process.communicate(f"{asked}\n", timeout=60)
    assert process.returncode == 0, errors
    answer, modules = output.splitlines()
    assert json.loads(answer) == {"name": "seen", "error": None}
    for absent in ("jax", "flax", "neuralmon.errors", "neuralmon.training", "matplotlib.pyplot", "scipy", "pandas"):
        assert f"'{absent}'" not in modules
    assert "'matplotlib'" in modules and "'neuralmon.figures.classes'" in modules


# Importing all of neuralmon takes seconds.
ALONE = """
    import sys, time, types
    package = types.ModuleType("neuralmon")
    package.__path__ = ["neuralmon"]
    sys.modules["neuralmon"] = package
    from neuralmon import figures
"""
OWNER = f"""{ALONE}
    drawing = figures.Drawing(sys.argv[1])
    drawing.draw("confusion_matrix", counts=[[5, 1], [0, 4]])
    try:
        print(drawing._process.pid, flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print(drawing.finish(60))
"""


def test_asking_for_figures_imports_neither_matplotlib_nor_anything_else_of_neuralmon():
    program = f"{ALONE}    print(*sorted(name for name in sys.modules if name.startswith(('matplotlib', 'neuralmon'))))"
    output, errors = python(program).communicate(timeout=60)
    names = ["neuralmon", "neuralmon.figures", "neuralmon.figures.grid", "neuralmon.figures.worker"]
    assert output.split() == names, errors


def test_when_training_is_killed_the_process_draws_what_was_asked_and_ends(tmp_path):
    owner = python(OWNER, tmp_path / "figures")
    process_id = int(owner.stdout.readline())
    assert alive(process_id)
    owner.kill()
    owner.wait()
    assert wait_until(lambda: not alive(process_id))
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["confusion_matrix.png"]


def test_ctrl_c_at_the_terminal_neither_stops_it_nor_makes_it_print(tmp_path):
    owner = python(OWNER, tmp_path / "figures", start_new_session=True)
    process_id = int(owner.stdout.readline())
    os.killpg(owner.pid, signal.SIGINT)  # as the terminal does: to the whole group
    os.kill(process_id, 0)
    output, errors = owner.communicate(timeout=60)
    assert (output.strip(), errors) == ("[]", "")
    assert (tmp_path / "figures" / "confusion_matrix.png").exists()


def test_leaving_without_finish_waits_for_nothing(tmp_path):
    with figures.Drawing(tmp_path) as drawing:
        drawing.draw("confusion_matrix", counts=COUNTS)
        process = drawing._process
        start = time.monotonic()
    assert time.monotonic() - start < 0.5
    process.wait(60)
    assert (tmp_path / "confusion_matrix.png").exists()
