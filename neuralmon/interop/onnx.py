"""Models as ONNX files, for runtimes that know nothing of JAX.

    nm.interop.to_onnx(model, variables, images, "model.onnx")

jax2onnx translates the model operation by operation (`pip install 'neuralmon[onnx]'`). It does not know every
operation; `onnx_program` says some of them in others, and docs/interop.md lists the architectures that are tested.
"""

import contextlib
import functools
import io
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from neuralmon import ops
from neuralmon.errors import RequestError, first_line
from neuralmon.inspection import check_variables, with_train
from neuralmon.interop.exporting import check_target, input_shapes
from neuralmon.interop.onnx_program import evaluate


def to_onnx(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Any,
    path: str | Path,
    *,
    batch_size: int | None = None,
    **options: Any,
) -> None:
    """Writes a model and its weights as an ONNX file, without dropout and the like.

    The file's inputs are called "inputs", or as in the dict where there are several; its outputs "outputs" likewise.

    Args:
      model: any Linen module with all sizes given.
      variables: what `model.apply` takes.
      inputs: the model's inputs, or their shapes. The first axis is the batch.
      path: the file; what it held is replaced.
      batch_size: the only one that it can be called with; None: any.
      options: further arguments of the model's call, which are the same in every call of the file.

    Raises:
      RequestError: jax2onnx is not installed or cannot translate the model, the variables are not the model's, or no
        file can be there.
    """
    file = check_target(path)
    call = with_train(model, options, False)
    check_variables(model, variables, inputs, **call)
    variables = jax.tree.map(
        jnp.asarray, flax.core.unfreeze(dict(variables))
    )  # NumPy's cannot be indexed by what is traced
    leaves, structure = jax.tree.flatten(input_shapes(inputs, batch_size))

    def apply(*leaves: Any) -> Any:
        return model.apply(variables, jax.tree.unflatten(structure, leaves), **call)

    # Traced here, since jax2onnx puts its own functions into Flax and NumPy's place while it traces.
    try:
        with ops.reference():
            jaxpr, outputs = jax.make_jaxpr(apply, return_shape=True)(*leaves)
    except (jax.errors.InconclusiveDimensionOperation, TypeError) as error:
        if batch_size is not None:
            raise
        raise RequestError(
            f"{type(model).__name__} does not export for every batch size ({first_line(error)}): give batch_size=..."
        ) from error
    with _quiet():
        try:
            import jax2onnx
        except ImportError:
            raise RequestError("ONNX files need packages more: pip install 'neuralmon[onnx]'") from None
        try:
            proto = jax2onnx.to_onnx(
                functools.partial(evaluate, jaxpr),
                leaves,
                model_name=type(model).__name__,
                input_names=_names(inputs, "inputs"),
                output_names=_names(outputs, "outputs"),
            )
        except Exception as error:  # of many types; each means that there is something it does not know
            raise RequestError(
                f"jax2onnx cannot translate {type(model).__name__}: {type(error).__name__}: {first_line(error)}"
            ) from error
    file.write_bytes(proto.SerializeToString())


def _names(tree: Any, alone: str) -> list[str]:
    paths = [
        jax.tree_util.keystr(path, simple=True, separator="_") for path, _ in jax.tree_util.tree_leaves_with_path(tree)
    ]
    return paths if any(paths) else [alone]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps to itself what jax2onnx says of its own plug-ins while it works, which is pages."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
