"""A trained model as one file that runs without its code: on any of several platforms, and wherever JAX runs.

    nm.interop.export(model, variables, images, "model.nmx")
    loaded = nm.interop.load_export("model.nmx")
    logits = loaded(images)

The file is a ZIP archive of the program (`jax.export`: StableHLO), the weights and a description. The weights are
arguments of the program, not constants in it: so it is compiled as fast as any, and it can be called with others.
"""

import dataclasses
import functools
import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from neuralmon import ops
from neuralmon.errors import RequestError, first_line
from neuralmon.inspection import check_variables, with_train
from neuralmon.interop.weights import Variables

_FORMAT = 1
_PROGRAM, _WEIGHTS, _ABOUT = "program.bin", "weights.msgpack", "about.json"


_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


@dataclasses.dataclass(frozen=True, eq=False)
class Exported:
    """A model from a file.

    Attributes:
      program: the exported function of variables and inputs, as `jax.export` gives it.
      variables: its weights.
      about: class of the model, versions it was written by, platforms, shapes of the inputs.
    """

    program: jax.export.Exported
    variables: Variables
    about: Mapping[str, Any]

    def __call__(self, inputs: Any, variables: Variables | None = None) -> Any:
        """Returns the model's outputs.

        Args:
          inputs: as in the export; of any batch size, unless one was fixed there.
          variables: other weights of the same shapes; None: those in the file.

        Raises:
          RequestError: the inputs do not fit, or the file was not made for this platform.
        """
        here = jax.export.default_export_platform()
        if here not in self.program.platforms:
            raise RequestError(
                f"this program was exported for {', '.join(self.program.platforms)} and cannot run on {here}: "
                f'export it with platforms=("{here}", ...)'
            )
        (_, expected), _ = jax.tree.unflatten(self.program.in_tree, self.program.in_avals)
        return self._call(self.variables if variables is None else variables, _fitted(inputs, expected))

    @functools.cached_property
    def _call(self) -> Any:
        return jax.jit(self.program.call)


def export(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Any,
    path: str | Path,
    *,
    platforms: Sequence[str] = ("cpu", "cuda", "tpu"),
    batch_size: int | None = None,
    **options: Any,
) -> None:
    """Writes a model and its weights into a file that `load_export` reads, without dropout and the like.

    Args:
      model: any Linen module with all sizes given.
      variables: what `model.apply` takes.
      inputs: the model's inputs, or their shapes; a dict where there are several. The first axis is the batch.
      path: the file; what it held is replaced.
      platforms: what it will run on, one or more of cpu, cuda, rocm, tpu.
      batch_size: the only one that it can be called with; None: any.
      options: further arguments of the model's call, which are the same in every call of the file.

    Raises:
      RequestError: the variables are not this model's, its program depends on the batch size, there is no such
        platform, or no file can be there.
    """
    platforms = (platforms,) if isinstance(platforms, str) else tuple(platforms)
    if not platforms or set(platforms) - set(_PLATFORMS):
        raise RequestError(f"platforms={platforms}: give one or more of {', '.join(_PLATFORMS)}")
    file = check_target(path)
    check_variables(model, variables, inputs, **with_train(model, options, False))
    call = with_train(model, options, False)
    weights = jax.tree.map(np.asarray, flax.core.unfreeze(dict(variables)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), weights)

    def apply(variables: Variables, inputs: Any) -> Any:
        return model.apply(variables, inputs, **call)

    try:
        # The plain definitions: fewest operations, on every platform the same.
        with ops.reference():
            program = jax.export.export(jax.jit(apply), platforms=platforms)(shapes, input_shapes(inputs, batch_size))
    except (jax.errors.InconclusiveDimensionOperation, TypeError) as error:
        if batch_size is not None:
            raise
        raise RequestError(
            f"{type(model).__name__} does not export for every batch size ({first_line(error)}): give batch_size=..."
        ) from error
    about = {
        "format": _FORMAT,
        "model": type(model).__name__,
        "jax": jax.__version__,
        "calling_convention_version": program.calling_convention_version,
        "platforms": list(program.platforms),
        "inputs": [f"{aval.str_short()}" for aval in program.in_avals[len(jax.tree.leaves(shapes)) :]],
    }
    described = json.dumps(about, indent=2)
    program_bytes = _serialized(program, type(model).__name__)
    partial = file.with_name(file.name + ".partial")
    with zipfile.ZipFile(partial, "w") as archive:
        archive.writestr(_ABOUT, described)
        archive.writestr(_PROGRAM, program_bytes)
        archive.writestr(_WEIGHTS, flax.serialization.msgpack_serialize(weights))
    partial.replace(file)


