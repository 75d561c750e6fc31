"""What is promised of checkpoints: nothing lost, nothing wrong, nothing silent."""

import contextlib
import dataclasses
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuralmon.errors import RequestError, RunError
from neuralmon.training import checkpoint
from neuralmon.training.checkpoint import Checkpoints, fingerprint


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    step: Any
    params: Any
    opt_state: Any
    extra: Any = None


def make_state(seed: int = 0, width: int = 7) -> State:
    keys = jax.random.split(jax.random.key(seed), 2)
    params = {
        "Dense_0": {
            "kernel": jax.random.normal(keys[0], (5, width)),
            "bias": jax.random.normal(keys[1], (width,), jnp.bfloat16),
        },
        "table": jnp.arange(6, dtype=jnp.uint32).reshape(2, 3) + jnp.uint32(seed),
        "nothing": None,
    }
    optimizer = optax.chain(optax.clip(1.0), optax.adamw(1e-3))
    return State(jnp.int32(seed), params, optimizer.init({"w": params["Dense_0"]["kernel"]}))


def like(state: Any) -> Any:
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x), sharding=device), state)


def same(left: Any, right: Any) -> bool:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    return all(
        a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b))
        for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    )


def no_notice(text: str) -> None:
    raise AssertionError(f"unexpected notice: {text}")


def checkpoints_in(folder: Path, **kwargs: Any) -> Checkpoints:
    return Checkpoints(folder, **{"keep_last": 2, "best": ("accuracy", "max"), "notice": no_notice, **kwargs})


Make = Callable[..., Checkpoints]


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Checkpoints in one folder, closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda **kwargs: stack.enter_context(checkpoints_in(tmp_path / "checkpoints", **kwargs))


def test_round_trip(make: Make) -> None:
    state = make_state(3)
    with make() as checkpoints:
        checkpoints.save(3, state, {"accuracy": 0.5})
        checkpoints.save(4, make_state(4), {})
    restored = make().restore(like(state), 3)
    assert restored is not None
    assert restored.step == 3
    assert same(restored.state, state)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(restored.state))
    latest = make().restore(like(state))
    assert latest is not None
    assert latest.step == 4
    assert same(latest.state, make_state(4))


def test_fingerprint_sees_path_dtype_shape_and_every_bit() -> None:
    tree = {"a": jnp.zeros((2, 3)), "b": jnp.ones(2, jnp.bfloat16)}
    others = [
        {"a": tree["a"], "c": tree["b"]},
        {"a": tree["a"], "b": tree["b"].view(jnp.int16)},
        {"a": tree["a"].T, "b": tree["b"]},
        {"a": -tree["a"], "b": tree["b"]},  # -0.0
    ]
    assert len({fingerprint(t) for t in [tree, *others]}) == 5
    assert fingerprint(tree) == fingerprint(jax.tree.map(np.asarray, tree))
    with pytest.raises(ValueError, match="same path"):
        fingerprint({"a/b": jnp.zeros(1), "a": {"b": jnp.zeros(1)}})


def test_is_readable_by_orbax_alone(make: Make, tmp_path: Path) -> None:
    from orbax.checkpoint import v1 as ocp

    state = make_state()
    with make() as checkpoints:
        checkpoints.save(4, state, {"accuracy": 0.5})
    path = tmp_path / "checkpoints" / "4"
    kernel = ocp.load(path)["params/Dense_0/kernel"]
    assert np.array_equal(kernel, state.params["Dense_0"]["kernel"])
    assert ocp.metadata(path).custom_metadata == {"metrics": {"accuracy": 0.5}, "fingerprint": fingerprint(state)}


def test_empty_folder_needs_no_orbax(tmp_path: Path) -> None:
    run(
        f"""
        with Checkpoints(Path({str(tmp_path / "none")!r}), 2, ("a", "max"), print) as checkpoints:
            assert checkpoints.restore({{}}) is None and checkpoints.restore({{}}, "best") is None
            assert checkpoints.steps() == ()
        assert not [name for name in sys.modules if name.startswith("orbax")]
        """
    )


