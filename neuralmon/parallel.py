"""Data parallelism: the batch is cut over the devices, everything else is on all of them."""

import contextlib
import os
from pathlib import Path
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from neuralmon.errors import RequestError


def make_mesh(batch_size: int) -> Mesh:
    """Returns a mesh over all devices with one axis, "data".

    Raises:
      RequestError: the batch cannot be cut evenly.
    """
    devices = jax.devices()
    if batch_size % len(devices):
        raise RequestError(
            f"training.batch_size: {batch_size} cannot be cut evenly over {len(devices)} devices; "
            f"use a multiple of {len(devices)}"
        )
    # Explicit axes, the default, are more than Linen's Dropout, Embed and RNN can take.
    return jax.make_mesh((len(devices),), ("data",), axis_types=(AxisType.Auto,), devices=devices)


def one_device() -> Mesh:
    """Returns a mesh of the first device alone."""
    return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:1])


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what is whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batches_over(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of windows, (batches, batch, ...): each batch is cut over the devices."""
    return NamedSharding(mesh, PartitionSpec(None, "data"))


def device_memory(mesh: Mesh) -> int:
    """Returns the bytes of memory that a device has in all; on a CPU, its share of the machine's or container's."""
    device = mesh.devices.flat[0]
    if device.platform != "cpu":
        return int((device.memory_stats() or {}).get("bytes_limit", 2**63))
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")] if hasattr(os, "sysconf") else [2**63]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            limits.append(int(Path(file).read_text()))
    return min(limits) // mesh.size  # each of them holds a copy


def shard_batch(batch: Any, mesh: Mesh) -> Any:
    """Cuts each array of a batch along its first axis; for use in compiled programs."""
    if mesh.size == 1:
        return batch
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, PartitionSpec("data")))
