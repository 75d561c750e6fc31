"""Shared fixtures."""

import os
from pathlib import Path

# Before jax starts: two devices for the tests of data parallelism would slow all others, so these run in processes.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

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