def test_donated_at_once(make: Make) -> None:
    """The snapshot is taken before save returns, though the buffers are then overwritten."""
    step = jax.jit(lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0)
    state = step({"w": jnp.zeros((512, 1024)), "n": jnp.int32(0)})
    checkpoints = make(keep_last=5)
    for number in range(1, 6):
        checkpoints.save(number, state, {})
        state = step(state)
        state = step(state)
    checkpoints.wait()
    for number in range(1, 6):
        restored = checkpoints.restore(like(state), number)
        assert restored is not None
        assert np.unique(np.asarray(restored.state["w"])) == [2 * number - 1]
        moved = step(restored.state)  # what is restored may be donated as well
        assert np.unique(np.asarray(moved["w"])) == [2 * number] == [int(moved["n"])]


@pytest.mark.parametrize(("direction", "sign"), [("max", 1), ("min", -1)])
def test_keeps_the_last_and_the_best(make: Make, direction: str, sign: int) -> None:
    checkpoints = make(best=("accuracy", direction))
    assert checkpoints.restore(like(make_state()), "best") is None
    for step, score in enumerate([0.1, 0.9, 0.3, float("nan"), 0.9, None]):
        metrics = {} if score is None else {"accuracy": sign * score, "loss": -step}
        checkpoints.save(step, make_state(step), metrics)
    checkpoints.wait()
    assert checkpoints.steps() == (1, 4, 5)
    best = make(best=("accuracy", direction)).restore(like(make_state()), "best")  # known from the disk alone
    assert best is not None
    assert best.step == 1  # of several the earliest
    assert same(best.state, make_state(1))
    with pytest.raises(RequestError, match=r"f1.*holds steps: 1, 4, 5"):
        make(best=("f1", "max")).restore(like(make_state()), "best")


@pytest.mark.parametrize("step", [4, 5])
def test_what_is_there_is_not_saved_over(make: Make, step: int) -> None:
    checkpoints = make()
    checkpoints.save(5, make_state(1), {})
    with pytest.raises(ValueError, match=f"step {step} is not after"):
        checkpoints.save(step, make_state(2), {})
    restored = checkpoints.restore(like(make_state()))
    assert restored is not None
    assert same(restored.state, make_state(1))


def test_a_cluster_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(RequestError, match="several processes"):
        make()


def test_unknown_step(make: Make) -> None:
    checkpoints = make()
    with pytest.raises(RequestError, match=r"no checkpoint at step 7; .* holds steps: none"):
        checkpoints.restore(like(make_state()), 7)
    checkpoints.save(1, make_state(), {})
    checkpoints.save(2, make_state(), {})
    with pytest.raises(RequestError, match=r"no checkpoint at step 7; .* holds steps: 1, 2"):
        checkpoints.restore(like(make_state()), 7)


def test_another_tree_is_not_damage(make: Make) -> None:
    checkpoints = make()
    checkpoints.save(1, make_state(), {})
    with pytest.raises(RequestError) as error:
        checkpoints.restore(like(make_state(width=8)))
    assert "params/Dense_0/bias is bfloat16[7] there and bfloat16[8] here" in str(error.value)
    assert "4 differences in all" in str(error.value)
    other = make_state()
    other.params["more"] = other.params.pop("table").astype(jnp.int32)
    with pytest.raises(RequestError) as error:
        checkpoints.restore(like(other))
    assert "params/more is missing there and int32[2,3] here" in str(error.value)
    assert "params/table is uint32[2,3] there and missing here" in str(error.value)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[len(data) // 2] ^= 0x10
        path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink])
