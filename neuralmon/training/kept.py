"""Programs that are kept between launches, so that a later one neither traces nor compiles them.

jax's own cache of compiled programs is asked after tracing and lowering, which is most of what starting costs. Here a
program is found by what it is made from: the experiment's structure, the settings in force, the machine, and every file
of every module that was imported by the time it was compiled. If one of those files has changed since, the program is
traced; if it turns out the same, it is kept on, else compiled anew.

Only of experiments all of whose parts are neuralmon's, jax's, Flax's or Optax's: what a function of your own does may
depend on more than its file.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import os
import pickle
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import serialize_executable
from jax.sharding import Mesh

from neuralmon import codec, process
from neuralmon.errors import first_line
from neuralmon.experiment import Experiment, split, walk
from neuralmon.ops import native
from neuralmon.ops.reference import is_reference
from neuralmon.parallel import replicated
from neuralmon.training.check import data_shapes
from neuralmon.training.program import Program, compiled
from neuralmon.training.result import abstract_state

_FORMAT = 1
_PACKAGES = {"neuralmon", "jax", "jaxlib", "flax", "optax", "ml_dtypes", "numpy", "builtins"}
Files = dict[str, tuple[int, int]]  # when it was changed, and its size


@dataclasses.dataclass(frozen=True)
class Kept:
    """The programs of a launch before this one.

    Attributes:
      state: the shapes of the state.
      serialized: the compiled functions, by name.
    """

    state: Any
    serialized: Mapping[str, Any]

    def load(self, name: str) -> jax.stages.Compiled:
        """Returns a compiled function."""
        return serialize_executable.deserialize_and_load(*self.serialized[name])


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Where the programs of one experiment are kept."""

    path: Path

    def find(self) -> Kept | None:
        """Returns what is kept, if nothing that it was made from has changed."""
        entry = self._read()
        if entry is None or entry["files"] != _stamps(entry["files"]):
            return None
        return Kept(entry["state"], entry["serialized"])

    def keep(self, state: Any, lowered: Mapping[str, jax.stages.Lowered]) -> dict[str, Any]:
        """Compiles functions, unless they are what is kept, and keeps them; `state` are its shapes.

        Returns the compiled functions, and as "said" which of the two it was.
        """
        text = [_FORMAT, *(one.as_text() for one in lowered.values())]
        digest = hashlib.sha256(json.dumps(text).encode()).hexdigest()
        entry = self._read()
        if entry is not None and entry["digest"] == digest:
            compiled = {name: Kept(state, entry["serialized"]).load(name) for name in lowered}
            said = "kept, as traced again"
        else:
            said = "compiled and kept"
            # A program that jax read from its cache cannot be written again.
            with process.compiling_anew():
                compiled = {name: one.compile() for name, one in lowered.items()}
            serialized = {name: serialize_executable.serialize(one) for name, one in compiled.items()}
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
            entry = {"digest": digest, "state": shapes, "serialized": serialized}
        self._write({**entry, "files": _stamps(_module_files())})
        return {**compiled, "said": said}

    def _read(self) -> dict[str, Any] | None:
        try:
            content = self.path.read_bytes()
            said, body = content[:32], content[32:]
            return dict(pickle.loads(body)) if hashlib.sha256(body).digest() == said else None
        except Exception:  # there is none, or it is damaged or of another version
            return None

    def _write(self, entry: dict[str, Any]) -> None:
        body = pickle.dumps(entry)
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(hashlib.sha256(body).digest() + body)
        temporary.replace(self.path)


