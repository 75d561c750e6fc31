"""The process's settings do what they are for, and what a kill left behind does no lasting harm."""

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from neuralmon.training import environment

_PROGRAM = """
from neuralmon.training import environment
environment.configure()
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
    environment._mend_cache()
    assert compilation_cache.get_executable_and_time is another
    monkeypatch.delattr(compilation_cache, "get_executable_and_time")
    environment._mend_cache()
    assert not hasattr(compilation_cache, "get_executable_and_time")


def test_the_mend_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from jax._src import compilation_cache

    monkeypatch.setattr(compilation_cache, "get_executable_and_time", compilation_cache.get_executable_and_time)
    environment._mend_cache()
    mended = compilation_cache.get_executable_and_time
    environment._mend_cache()
    assert compilation_cache.get_executable_and_time is mended


def test_the_description_names_what_matters_and_is_installed() -> None:
    described = environment.describe()
    versions = described["versions"]
    assert versions["jax"] == metadata.version("jax")
    for name in ("grain", "pillow"):
        assert versions.get(name) == (metadata.version(name) if environment._installed(name) else None)
    assert not environment._installed("no-such-package")
    assert "jax_compilation_cache_max_size" not in described  # with one, a kill breaks the cache for good
