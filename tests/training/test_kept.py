"""Programs that are kept between launches: found again when nothing has changed, and never when something has."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon import process
from neuralmon.ops import reference
from neuralmon.ops.reference import is_reference
from neuralmon.training import kept
from neuralmon.training.kept import Ready


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(process, "programs_folder", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=nm.data.Iris(),
        model=nm.models.MLP(hidden=(4,)),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=1e-2),
        training=nm.Training(batch_size=8, steps=3),
    ).resolve()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.programs"))


def test_a_second_launch_neither_traces_nor_compiles_and_trains_the_same(
    folder: Path, experiment: nm.Experiment
) -> None:
    first, launches = nm.train(experiment, folder / "one"), []
    assert len(_entries(folder)) == 1
    events: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: events.append(event))
    for change in ({}, {"learning_rate": 1e-1}):
        optimizer = nm.optim.Adam(**{"learning_rate": 1e-2, **change})
        other = nm.Experiment(
            dataset=experiment.dataset,
            model=experiment.model,
            task=experiment.task,
            optimizer=optimizer,
            training=experiment.training,
        )
        ready = Ready(other.resolve())
        assert ready.kept is not None, change
        events.clear()
        program = ready.load()
        assert not [event for event in events if "trace" in event or "compile" in event]
        state = program.init(ready.numbers)
        assert jax.tree.structure(state) == jax.tree.structure(ready.state)
        launches.append(nm.train(other, folder / f"again{change}"))
    assert launches[0].fingerprint == first.fingerprint != launches[1].fingerprint
    record = json.loads((folder / "again{}" / "launches.json").read_text())
    assert record[-1]["program"] == "kept"


def test_changed_structures_settings_and_definitions_are_other_programs(
    folder: Path, experiment: nm.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name() -> str:
        ready = Ready(experiment)
        found = kept.shelf(experiment, ready.program, ready.mesh)
        assert found is not None
        return found.path.name

    names = [name()]
    with reference():
        names.append(name())
    with jax.enable_x64(True):
        names.append(name())
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + " --xla_cpu_enable_fast_math=false")
    names.append(name())
    assert len(set(names)) == 4


def test_a_changed_file_is_noticed_and_the_same_program_is_kept_on(
    folder: Path, experiment: nm.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder / "source.py"
    source.write_text("one = 1")
    files = kept._module_files
    monkeypatch.setattr(kept, "_module_files", lambda: [*files(), str(source)])
    Ready(experiment).load()
    assert Ready(experiment).kept is not None
    compiled = _entries(folder)[0].read_bytes()
    source.write_text("one = 1  # and a word more")
    assert Ready(experiment).kept is None
    again = Ready(experiment)
    again.load()
    assert again.said == "kept, as traced again"
    assert Ready(experiment).kept is not None
    assert len(_entries(folder)[0].read_bytes()) == pytest.approx(len(compiled), abs=200)
    source.unlink()
    assert Ready(experiment).kept is None


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: b"", lambda c: c[::-1]]
)
def test_a_damaged_file_is_written_again(damage: object, folder: Path, experiment: nm.Experiment) -> None:
    Ready(experiment).load()
    (entry,) = _entries(folder)
    entry.write_bytes(damage(entry.read_bytes()))  # type: ignore[operator]
    ready = Ready(experiment)
    assert ready.kept is None
    state = ready.load().init(ready.numbers)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert Ready(experiment).kept is not None


def test_a_program_that_does_not_load_is_compiled(
    folder: Path, experiment: nm.Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ready(experiment).load()

    def load(*_: object) -> None:
        raise RuntimeError("made for another processor")

    monkeypatch.setattr(kept.Kept, "load", load)
    ready = Ready(experiment)
    ready.load().init(ready.numbers)
    assert ready.said == "compiled and not kept: RuntimeError: made for another processor"


def test_programs_of_parts_of_ones_own_are_not_kept(folder: Path, experiment: nm.Experiment) -> None:
    class Mine(nn.Module):
        num_classes: int | None = None

        @nn.compact
        def __call__(self, inputs: jax.Array) -> jax.Array:
            return nn.Dense(self.num_classes or 1)(inputs)

    own = dataclasses.replace(experiment, model=Mine(num_classes=3))
    assert not _entries(folder) and Ready(own).load() is Ready(own).program
    assert not _entries(folder)
    # However deep, and whatever kind of thing.
    for part in (Mine, lambda inputs: inputs, Mine(), functools.partial(nn.relu)):
        assert not all(map(kept._is_ours, kept._pieces((nn.relu, {"one": [part]}))))
    assert all(
        map(kept._is_ours, kept._pieces((nn.relu, jax.numpy.tanh, nm.models.MLP(), 1.0, None, ("a", np.ones(1)))))
    )


def test_a_library_keeps_nothing(experiment: nm.Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_started", None)
    ready = Ready(experiment)
    assert kept.shelf(experiment, ready.program, ready.mesh) is None


@pytest.mark.slow
def test_the_command_line_keeps_and_finds_programs(root: Path, tmp_path: Path) -> None:
    environ = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")}
    records = []
    for words in ([], ["--optimizer.learning_rate.peak=0.1"], ["--reference_ops"]):
        workdir = tmp_path / str(len(records))
        command = [
            sys.executable,
            "launch.py",
            "--experiment=softmax_mnist",
            "--training.steps=1",
            f"--workdir={workdir}",
        ]
        subprocess.run([*command, "--quiet", "--figures=false", *words], cwd=root, env=environ, check=True)
        records.append(json.loads((workdir / "launches.json").read_text())[-1])
    assert [record["program"] for record in records] == ["compiled and kept", "kept", "compiled and kept"]
    assert [record["reference_ops"] for record in records] == [False, False, True]
    assert all(record["native"] for record in records)


class _Asks(nn.Module):
    """Notes whether it is traced among the plain definitions."""

    num_classes: int | None = None

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        _asked.append(is_reference())
        return nn.Dense(self.num_classes or 1)(inputs)


_asked: list[bool] = []


@pytest.mark.parametrize("reference_ops", [False, True])
def test_one_option_trains_with_the_plain_definitions(reference_ops: bool, experiment: nm.Experiment) -> None:
    _asked.clear()
    nm.train(dataclasses.replace(experiment, model=_Asks()), reference_ops=reference_ops)
    assert set(_asked) == {reference_ops}
