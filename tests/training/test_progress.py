"""A person sees where the run stands; a pipe gets one line per evaluation; nothing is left over."""

import ast
import inspect
import io
import math
import re
import sys
import time
import types
from typing import Any

import pytest

from neuralmon.training import progress, writers
from neuralmon.training.progress import LiveBar, PlainLines, Progress, Silent, progress_for

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FakeClock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    return monkeypatch


def _run(shown: Progress, clock: FakeClock, first: int = 0, compile_seconds: float = 20) -> None:
    """Chunks of 43 steps and 0.5 s each, evaluated every 430 steps."""
    with shown:
        shown.start("cnn_mnist", 2150, first)
        clock.now += compile_seconds
        for step in range(first + 43, 2151, 43):
            clock.now += 0.5
            compiling = step == first + 43
            metrics: dict[str, Any] = {"grad_norm": 1.5, "accuracy": 0.979, "loss": 0.0712}
            shown.train(step, metrics, 50 if compiling else 9120)
            if step % 430 == 0:
                metrics = {"loss": 0.0512, "accuracy": 0.985, "confusion": [[1, 0], [0, 1]]}
                shown.evaluation(step, "validation", metrics)
        shown.notice("saved")


def test_a_pipe_gets_one_line_per_evaluation() -> None:
    stream, clock = io.StringIO(), FakeClock()
    _run(PlainLines(stream, clock), clock)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[1] == (
        "step  860/2150  40 %  train loss 0.07120 accuracy 0.9790 grad_norm 1.500 | "
        "validation loss 0.05120 accuracy 0.9850 | 9,120 examples/s | ETA 0:15"
    )
    assert lines[4].startswith("step 2150/2150 100 %") and lines[4].endswith("ETA 0:00")
    assert lines[5] == "saved"


@pytest.mark.parametrize("first", [0, 430])
@pytest.mark.parametrize("compile_seconds", [0, 300])
def test_eta_knows_only_this_launch_and_no_compilation(first: int, compile_seconds: float) -> None:
    stream, clock = io.StringIO(), FakeClock()
    _run(PlainLines(stream, clock), clock, first, compile_seconds)
    etas = dict(re.findall(r"step +(\d+)/.* ETA (\S+)", stream.getvalue()))
    assert etas["860"] == "0:15" and etas["1290"] == "0:10" and etas["2150"] == "0:00"


def test_eta_is_left_out_until_two_chunks_ended_and_then_counts_down() -> None:
    clock = FakeClock()
    stream = io.StringIO()
    plain = PlainLines(stream, clock)
    plain.start("", 100, 0)
    plain.evaluation(0, "validation", {"loss": 2.0})
    for step in (10, 20):
        clock.now += 5
        plain.train(step, {"loss": 1.0}, 2)
        plain.evaluation(step, "validation", {"loss": 2.0})
    clock.now += 7
    plain.evaluation(20, "test", {"loss": 2.0})
    lines = stream.getvalue().splitlines()
    assert lines[0] == "step   0/100   0 %  validation loss 2.000"
    assert [line.rpartition(" | ")[2] for line in lines[1:]] == ["2 examples/s", "ETA 0:40", "ETA 0:33"]


def test_numbers_have_four_significant_digits_and_only_scalars_are_shown() -> None:
    stream = io.StringIO()
    values = {"a": 12345.6, "b": 999.97, "c": 1.2e-5, "d": math.nan, "e": 0}
    for name, value in values.items():
        PlainLines(stream).evaluation(0, "test", {name: value})
    found = re.findall(r"test \w (\S+)", stream.getvalue())
    assert found == ["12346", "1000", "1.200e-05", "nan", "0.000"]
    many = {"z": 1, "y": 1.0, "f1": {"3": 1.0}, "x": [1.0], "w": 1, "v": 1, "accuracy": 0.5, "loss": 2.0}
    PlainLines(stream).evaluation(0, "test", many)
    assert stream.getvalue().endswith("test loss 2.000 accuracy 0.5000 z 1.000 y 1.000\n")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("no_color", [False, True])
