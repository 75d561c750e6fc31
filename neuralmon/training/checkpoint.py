"""Checkpoints: the state of a run on disk, which outlives a kill, a full disk and a damaged file.

A folder holds one Orbax checkpoint per step, `<folder>/120/` (`120.1` if step 120 was saved a
second time), readable by `orbax.checkpoint.v1.load` without neuralmon: a flat dictionary from the
path of a leaf ("params/Dense_0/kernel") to its array. Three rules carry everything else:

- a directory gets its name only when it is complete, and loses it before any of it is deleted;
- nothing is deleted before something newer is complete;
- every checkpoint carries the SHA-256 of its arrays, and what does not match it is not restored.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import jax
import numpy as np
from jax.experimental import multihost_utils

from neuralmon.errors import RequestError, RunError

_COMPLETE = re.compile(r"(\d+)(?:\.(\d+))?")
_LEFTOVER = re.compile(r"\d+(\.\d+)?\.(orbax-checkpoint-tmp.*|deleted)")


@dataclasses.dataclass(frozen=True)
class Restored:
    """What `Checkpoints.restore` gives back.

    Attributes:
      step: The step the state was saved at.
      state: A pytree like the one asked for, on the devices asked for.
      metadata: What was given to `save`, and `metrics` and `fingerprint` (of the state).
    """

    step: int
    state: Any
    metadata: dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder; a context manager that ends when all is written.

    At most one checkpoint is being written at a time, by a thread. In a cluster every process makes
    the same calls; a leaf that is spread over processes is gathered on each of them to be saved.

    Args:
      folder: Where they lie; made by the first `save`.
      keep_last: How many of the newest to keep, at least 1.
      best: A metric and its direction, `("accuracy", "max")`: the best checkpoint is kept as well.
      notice: Is told, in one line, whatever the user must know.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int = 2,
        best: tuple[str, Literal["max", "min"]] | None = None,
        notice: Callable[[str], None],
    ) -> None:
        self._folder = Path(folder).absolute()
        self._keep_last = keep_last
        self._best = best
        self._notice = notice
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: tuple[int, concurrent.futures.Future[None]] | None = None
        self._metadata: dict[Path, dict[str, Any]] = {}
        self._damaged: set[Path] = set()

    def save(
        self,
        step: int,
        state: Any,
        metrics: Mapping[str, float] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Copy `state` to the host and have it written; its buffers may be donated at once.

        A run is one line of steps: once `step` is complete, steps beyond it (from before the run
        was taken up again at an earlier one) are deleted.

        Args:
          step: The number of steps taken.
          state: A pytree of arrays; none of size 0.
          metrics: Decide whether this is the best one.
          metadata: Anything JSON can say.

        Raises:
          RunError: The previous save failed (so do `wait` and `close`).
        """
        self.wait()
        record = {**(metadata or {}), "metrics": {k: float(v) for k, v in (metrics or {}).items()}}
        json.dumps(record)  # what cannot be written should fail here, not in the thread
        # On CPU, NumPy sees a jax.Array's own buffer, which a donation overwrites: copy it.
        arrays = {name: np.array(leaf, order="C") for name, leaf in _host(state).items()}
        self._writing = step, self._thread.submit(self._write, step, arrays, record)
        if jax.process_count() > 1:  # Orbax's collectives would race with those of the next steps
            self.wait()

    def steps(self) -> tuple[int, ...]:
        """Return the steps of the complete checkpoints on disk, ascending."""
        return tuple(self._found())

    def best_step(self) -> int | None:
        """Return the best step on disk (of several the earliest); None if none has the metric."""
        return self._best_of(self._found())

    def restore(self, like: Any, step: int | Literal["latest", "best"] = "latest") -> Restored | None:
        """Read a checkpoint and verify every byte.

        A damaged latest one gives way to the one before it, with a notice.

        Args:
          like: The state as a pytree of `jax.ShapeDtypeStruct`. Its shardings say where the arrays
            go (where there is none, to the first device), as many or few as they are now.
          step: A step, "latest" or "best".

        Returns:
          The checkpoint, or None if "latest" or "best" is asked for and there is no checkpoint.

        Raises:
          RequestError: There is no such step, or it holds other paths, shapes or dtypes.
          RunError: The step asked for is damaged or, for "latest", all are.
        """
        self.wait()
        found = self._found()
        if not found and isinstance(step, str):
            return None
        there_are = f"{self._folder} holds steps: {', '.join(map(str, found)) or 'none'}"
        asked = self._best_of(found) if step == "best" else step
        if asked is None:
            raise RequestError(f"no checkpoint has the metric of best={self._best}; {there_are}")
        if asked != "latest" and asked not in found:
            raise RequestError(f"there is no checkpoint at step {asked}; {there_are}")
        damaged: dict[int, str] = {}
        for number in reversed(found) if asked == "latest" else (asked,):
            try:
                restored = self._read(number, found[number], like)
            except _DamagedError as damage:
                if not found[number].exists():  # whoever writes here has deleted it meanwhile
                    return self.restore(like, step)
                damaged[number] = f"checkpoint at step {number} is damaged ({damage})"
                continue
            for bad, text in damaged.items():
                self._damaged.add(found[bad])
                self._notice(f"{text}; continuing from step {number}")
            return restored
        if asked == "latest":
            there_are = f"put back a copy of {self._folder}, or delete it to start from step 0"
        raise RunError("; ".join([*damaged.values(), there_are]))

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
          RunError: It could not be written; what had been there before still is.
        """
        if self._writing is None:
            return
        step, future = self._writing
        concurrent.futures.wait([future])
        self._writing = None
        if error := future.exception():
            there_are = ", ".join(map(str, self.steps())) or "none"
            raise RunError(
                f"checkpoint at step {step} could not be written to {self._folder}: "
                f"{_reason(error)}; checkpoints there: {there_are}"
            ) from error

    def close(self) -> None:
        """Wait for what is being written, then end the thread. Raises as `wait` does."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self.close()
        except RunError as failure:
            if error is None:
                raise
            self._notice(str(failure))  # the error on its way out is the one to exit with

    def _paths(self) -> dict[Path, tuple[int, int]]:
        """Return every complete directory with its step and attempt, in that order."""
        if not self._folder.is_dir():
            return {}
        matches = {path: _COMPLETE.fullmatch(path.name) for path in self._folder.iterdir()}
        paths = {path: (int(m[1]), int(m[2] or 0)) for path, m in matches.items() if m}
        return dict(sorted(paths.items(), key=lambda item: item[1]))

    def _found(self) -> dict[int, Path]:
        """Return where each step lies, ascending; of several attempts, the last."""
        return {step: path for path, (step, _) in self._paths().items()}

    def _write(self, step: int, arrays: dict[str, np.ndarray], record: dict[str, Any]) -> None:
        ocp = _orbax()
        record["fingerprint"] = _digest(arrays)
        self._folder.mkdir(parents=True, exist_ok=True)
        there = self._paths()
        self._sweep(keep=there)  # what a kill left behind may be what fills the disk
        attempts = [attempt for number, attempt in there.values() if number == step]
        path = self._folder / (f"{step}.{attempts[-1] + 1}" if attempts else str(step))
        context = ocp.Context()
        context.array.saving.use_compression = False  # floats hardly shrink; it doubles the time
        context.memory.deepcopy_host_arrays = False  # the copy is made by save()
        context.asynchronous.create_directories_asynchronously = False  # this is the background
        with context:
            ocp.save(path, arrays, custom_metadata=record)
        self._metadata[path] = record
        self._damaged.discard(path)

        good = {n: p for n, p in self._found().items() if n <= step and p not in self._damaged}
        kept = {*list(good)[-self._keep_last :], self._best_of(good)}
        self._sweep(keep={p for n, p in good.items() if n in kept})

    def _sweep(self, keep: Collection[Path]) -> None:
        """Delete all checkpoints but `keep`, and leftovers."""
        if jax.process_index() != 0:
            return
        for path in self._paths():
            if path not in keep:
                path.rename(path.with_name(f"{path.name}.deleted"))
        for path in self._folder.iterdir():
            if _LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path)

    def _best_of(self, found: Mapping[int, Path]) -> int | None:
        if self._best is None:
            return None
        name, direction = self._best
        sign = 1.0 if direction == "max" else -1.0
        scores: dict[int, float] = {}
        for step, path in found.items():
            if path not in self._metadata:
                try:
                    self._metadata[path] = _stored(path)[1]
                except _DamagedError:  # to be said if it is restored
                    self._metadata[path] = {}
            value = self._metadata[path].get("metrics", {}).get(name, math.nan)
            if not math.isnan(value):
                scores[step] = sign * value
        return max(scores, key=scores.__getitem__, default=None)  # the first of several

    def _read(self, step: int, path: Path, like: Any) -> Restored:
        """Read one checkpoint. Raises _DamagedError, or RequestError if it is another tree."""
        saved, metadata = _stored(path)
        wanted = _named(like)
        differences = [
            f"{name} is {saved.get(name, 'missing')} there and "
            f"{_spec(wanted[name]) if name in wanted else 'missing'} here"
            for name in sorted(saved.keys() | wanted.keys())
            if name not in wanted or saved.get(name) != _spec(wanted[name])
        ]
        if differences:
            more = f"; and {len(differences) - 3} more" if len(differences) > 3 else ""
            raise RequestError(
                f"checkpoint {path} was saved by a different model or optimizer: {'; '.join(differences[:3])}{more}"
            )
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        targets = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding or device)
            for name, leaf in wanted.items()
        }
        try:
            arrays = _orbax().load(path, targets)
        except Exception as error:
            raise _DamagedError(_reason(error)) from error
        if _digest(_host(arrays)) != metadata.get("fingerprint"):
            raise _DamagedError("its arrays do not match their SHA-256")
        leaves = [arrays[name] for name in wanted]
        return Restored(step, jax.tree.unflatten(jax.tree.structure(like), leaves), metadata)


