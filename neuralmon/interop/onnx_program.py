"""A traced program said in operations that jax2onnx translates rightly.

It takes the window of `reduce_window` for that of images with the channels first, refuses scans that run backwards,
and has no `unstack`; ONNX Runtime does not choose between truth values. Here the maximum over windows is one of strided
slices, such a scan runs forwards over flipped arrays, an array is cut by slices, and "and" and "or" make a choice.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.extend
import numpy as np
from jax import lax


def evaluate(program: jax.extend.core.ClosedJaxpr, *arguments: Any) -> list[Any]:
    """Returns the outputs of a program, so that tracing it again gives the program in other operations."""
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*program.consts, *arguments), strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jax.extend.core.Literal) else values[atom]

    for equation in jaxpr.eqns:
        given, params = [read(atom) for atom in equation.invars], equation.params
        match equation.primitive.name:
            case "jit" | "pjit":
                outputs = evaluate(params["jaxpr"], *given)
            case "reduce_window_max":
                outputs = [_largest_in_windows(given[0], **params)]
            case "pad" if not all(isinstance(size, int) for size in given[0].shape):
                outputs = [_padded(given[0], given[1], params["padding_config"])]
            case "scan":
                outputs = _forwards(equation, given)
            case "unstack":
                axis = params["axis"]
                outputs = [lax.index_in_dim(given[0], i, axis, keepdims=False) for i in range(given[0].shape[axis])]
            case "select_n" if len(given) == 3 and given[1].dtype == bool == given[0].dtype:
                outputs = [_either(*given)]
            case _:
                result = equation.primitive.bind(*given, **equation.primitive.get_bind_params(params))
                outputs = result if equation.primitive.multiple_results else [result]
        values |= dict(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _largest_in_windows(
    inputs: Any,
    window_dimensions: Sequence[int],
    window_strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base_dilation: Sequence[int],
    window_dilation: Sequence[int],
) -> Any:
    if max(*base_dilation, *window_dilation) > 1:
        raise NotImplementedError("windows of pooling that are dilated")
    lowest = np.array(-np.inf if np.issubdtype(inputs.dtype, np.floating) else np.iinfo(inputs.dtype).min, inputs.dtype)
    inputs = _padded(inputs, lowest, [(low, high, 0) for low, high in padding])
    result = None
    for starts in itertools.product(*map(range, window_dimensions)):
        # From the first to the last value that this place of the window meets.
        ends = [
            size - (window - 1) + start if window > 1 else size
            for size, window, start in zip(inputs.shape, window_dimensions, starts, strict=True)
        ]
        part = lax.slice(inputs, starts, ends, window_strides)
        result = part if result is None else lax.max(result, part)
    return result


def _padded(inputs: Any, value: Any, config: Sequence[tuple[int, int, int]]) -> Any:
    if any(low < 0 or high < 0 or between for low, high, between in config):
        return lax.pad(inputs, value, config)
    for axis, (low, high, _) in enumerate(config):
        edges = [
            lax.broadcast_in_dim(value, (*inputs.shape[:axis], size, *inputs.shape[axis + 1 :]), ()) if size else None
            for size in (low, high)
        ]
        parts = [part for part in (edges[0], inputs, edges[1]) if part is not None]
        inputs = lax.concatenate(parts, axis) if len(parts) > 1 else inputs
    return inputs


def _either(condition: Any, otherwise: Any, chosen: Any) -> Any:
    return lax.bitwise_or(lax.bitwise_and(condition, chosen), lax.bitwise_and(lax.bitwise_not(condition), otherwise))


def _forwards(scan: Any, given: Sequence[Any]) -> list[Any]:
    body = scan.params["jaxpr"]
    params = {**scan.params, "jaxpr": jax.make_jaxpr(functools.partial(evaluate, body))(*body.in_avals)}
    if not params["reverse"]:
        return scan.primitive.bind(*given, **params)

    def flipped(array: Any, inside: Any) -> Any:
        # What the scan goes along has an axis more than one step sees; what is carried or constant has not.
        return lax.rev(array, (0,)) if array.ndim > len(inside.shape) else array

    outputs = scan.primitive.bind(*map(flipped, given, body.in_avals), **{**params, "reverse": False})
    return list(map(flipped, outputs, body.out_avals))