def test_damage_to_any_file(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Whichever file is hit: it did not matter, or the checkpoint before is taken, and said."""
    good, kinds = tmp_path / "good", set()
    states = {step: {"w": jax.random.normal(jax.random.key(step), (64, 64))} for step in (80, 120)}
    with checkpoints_in(good) as checkpoints:
        for step, state in states.items():
            checkpoints.save(step, state, {})
    files = [path for path in sorted((good / "120").rglob("*")) if path.is_file()]
    assert len(files) > 5
    for file in files:
        folder, notices = tmp_path / "hit", list[str]()
        shutil.copytree(good, folder)
        damage(folder / file.relative_to(good))
        with checkpoints_in(folder, notice=notices.append) as checkpoints:
            restored = checkpoints.restore(like(states[80]))
            assert restored is not None
            assert same(restored.state, states[restored.step])
            if restored.step == 80:
                kinds.add(file.parent.name)
                (notice,) = notices
                assert notice.startswith("checkpoint at step 120 is damaged (")
                assert notice.endswith("); continuing from step 80")
                assert len(notice) < 220
                with pytest.raises(RunError, match=r"checkpoint at step 120 is damaged .*80, 120"):
                    checkpoints.restore(like(states[80]), 120)
                checkpoints.save(120, states[120], {})
                again = checkpoints.restore(like(states[80]))
                assert again is not None
                assert again.step == 120
                assert len(notices) == 1
            else:
                assert restored.step == 120
                assert not notices
        shutil.rmtree(folder)
    assert {"120", "d"} <= kinds  # the description as well as the data


def test_a_damaged_checkpoint_does_not_push_out_a_good_one(make: Make, tmp_path: Path) -> None:
    checkpoints = make(keep_last=1)
    checkpoints.save(100, make_state(1), {})
    checkpoints.wait()
    shutil.copytree(tmp_path / "checkpoints" / "100", tmp_path / "checkpoints" / "120")
    shutil.rmtree(tmp_path / "checkpoints" / "120" / "state")
    notices: list[str] = []
    again = make(keep_last=2, notice=notices.append)
    restored = again.restore(like(make_state()))
    assert restored is not None
    assert restored.step == 100
    assert len(notices) == 1
    again.save(140, make_state(2), {})
    again.wait()
    assert again.steps() == (100, 140)


def test_reading_while_another_process_writes(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint that is deleted while it is read is not damaged: there is a newer one."""
    writer = make(keep_last=1)
    writer.save(1, make_state(1), {})
    writer.wait()
    original, read = checkpoint._read, list[str]()

    def meanwhile(path: Path, like: Any) -> Any:
        read.append(path.name)
        if len(read) == 1:
            writer.save(2, make_state(2), {})
            writer.wait()
        return original(path, like)

    monkeypatch.setattr(checkpoint, "_read", meanwhile)
    restored = make().restore(like(make_state()))
    assert restored is not None
    assert restored.step == 2
    assert read == ["1", "2"]


def test_all_damaged(make: Make, tmp_path: Path) -> None:
    checkpoints = make()
    checkpoints.save(1, make_state(), {})
    checkpoints.save(2, make_state(), {})
    checkpoints.wait()
    for step in ("1", "2"):
        for path in (tmp_path / "checkpoints" / step / "state").rglob("*"):
            if path.is_file():
                truncate(path)
    with pytest.raises(RunError) as error:
        checkpoints.restore(like(make_state()))
    text = str(error.value)
    assert str(tmp_path / "checkpoints") in text
    assert "delete it to start from step 0" in text
    assert "step 1 is damaged" in text
    assert "step 2 is damaged" in text


@pytest.mark.parametrize("surfaces", ["save", "wait", "__exit__"])
def test_full_disk(make: Make, surfaces: str) -> None:
    """A limit on file size stands in for a full disk: the write itself fails, halfway."""
    checkpoints = make()
    state = {"w": jax.random.normal(jax.random.key(0), (1000, 1000))}
    arguments = {"save": (3, state, {}), "wait": (), "__exit__": (None, None, None)}[surfaces]
    checkpoints.save(1, state, {})
    checkpoints.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        checkpoints.save(2, state, {})
        time.sleep(0.3)
        with pytest.raises(RunError, match=r"step 2 could not be written .*File too large.*: 1$"):
            getattr(checkpoints, surfaces)(*arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    checkpoints = make()
    checkpoints.save(4, state, {})  # with room again, all is well and nothing is left over
    checkpoints.wait()
    assert checkpoints.steps() == (1, 4)


def test_an_error_on_its_way_out_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    notices: list[str] = []

    def interrupted() -> None:
        with checkpoints_in(tmp_path / "file" / "folder", notice=notices.append) as checkpoints:
            checkpoints.save(1, make_state(), {})
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert len(notices) == 1
    assert "could not be written" in notices[0]
    assert "Not a directory" in notices[0]


HEAD = """
import sys
import jax, jax.numpy as jnp, numpy as np
from pathlib import Path
from neuralmon.training.checkpoint import Checkpoints, fingerprint
"""


def start(code: str, **environment: str) -> subprocess.Popen[str]:
    lines = code.splitlines()
    indent = len(lines[1]) - len(lines[1].lstrip())
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + "\n".join(line[indent:] for line in lines)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        cwd=Path(__file__).parents[2],
    )


def run(code: str, **environment: str) -> str:
    process = start(code, **environment)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""  # neither Orbax nor anybody else writes to the terminal
    return out


def test_another_number_of_devices(make: Make, tmp_path: Path) -> None:
    """One device to two, sharded, and back."""
    state = {"w": jnp.arange(12.0).reshape(4, 3), "n": jnp.int32(5)}
    checkpoints = make()
    checkpoints.save(1, state, {"loss": 1.0})
    checkpoints.wait()
    out = run(
        f"""
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
        def leaf(shape, dtype, *axes):
            sharding = NamedSharding(mesh, PartitionSpec(*axes))
            return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        like = {{"w": leaf((4, 3), "float32", "data"), "n": leaf((), "int32")}}
        with Checkpoints(Path({str(tmp_path / "checkpoints")!r}), 2, ("a", "max"), print) as checkpoints:
            state = checkpoints.restore(like).state
            assert state["w"].sharding.is_equivalent_to(like["w"].sharding, 2)
            assert len(state["w"].addressable_shards) == 2
            state = jax.jit(lambda s: jax.tree.map(lambda x: x * 2, s))(state)
            checkpoints.save(2, state, {{}})
        print(fingerprint(state))
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    restored = checkpoints.restore(like(state))
    assert restored is not None
    assert restored.step == 2
    assert same(restored.state, jax.tree.map(lambda x: x * 2, state))
    assert out.strip() == fingerprint(restored.state)


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    """A process that resumes and saves is killed again and again, in the middle of saving."""
    folder, width = tmp_path / "checkpoints", 1_000_000
    code = f"""
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        like = {{"w": jax.ShapeDtypeStruct(({width},), "float32", sharding=sharding)}}
        sys.stdin.readline()
        checkpoints = Checkpoints(Path({str(folder)!r}), 1, ("accuracy", "max"), print)
        restored = checkpoints.restore(like)
        step = restored.step if restored else 0
        while True:
            step += 1
            checkpoints.save(step, {{"w": jnp.full({width}, step, jnp.float32)}}, {{}})
            print(step, flush=True)
        """
    moments, reached = random.Random(0), 0
    for process in [start(code) for _ in range(8)]:  # they import side by side, then run in turn
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        for _ in range(2):
            reached = max(reached, int(process.stdout.readline()))
        time.sleep(moments.uniform(0.0, 0.25))
        process.send_signal(signal.SIGKILL)
        out, err = process.communicate()
        assert err == ""
        printed = [reached, *map(int, out.split())]
        with checkpoints_in(folder) as checkpoints:
            restored = checkpoints.restore(like({"w": np.zeros(width, np.float32)}))
        assert restored is not None  # what save() returned from before the last call is there
        assert max(printed) - 1 <= restored.step <= max(printed) + 1
        assert np.unique(np.asarray(restored.state["w"])) == [restored.step]
        reached = restored.step
    with checkpoints_in(folder, keep_last=1) as checkpoints:
        checkpoints.save(reached + 1, {"w": jnp.zeros(3)}, {})
    assert [path.name for path in folder.iterdir()] == [str(reached + 1)]