class _DamagedError(Exception):
    """A checkpoint that cannot be read, or is not what was written; the message says how."""


def _stored(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Return what a checkpoint says of itself: the spec of each leaf, and the metadata."""
    try:
        stored = _orbax().metadata(path)
        if stored.metadata is None:
            raise ValueError("the description of its arrays is missing or damaged")
        specs = {name: _spec(leaf) for name, leaf in stored.metadata.items()}
        return specs, dict(stored.custom_metadata)
    except Exception as error:  # damage can surface as any exception
        raise _DamagedError(_reason(error)) from error


def fingerprint(tree: Any) -> str:
    """SHA-256 over the paths, dtypes, shapes and bytes of a pytree's arrays, in the order of paths.

    Args:
      tree: A pytree of arrays. In a cluster, every process calls this.

    Returns:
      64 hexadecimal digits; equal exactly if the trees are equal bit for bit.
    """
    return _digest(_host(tree))


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {_spec(array)}\n".encode())
        flat = np.ascontiguousarray(array).reshape(-1)
        digest.update(flat.view(np.uint8).data)  # as bytes: bfloat16 has no buffer of its own
    return digest.hexdigest()


def _named(tree: Any) -> dict[str, Any]:
    """Return the leaves by path ("params/Dense_0/kernel"), in the order of the tree."""
    leaves = jax.tree.leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two leaves have the same path: some key of a dictionary contains '/'")
    return named


def _host(tree: Any) -> dict[str, np.ndarray]:
    """Return the leaves by path as NumPy arrays: on CPU, views of the devices' memory."""

    def whole(leaf: Any) -> Any:
        if getattr(leaf, "is_fully_addressable", True) or leaf.is_fully_replicated:
            return leaf
        return multihost_utils.process_allgather(leaf, tiled=True)

    arrays: dict[str, np.ndarray] = jax.device_get({name: whole(leaf) for name, leaf in _named(tree).items()})
    return arrays


def _spec(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"


def _reason(error: BaseException) -> str:
    """Return the operating system's words if it said any, else the beginning of the message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):  # in TensorStore's messages
        return os.strerror(int(code[1]))
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


@functools.cache
def _orbax() -> Any:
    """Import Orbax when first needed: it takes 0.2 to 0.8 s."""
    from orbax.checkpoint import v1  # type: ignore[import-untyped]

    # What it has to say to a person, it also raises. (absl's logger is its own only once imported.)
    logging.getLogger("absl").addFilter(lambda r: "orbax" not in Path(r.pathname).parts)
    return v1