def test_the_bar_fits_the_terminal(environment: pytest.MonkeyPatch, width: int, no_color: bool) -> None:
    from rich.console import Console

    if no_color:
        environment.setenv("NO_COLOR", "1")
    clock = FakeClock()
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=True, highlight=False)
    for title in ("", "cnn_mnist", "x" * 300):
        with LiveBar(io.StringIO(), clock) as bar:  # not a terminal: rich shows nothing, the state remains
            bar.start(title, 2150, 0)
            console.print(bar)
            for step in (430, 860, 2150):
                clock.now += 4000
                bar.train(step, {"loss": 0.0712, "accuracy": 0.979, "grad_norm": 1, "lr": 1}, 9120)
                console.print(bar)
    text = re.sub(r"\x1b\[[\d;]*m", "", output.getvalue())
    lines = text.splitlines()
    assert len(lines) == 2 * 3 * 4 and max(map(len, lines)) <= width
    assert ("\x1b[32m" in output.getvalue()) == (not no_color)
    seen = [" 860/2150  40 %", "loss 0.07120"]
    seen += ["accuracy 0.9790"] if width >= 40 else []
    seen += ["━─", "ETA 3:20:00  2:13:20  cnn_mnist", "9,120 examples/s"] if width >= 80 else []
    assert all(part in text for part in seen)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_evaluations_stay_above_the_bar(environment: pytest.MonkeyPatch, width: int) -> None:
    environment.setenv("COLUMNS", str(width))
    terminal, clock = Terminal(), FakeClock()
    _run(LiveBar(terminal, clock), clock)
    text = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", terminal.getvalue())
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text)]
    assert max(map(len, lines)) <= width
    evaluations = [line for line in lines if "%  validation loss" in line]
    assert len(evaluations) == 5
    whole = " 860/2150  40 %  validation loss 0.05120 accuracy 0.9850  train loss 0.07120"
    assert (evaluations[1] == whole) == (width >= 80)
    assert "saved" in lines


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, None])
def test_the_cursor_comes_back(error: type[BaseException] | None) -> None:
    terminal = Terminal()
    stdout = sys.stdout
    try:
        with LiveBar(terminal) as bar:
            bar.start("a", 10, 0)
            if error is not None:
                raise error
    except (KeyboardInterrupt, SystemExit):
        pass
    bar.close()
    assert terminal.getvalue().rfind(SHOW) > terminal.getvalue().rfind(HIDE) >= 0
    assert sys.stdout is stdout


def test_refreshes_are_few_however_many_chunks() -> None:
    terminal = Terminal()
    with LiveBar(terminal) as bar:
        bar.start("a", 10**9, 0)
        began = time.monotonic()
        step = 0
        while time.monotonic() - began < 0.5:
            step += 1
            bar.train(step, {"loss": 1.0}, 10)
    assert step > 1000
    assert terminal.getvalue().count("ETA") <= 10


def test_serves_one_training_after_another() -> None:
    terminal = Terminal()
    bar = LiveBar(terminal)
    for title in ("first", "second"):
        with bar:
            bar.start(title, 10, 0)
            bar.train(10, {"loss": 1.0}, 10)
            bar.evaluation(10, title, {"loss": 1.0})
    assert terminal.getvalue().count(HIDE) == terminal.getvalue().count(SHOW) == 2


def test_the_form_follows_the_stream(environment: pytest.MonkeyPatch) -> None:
    assert type(progress_for(io.StringIO(), quiet=False)) is PlainLines
    assert type(progress_for(Terminal(), quiet=False)) is LiveBar
    assert type(progress_for(Terminal(), quiet=True)) is Silent
    environment.setenv("TERM", "dumb")
    assert type(progress_for(Terminal(), quiet=False)) is PlainLines
    environment.delenv("TERM")
    assert type(progress_for(Terminal(), quiet=False)) is LiveBar
    environment.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert type(progress_for(Terminal(), quiet=False)) is PlainLines


def test_quiet_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    _run(progress_for(Terminal(), quiet=True), FakeClock())
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("module", [progress, writers])
def test_nothing_slow_is_imported_before_it_is_needed(module: types.ModuleType) -> None:
    at_import = [
        name
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
    ]
    roots = {name.partition(".")[0] for name in at_import if name}
    assert "time" in roots and not roots & {"rich", "tensorboardX", "jax", "numpy"}
