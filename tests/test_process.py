"""The process's settings do what they are for, and what a kill left behind does no lasting harm."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from neuralmon import process
from neuralmon.arguments import PARTS
from neuralmon.experiment import Experiment
from neuralmon.names import field_names

_PROGRAM = """
from neuralmon import process
process.configure()
import jax, jax.numpy as jnp
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
print(float(jax.jit(lambda x: jnp.tanh(x @ x).sum() + 37)(jnp.ones((8, 8)))))
print(events.count("cache_hits"), events.count("cache_misses"))
"""


def _launch(cache: Path) -> tuple[str, int, int, str]:
    """Returns what is printed, the programs that were read and those that were stored, and what stderr says."""
    settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environ = {**os.environ, **settings, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", _PROGRAM], env=environ, capture_output=True, text=True, check=True)
    value, counts = done.stdout.splitlines()
    hits, misses = map(int, counts.split())
    return value, hits, misses, done.stderr


def test_truncated_entries_of_the_compilation_cache_are_replaced(tmp_path: Path) -> None:
    value, hits, misses, noise = _launch(tmp_path)
    assert hits == 0 and misses > 0 and not noise
    entries = {path: path.read_bytes() for path in tmp_path.glob("*-cache")}
    assert len(entries) == misses
    for path, content in entries.items():
        path.write_bytes(content[: len(content) // 2])
    again, hits, _, noise = _launch(tmp_path)
    assert again == value and hits == 0
    assert "Error reading persistent compilation cache" in noise  # said once
    for path, content in entries.items():
        assert len(path.read_bytes()) > 0.9 * len(content)
    assert _launch(tmp_path) == (value, misses, 0, "")


def test_unknown_internals_of_jax_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from jax._src import compilation_cache

    def another(key: str, backend: object) -> None:
        del key, backend

    monkeypatch.setattr(compilation_cache, "get_executable_and_time", another)
    process._mend_cache()
    assert compilation_cache.get_executable_and_time is another
    monkeypatch.delattr(compilation_cache, "get_executable_and_time")
    process._mend_cache()
    assert not hasattr(compilation_cache, "get_executable_and_time")


def test_the_mend_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from jax._src import compilation_cache

    monkeypatch.setattr(compilation_cache, "get_executable_and_time", compilation_cache.get_executable_and_time)
    process._mend_cache()
    mended = compilation_cache.get_executable_and_time
    process._mend_cache()
    assert compilation_cache.get_executable_and_time is mended


def test_the_description_names_what_matters_and_is_installed() -> None:
    described = process.describe()
    versions = described["versions"]
    assert versions["jax"] == metadata.version("jax")
    for name in ("grain", "pillow"):
        assert versions.get(name) == (metadata.version(name) if process._installed(name) else None)
    assert not process._installed("no-such-package")
    assert "jax_compilation_cache_max_size" not in described  # with one, a kill breaks the cache for good


_LIBRARY = """
import ctypes, gc, json, os, sys
before = dict(os.environ), gc.isenabled(), gc.get_threshold(), sys.path[:]
import neuralmon
loaded = "jax" in sys.modules
import jax
config = {name: repr(value) for name, value in jax.config.values.items()}
for name in neuralmon.__all__:
    getattr(neuralmon, name)
after = dict(os.environ), gc.isenabled(), gc.get_threshold(), sys.path[:]
changed = {name for name, value in jax.config.values.items() if config[name] != repr(value)}
from neuralmon import process
print(json.dumps([loaded, before == after, sorted(changed), process.programs_folder() is None]))
"""


def test_importing_neuralmon_changes_no_setting_of_the_process() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run([sys.executable, "-c", _LIBRARY], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True, [], True]


_SETTINGS = """
import json, os, sys
from neuralmon import process
process.configure()
import jax
print(json.dumps([os.environ["XLA_FLAGS"], jax.config.jax_persistent_cache_min_compile_time_secs]))
"""


@pytest.mark.parametrize("flags", ["", "--xla_cpu_experimental_ynn_fusion_type=+reduce"])
def test_what_the_user_has_set_stays(flags: str, tmp_path: Path) -> None:
    own = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "7", "JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    environ = {**os.environ, **own, "XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, "-c", _SETTINGS], env=environ, capture_output=True, text=True, check=True)
    said, seconds = json.loads(done.stdout)
    assert seconds == 7
    assert said == (flags or "--xla_cpu_experimental_ynn_fusion_type=-individual_convolution")


@pytest.mark.parametrize("word", ["--help", "--list", "--experiment=nope", "--no_such_flag"])
def test_quick_answers_load_no_jax(word: str, root: Path) -> None:
    program = f"import sys; from neuralmon.cli import main; code = main(['launch.py', {word!r}])"
    program += "; print('jax' in sys.modules, code)"
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == f"False {0 if word in ('--help', '--list') else 2}"


def test_garbage_is_collected_again_once_training_begins() -> None:
    import gc

    process.hasten()
    assert not gc.isenabled()
    process.begun()
    assert gc.isenabled()
    gc.unfreeze()
    gc.disable()
    try:  # who has switched it off keeps it off
        process.hasten()
        process.begun()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_parts_of_an_experiment_are_its_fields() -> None:
    assert field_names(Experiment) == PARTS
