"""Operations are counted as by hand, and compared with what the devices can do."""

import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.training import flops


def _mlp(tiny: nm.Experiment, **training: Any) -> nm.Experiment:
    changed = dataclasses.replace(tiny.training, **training)
    return dataclasses.replace(tiny, model=nm.models.MLP(hidden=(16,)), training=changed).resolve()


def test_a_step_is_three_times_the_forward_pass_of_a_batch(tiny: nm.Experiment) -> None:
    experiment = _mlp(tiny, batch_size=25)
    assert flops.forward_flops(experiment) == {"hidden_0": 25 * 2 * 64 * 16, "output": 25 * 2 * 16 * 6}
    assert flops.step_flops(experiment) == 3 * 25 * 2 * (64 * 16 + 16 * 6)
    # What is really done: the images need no gradient.
    assert flops.traced_flops(experiment) == 25 * 2 * (2 * 64 * 16 + 3 * 16 * 6)


def test_the_count_agrees_with_that_of_xla(tiny: nm.Experiment) -> None:
    """XLA counts elementwise work too, and the gradient to the inputs is needed by neither: hence the range."""
    model = nm.models.MLP(hidden=(256, 128), num_classes=6)
    experiment = dataclasses.replace(tiny, model=model).resolve()
    inputs = np.zeros((32, 8, 8, 1), np.float32)
    variables = model.init(jax.random.key(0), inputs)
    analysis = jax.jit(model.apply).lower(variables, inputs).compile().cost_analysis()
    assert analysis["flops"] == pytest.approx(flops.forward_flops(experiment).total(), rel=0.05)


def _device(kind: str, platform: str = "gpu", process: int = 0) -> Any:
    return SimpleNamespace(device_kind=kind, platform=platform, process_index=process)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v4", 275e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5", 459e12),
        ("TPU v6 lite", 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100 80GB PCIe", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L400", None),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("TPU v99", None),
        ("a toaster", None),
    ],
)
def test_peaks_of_accelerators(kind: str, peak: float | None) -> None:
    assert flops.peak_flops([_device(kind)]) == peak
    assert flops.peak_flops([_device(kind)] * 4) == (None if peak is None else 4 * peak)
    assert flops.utilisation(1e12, [_device(kind)]) == (None if peak is None else 1e12 / peak)


def test_one_unknown_device_makes_the_sum_unknown() -> None:
    assert flops.peak_flops([_device("TPU v4"), _device("a toaster")]) is None
    assert flops.peak_flops([]) is None


def test_the_peak_of_a_cpu_is_measured_once() -> None:
    flops._measured_cpu_peak.cache_clear()
    start = time.perf_counter()
    peak = flops.peak_flops(jax.devices("cpu"))
    assert time.perf_counter() - start < 2  # a busy machine; 0.2 s on one that is free
    assert peak is not None and 1e8 < peak < 1e14
    start = time.perf_counter()
    assert flops.peak_flops(jax.devices("cpu")) == peak
    assert time.perf_counter() - start < 0.01
    # Devices of one process share its cores; another process has cores of its own.
    assert flops.peak_flops([_device("cpu", "cpu")] * 8) == peak
    assert flops.peak_flops([_device("cpu", "cpu", process) for process in (0, 0, 1)]) == 2 * peak
    assert flops.utilisation(peak / 4, jax.devices("cpu")) == pytest.approx(0.25)


def test_a_product_of_large_matrices_is_near_the_measured_peak() -> None:
    matrix = np.random.default_rng(0).random((1024, 1024), np.float32)
    np.matmul(matrix, matrix)
    best = np.inf
    for _ in range(5):
        start = time.perf_counter()
        np.matmul(matrix, matrix)
        best = min(best, time.perf_counter() - start)
    used = flops.utilisation(2 * 1024**3 / best, jax.devices("cpu"))
    assert used is not None and 0.1 < used < 10  # the same order, whatever else the machine does