def shelf(experiment: Experiment, program: Program, mesh: Mesh) -> Shelf | None:
    """Returns where a resolved experiment's programs are kept, or None if they are not."""
    folder = process.programs_folder()
    if folder is None or mesh.devices.flat[0].platform != "cpu":
        return None
    structure = dataclasses.replace(split(experiment)[0], name="")
    if not all(_is_ours(part) for node in walk(structure) for part in _pieces(node.value)):
        return None
    made_from = {
        "structure": codec.canonical(structure.to_json()),
        "source": experiment.source,
        "window": program.window,
        "devices": [repr(device) for device in mesh.devices.flat],
        "ops": [is_reference(), native.native_status()],
        "jax": sorted((name, repr(value)) for name, value in jax.config.values.items()),
        "settings": sorted(pair for pair in os.environ.items() if pair[0].startswith(("JAX_", "XLA_", "NEURALMON_"))),
        "machine": [sys.version, platform.platform(), _processor()],
    }
    digest = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()
    return Shelf(folder / f"{digest[:40]}.programs")


class Ready:
    """A resolved experiment's program, and how it gets ready to run.

    Attributes:
      program: the functions, to be compiled when they are called.
      numbers: what they take.
      mesh: the devices they run on.
      kept: what is kept of an earlier launch.
      said: how the program came to be, for the launch's record.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.program, self.numbers, self.mesh = compiled(experiment)
        self._experiment = experiment
        self._shelf = shelf(experiment, self.program, self.mesh)
        self.kept = self._shelf.find() if self._shelf else None
        self.said = "compiled"

    @functools.cached_property
    def state(self) -> Any:
        """The shapes of the state, whole on every device."""
        if self.kept is None:
            return abstract_state(self.program, self.numbers, self.mesh)
        whole = replicated(self.mesh)
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole), self.kept.state)

    def load(self) -> Program:
        """Returns the program with its functions of training compiled."""
        if self.kept is not None:
            try:
                # Both at once: neither needs the interpreter.
                with concurrent.futures.ThreadPoolExecutor(2) as pool:
                    init, chunk = pool.map(self.kept.load, ("init", "chunk"))
                return self._with(init, chunk, "kept")
            except Exception as error:
                self._unkept(error)
        shapes = data_shapes(self._experiment, self.program, self.mesh)
        lowered = self.program.chunk.lower(self.numbers, self.state, shapes, np.int32(0))
        if self._shelf is not None:
            both = {"init": self.program.init.lower(self.numbers), "chunk": lowered}
            try:
                return self._with(**self._shelf.keep(self.state, both))
            except Exception as error:  # to keep it is no duty
                self._unkept(error)
        lowered.compile()
        return self.program

    def _unkept(self, error: Exception) -> None:
        self.said = f"compiled and not kept: {type(error).__name__}: {first_line(error)}"

    def _with(self, init: Any, chunk: Any, said: str) -> Program:
        self.said = said
        return dataclasses.replace(self.program, init=init, chunk=chunk)


def _pieces(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list | set | frozenset):
        for element in value:
            yield from _pieces(element)
    else:
        yield value


def _is_ours(part: Any) -> bool:
    """Whether all that a part of an experiment does is in the files of known packages."""
    if part is None or isinstance(part, bool | int | float | str | bytes | np.ndarray | np.dtype):
        return True
    named = isinstance(part, type) or (callable(part) and not dataclasses.is_dataclass(part))
    where = getattr(part if named else type(part), "__module__", None) or ""
    return where.partition(".")[0] in _PACKAGES


def _module_files() -> list[str]:
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    folders = [Path(sys.modules[name].__file__ or "").parent for name in ("jaxlib", "neuralmon.ops.native")]
    libraries = [str(file) for folder in folders for file in folder.glob("*.so")]  # no modules
    return sorted({*(file for file in files if file), *libraries})


def _stamps(paths: Any) -> Files:
    stamps = {}
    for path in paths:
        try:
            found = Path(path).stat()
        except OSError:
            continue
        stamps[path] = (found.st_mtime_ns, found.st_size)
    return stamps


def _processor() -> str:
    """Returns what the processor is and can do; code made for one need not run on another."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return platform.processor()
    return "\n".join(line for line in first.splitlines() if line.startswith(("model name", "flags", "Features")))