def load_export(path: str | Path) -> Exported:
    """Returns the model in a file that `export` wrote; no Python code is read from it.

    Raises:
      RequestError: there is no such file, it is damaged, or this version of JAX cannot read it.
    """
    file = Path(path)
    if not file.is_file():
        raise RequestError(f"{file}: there is no such file")
    try:
        with zipfile.ZipFile(file) as archive:
            about = json.loads(archive.read(_ABOUT))
            program, weights = archive.read(_PROGRAM), archive.read(_WEIGHTS)
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise RequestError(f"{file} is damaged or was not written by nm.interop.export: {first_line(error)}") from None
    version = about.get("calling_convention_version", 0)
    low = jax.export.minimum_supported_calling_convention_version
    high = jax.export.maximum_supported_calling_convention_version
    if about.get("format") != _FORMAT or not low <= version <= high:
        raise RequestError(
            f"{file} was written by jax {about.get('jax')} with calling convention {version}; jax {jax.__version__} "
            f"reads {low} to {high}: use a version of jax nearer to that one, or export the model again"
        )
    _need_flatbuffers()
    try:
        return Exported(jax.export.deserialize(bytearray(program)), flax.serialization.msgpack_restore(weights), about)
    except Exception as error:
        raise RequestError(
            f"{file}, written by jax {about.get('jax')}, cannot be read by jax {jax.__version__}: {first_line(error)}"
        ) from error


def check_target(path: str | Path) -> Path:
    """Returns the path of a file to be written; raises RequestError if it cannot be one."""
    file = Path(path)
    if file.is_dir() or not file.parent.is_dir():
        raise RequestError(f"{file} is a folder" if file.is_dir() else f"{file}: there is no folder {file.parent}")
    return file


def input_shapes(inputs: Any, batch_size: int | None) -> Any:
    """Returns the shapes of a model's inputs, their first axis replaced: by a symbol, `batch`, if it is None."""
    if batch_size is not None and batch_size < 1:
        raise RequestError(f"batch_size={batch_size}: give 1 or more, or None for any")
    (batch,) = (batch_size,) if batch_size is not None else jax.export.symbolic_shape("batch")

    def shape(leaf: Any) -> jax.ShapeDtypeStruct:
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        if not array.shape:
            raise RequestError("every input needs a batch axis: one is a single number")
        return jax.ShapeDtypeStruct((batch, *array.shape[1:]), jax.dtypes.canonicalize_dtype(array.dtype))

    return jax.tree.map(shape, inputs)


def _serialized(program: jax.export.Exported, name: str) -> bytes:
    _need_flatbuffers()
    try:
        return bytes(program.serialize())
    except ValueError as error:
        raise RequestError(
            f"the outputs of {name} cannot go into a file, only arrays in dicts, tuples and lists can: "
            f"{first_line(error)}"
        ) from error


def _need_flatbuffers() -> None:
    try:
        import flatbuffers  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise RequestError("jax.export files need a package more: pip install 'neuralmon[interop]'") from None


def _fitted(inputs: Any, expected: Any) -> Any:
    """Returns the inputs with the types of the program; raises RequestError if their shapes or kinds are others."""
    if str(jax.tree.structure(inputs)) != str(jax.tree.structure(expected)):
        raise RequestError(f"the inputs have to be {_described(expected)}, not {_described(inputs)}")
    sizes: dict[str, int] = {}

    def fit(leaf: Any, aval: Any) -> Any:
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        fits = len(array.shape) == len(aval.shape) and all(
            sizes.setdefault(str(want), size) == size > 0 if not isinstance(want, int) else want == size
            for size, want in zip(array.shape, aval.shape, strict=True)
        )
        same_kind = any(
            jnp.issubdtype(array.dtype, kind) and jnp.issubdtype(aval.dtype, kind)
            for kind in (jnp.floating, jnp.integer, jnp.bool_)
        )
        if not fits or not same_kind:
            raise RequestError(f"inputs {_described(inputs)} do not fit: the program takes {_described(expected)}")
        if jax.dtypes.canonicalize_dtype(aval.dtype) != aval.dtype:
            raise RequestError(f"the program takes {aval.dtype}: call it with jax.enable_x64(True)")
        return jnp.asarray(array, aval.dtype)

    return jax.tree.map(fit, inputs, expected)


def _described(tree: Any) -> str:
    def describe(leaf: Any) -> str:
        array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        return f"{array.dtype} ({', '.join(map(str, array.shape))})"

    return str(jax.tree.map(describe, tree)).replace("'", "")
