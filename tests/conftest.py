"""Shared fixtures."""

import os
import tempfile
from pathlib import Path

# Before jax starts, and inherited by the tests' processes: what one of them compiled, none compiles again.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="neuralmon-tests-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import pytest

import neuralmon as nm

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def tiny() -> nm.Experiment:
    """A second's training, with dropout and augmentation (tests/tiny.py)."""
    return nm.load_experiment(str(ROOT / "tests" / "tiny.py"))
