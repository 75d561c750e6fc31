"""What machine this is, and whether it is as fast as a moment ago."""

import os
import platform
import statistics
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

_PACKAGES = ("neuralmon", "jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers")
_SIZE = 1024


def described() -> dict[str, Any]:
    """Returns processor, cores and versions."""
    information = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in _lines(information) if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def speed(seconds: float = 0.15) -> float:
    """Returns how many operations a second a fixed matrix product does: the middle of those in so many seconds."""
    matrix = np.full((_SIZE, _SIZE), 0.5, np.float32)
    matrix @ matrix
    times: list[float] = []
    while sum(times) < seconds:
        begun = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - begun)
    return 2 * _SIZE**3 / statistics.median(times)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
