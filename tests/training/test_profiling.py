"""A trace holds the steps that were asked for, and only those."""

import gzip
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from neuralmon.errors import RequestError, RunError
from neuralmon.training.profiling import Profile, parse_range


@pytest.mark.parametrize(
    ("text", "expected"), [("100:110", (100, 110)), ("100", (100, 101)), ("0:1", (0, 1)), (" 3 : 7 ", (3, 7))]
)
def test_ranges(text: str, expected: tuple[int, int]) -> None:
    assert parse_range(text) == expected


@pytest.mark.parametrize("text", ["", ":", "5:", ":5", "a:b", "-1:5", "1:2:3", "1.5", "10:10", "10:9", "٣"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"^profile: .*") as caught:
        parse_range(text)
    assert repr(text) in str(caught.value) and "\n" not in str(caught.value)


def test_a_range_beyond_the_run_is_refused(tmp_path: Path) -> None:
    Profile(90, 100, tmp_path).check(100)
    for start, stop in ((90, 101), (100, 101), (500, 510)):
        with pytest.raises(RequestError, match=r"beyond the run, which has 100 steps \(0 to 99\)"):
            Profile(start, stop, tmp_path).check(100)


@jax.jit
def _chunk(state: jax.Array, length: int) -> jax.Array:
    return jax.lax.fori_loop(0, length, lambda _, x: jnp.tanh(x @ x), state)


def _run(profile: Profile, first: int, num_steps: int) -> list[int]:
    """A loop as in training, in chunks of 4; returns where the chunks began."""
    state, step, starts = jnp.ones((64, 64)), first, []
    with profile:
        while step < num_steps:
            profile.at(step, state)
            end = min([num_steps, (step // 4 + 1) * 4, *(cut for cut in profile.cuts if cut > step)])
            with profile.step(step):
                state = _chunk(state, end - step)
            starts.append(step)
            step = end
        profile.at(step, state)
    return starts


def _events(folder: Path) -> list[dict[str, Any]]:
    (path,) = folder.glob("*.trace.json.gz")
    with gzip.open(path) as file:
        return json.load(file)["traceEvents"]


def _steps(folder: Path) -> list[int]:
    """Numbers of the steps that a trace names."""
    return sorted(int(event["args"]["step_num"]) for event in _events(folder) if event.get("name") == "train")


def _traces(folder: Path) -> list[Path]:
    return sorted((folder / "plugins" / "profile").iterdir()) if folder.exists() else []


def test_the_trace_names_its_steps_and_holds_their_work(tmp_path: Path) -> None:
    profile = Profile(5, 10, tmp_path / "run" / "profile")
    assert _run(profile, 0, 16) == [0, 4, 5, 8, 10, 12]
    (trace,) = _traces(tmp_path / "run" / "profile")
    assert profile.written == trace and not profile.running
    assert _steps(trace) == [5, 8]
    assert list(trace.glob("*.xplane.pb"))
    # Five steps' products: the work is finished, not only handed to the device.
    events = _events(trace)
    operations = [event for event in events if event.get("args", {}).get("hlo_module") == "jit__chunk"]
    names = [event["name"] for event in operations]
    assert operations and max(names.count(name) for name in set(names)) >= 5


@pytest.mark.parametrize(("first", "expected"), [(0, [5, 8]), (7, [7, 8]), (8, [8]), (10, None), (12, None)])
def test_a_run_resumed_within_the_range_traces_the_rest(tmp_path: Path, first: int, expected: list[int] | None) -> None:
    _run(Profile(5, 10, tmp_path / "profile"), first, 16)
    assert [_steps(trace) for trace in _traces(tmp_path / "profile")] == ([expected] if expected else [])


def test_a_range_up_to_the_last_step(tmp_path: Path) -> None:
    profile = Profile(14, 16, tmp_path)
    _run(profile, 0, 16)
    assert [_steps(trace) for trace in _traces(tmp_path)] == [[14]]
    assert profile.written is not None


def test_an_error_ends_the_trace_and_stays_the_news(tmp_path: Path) -> None:
    profile = Profile(0, 10, tmp_path / "profile")

    def interrupted() -> None:
        with profile:
            profile.at(0, ())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not profile.running and len(_traces(tmp_path / "profile")) == 1
    _run(Profile(0, 1, tmp_path / "again"), 0, 1)  # jax allows one trace at a time
    assert len(_traces(tmp_path / "again")) == 1


def test_what_hinders_a_trace_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"no trace can be taken into .*file"):
        Profile(0, 1, tmp_path / "file").at(0, ())
    with Profile(0, 5, tmp_path / "one") as one:
        one.at(0, ())
        with pytest.raises(RunError, match="already been started"):
            Profile(0, 5, tmp_path / "two").at(0, ())
