"""Checkpoints: the state of a run on disk, which outlives a kill, a full disk and a damaged file.

A folder holds one Orbax checkpoint per step, `<folder>/120/`, readable by `orbax.checkpoint.v1.load` without neuralmon:
a flat dictionary from the path of a leaf ("params/Dense_0/kernel") to its array. Three rules carry everything else:

- a directory has its name only while it is complete;
- nothing that can be restored is deleted before something newer is complete;
- every checkpoint carries the SHA-256 of its arrays, and what does not match it is not restored.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import logging
import math
import os
import re
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import jax
import numpy as np

from neuralmon.errors import RequestError, RunError


class Restored(NamedTuple):
    """The step a state was saved at, and the state: a pytree like the one asked for, on the devices asked for."""

    step: int
    state: Any


@dataclasses.dataclass
class Checkpoints:
    """The checkpoints in one folder, written one at a time by a thread; leaving the context waits for it.

    Attributes:
      folder: where they lie; made by the first `save`.
      keep_last: how many of the newest to keep, at least 1.
      best: a metric and its direction, `("accuracy", "max")`: the best checkpoint is kept as well.
      notice: is told, in one line, whatever the user must know.
    """

    folder: Path
    keep_last: int
    best: tuple[str, Literal["max", "min"]]
    notice: Callable[[str], None]

    def __post_init__(self) -> None:
        if jax.process_count() > 1:
            raise RequestError("checkpoints of a run of several processes are not supported yet")
        self.folder = self.folder.absolute()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._writing: tuple[int, concurrent.futures.Future[None]] | None = None
        self._damaged: set[int] = set()
        self._copies: dict[str, np.ndarray] = {}  # of the state saved last
        self._copiers = concurrent.futures.ThreadPoolExecutor(4, "checkpoint-copy")

    def save(self, step: int, state: Any, metrics: Mapping[str, float]) -> None:
        """Copies `state` to the host and has it written; its buffers may be donated at once.

        Args:
          step: the number of steps taken; more than in every checkpoint there but those that `restore` passed over.
          state: a pytree of arrays; none of size 0.
          metrics: decide whether this is the best one.

        Raises:
          RunError: the previous save failed.
        """
        self.wait()
        if any(step <= saved for saved in self.steps() if saved not in self._damaged):
            raise ValueError(f"step {step} is not after the steps in {self.folder}: {self.steps()}")
        scores = {name: float(value) for name, value in metrics.items() if not math.isnan(value)}
        # On CPU, NumPy sees a jax.Array's own buffer, which a donation overwrites: copy it. Into the memory of the save
        # before, if there was one: a system takes longer to hand out new memory than to copy into it.
        arrays = jax.device_get(_named(state))
        copies = self._copiers.map(_copied, arrays.values(), map(self._copies.get, arrays))
        self._copies = dict(zip(arrays, copies, strict=True))
        self._writing = step, self._thread.submit(self._write, step, self._copies, scores)

    def steps(self) -> tuple[int, ...]:
        """Returns the steps of the complete checkpoints on disk, ascending."""
        names = [path.name for path in self.folder.iterdir()] if self.folder.is_dir() else []
        return tuple(sorted(int(name) for name in names if name.isdecimal()))

    def restore(self, like: Any, step: int | Literal["latest", "best"] = "latest") -> Restored | None:
        """Reads a checkpoint and verifies every byte; None if there is no checkpoint and no number is asked for.

        A damaged latest one gives way to the one before it, with a notice.

        Args:
          like: the state as a pytree of `jax.ShapeDtypeStruct`, whose shardings say where the arrays go.
          step: a step, "latest" or "best" (of several the earliest).

        Raises:
          RequestError: there is no such step, or it holds other paths, shapes or dtypes.
          RunError: the step asked for is damaged or, for "latest", all are.
        """
        self.wait()
        steps = self.steps()
        if not steps and isinstance(step, str):
            return None
        advice = f"{self.folder} holds steps: {', '.join(map(str, steps)) or 'none'}"
        asked = self._best_of(steps) if step == "best" else step
        if asked is None:
            raise RequestError(f"no checkpoint has the metric {self.best[0]!r}; {advice}")
        if asked != "latest" and asked not in steps:
            raise RequestError(f"there is no checkpoint at step {asked}; {advice}")
        damaged: dict[int, str] = {}
        for number in reversed(steps) if asked == "latest" else (asked,):
            path = self.folder / str(number)
            try:
                restored = Restored(number, _read(path, like))
            except RequestError:
                raise
            except Exception as damage:  # it can surface as any
                if not path.exists():  # whoever writes here has deleted it meanwhile
                    return self.restore(like, step)
                damaged[number] = f"checkpoint at step {number} is damaged ({_reason(damage)})"
                continue
            for text in damaged.values():
                self.notice(f"{text}; continuing from step {number}")
            self._damaged.update(damaged)
            return restored
        if asked == "latest":
            advice = f"put back a copy of {self.folder}, or delete it to start from step 0"
        raise RunError("; ".join([*damaged.values(), advice]))

    def arrays(self, step: int | None = None) -> dict[str, np.ndarray]:
        """Returns the arrays of a checkpoint by path ("params/Dense_0/kernel"), whatever state they are of.

        Raises:
          RequestError: there is no such checkpoint; None: there is none at all.
          RunError: it is damaged.
        """
        steps = self.steps()
        if not steps or (step is not None and step not in steps):
            raise RequestError(f"{self.folder} holds no checkpoint{'' if step is None else f' of step {step}'}")
        path = self.folder / str(step or steps[-1])
        try:
            stored, arrays = _orbax().metadata(path), jax.device_get(_orbax().load(path))
            if fingerprint(arrays) != stored.custom_metadata["fingerprint"]:
                raise ValueError("its arrays do not match their SHA-256")
        except Exception as damage:
            raise RunError(f"checkpoint {path} is damaged ({_reason(damage)})") from None
        return dict(arrays)

    def wait(self) -> None:
        """Waits for what is being written; a RunError if it could not be: what had been there before still is."""
        if self._writing is None:
            return
        step, future = self._writing
        error = future.exception()
        self._writing = None
        if error:
            failed = f"checkpoint at step {step} could not be written to {self.folder}: {_reason(error)}"
            raise RunError(f"{failed}; checkpoints there: {', '.join(map(str, self.steps())) or 'none'}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        try:
            self.wait()
        except RunError as failure:
            if error is None:
                raise
            self.notice(str(failure))  # the error on its way out is the one to exit with
        finally:
            self._thread.shutdown()
            self._copiers.shutdown()

    def _write(self, step: int, arrays: dict[str, np.ndarray], metrics: dict[str, float]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in (*self.folder.glob("*.orbax-checkpoint-tmp*"), *self.folder.glob("*.deleted")):
            shutil.rmtree(leftover)  # of a kill, and maybe what fills the disk
        self._delete(self._damaged.intersection(self.steps()))
        self._damaged.clear()
        context = _orbax().Context()
        context.array.saving.use_compression = False  # floats hardly shrink; it doubles the time
        context.memory.deepcopy_host_arrays = False  # the copy is made by save()
        metadata = {"metrics": metrics, "fingerprint": fingerprint(arrays)}
        with context:
            _orbax().save(self.folder / str(step), arrays, custom_metadata=metadata)
        steps = self.steps()
        self._delete(set(steps[: -self.keep_last]) - {self._best_of(steps)})

    def _delete(self, steps: Collection[int]) -> None:
        for step in steps:
            shutil.rmtree((self.folder / str(step)).rename(self.folder / f"{step}.deleted"))

    def _best_of(self, steps: Collection[int]) -> int | None:
        """Returns the best of `steps`; None if none has the metric."""
        name, direction = self.best
        scores: dict[int, float] = {}
        for step in steps:
            with contextlib.suppress(Exception):  # of a damaged one: to be said if it is restored
                scores[step] = _orbax().metadata(self.folder / str(step)).custom_metadata["metrics"][name]
        return (max if direction == "max" else min)(scores, key=scores.__getitem__, default=None)


def _read(path: Path, like: Any) -> Any:
    """Returns the state in one checkpoint. Raises RequestError if it is another tree; anything else is damage."""
    stored, targets = _orbax().metadata(path), _named(like)
    if stored.metadata is None:
        raise ValueError("the description of its arrays is missing or damaged")
    there, here = ({name: _spec(leaf) for name, leaf in tree.items()} for tree in (stored.metadata, targets))
    differences = [
        f"{name} is {there.get(name, 'missing')} there and {here.get(name, 'missing')} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name)
    ]
    if differences:
        some = "; ".join([*differences[:3], f"{len(differences)} differences in all"])
        raise RequestError(f"checkpoint {path} was saved by a different model or optimizer: {some}")
    arrays = _orbax().load(path, targets)
    if fingerprint(arrays) != stored.custom_metadata["fingerprint"]:
        raise ValueError("its arrays do not match their SHA-256")
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in targets])


def fingerprint(tree: Any) -> str:
    """Returns the SHA-256 over the paths, dtypes, shapes and bytes of a pytree's arrays, in the order of paths."""
    digest = hashlib.sha256()
    for name, array in sorted(jax.device_get(_named(tree)).items()):
        digest.update(f"{name} {_spec(array)}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)  # without a copy
    return digest.hexdigest()


def _named(tree: Any) -> dict[str, Any]:
    """Returns the leaves by path ("params/Dense_0/kernel"), in the order of the tree."""
    leaves = jax.tree.leaves_with_path(tree)
    named = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
    if len(named) != len(leaves):
        raise ValueError("two leaves have the same path: some key of a dictionary contains '/'")
    return named


def _copied(array: Any, to: np.ndarray | None) -> np.ndarray:
    if to is None or _spec(to) != _spec(array):
        return np.array(array, order="C")
    np.copyto(to, array)
    return to


def _spec(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}[{','.join(map(str, leaf.shape))}]"


def _reason(error: BaseException) -> str:
    """Returns the operating system's words if it said any, else the beginning of the message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):  # in TensorStore's messages
        return os.strerror(int(code[1]))
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]


@functools.cache
def _orbax() -> Any:
    """Imports Orbax when first needed: it takes 0.2 to 0.8 s."""
    from orbax.checkpoint import v1  # type: ignore[import-untyped]

    # What it has to say to a person, it also raises. (absl's logger is its own only once imported.)
    logging.getLogger("absl").addFilter(lambda r: "orbax" not in Path(r.pathname).parts)
    return v1
