"""What is compiled: convolution in two spatial dimensions, attention and the LSTM, in C++; float32, on CPU.

It is compiled when the package is installed, if there is a compiler then; in a clone by `python hatch_build.py`. Where
it is missing, does not fit or is switched off (NEURALMON_NATIVE=0) XLA's own operations do the same, slower;
`native_status` says which. NEURALMON_NATIVE=avx2 or =portable take the loops of lesser instruction sets.
"""

import ctypes
import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir

from neuralmon.ops.native import files

_FOLDER = Path(__file__).parent


def native_status() -> str:
    """Returns which instruction set the native operations use, or why there are none."""
    if os.environ.get("NEURALMON_NATIVE") == "0":
        return "no native operations: switched off by NEURALMON_NATIVE=0"
    level, problem = _loaded()
    return f"native operations: {level}" if level else f"no native operations: {problem}"


def available() -> bool:
    """Whether there are native operations for this process's CPU."""
    return os.environ.get("NEURALMON_NATIVE") != "0" and bool(_loaded()[0])


@functools.cache
def _loaded() -> tuple[str, str]:
    """Returns the instruction set of the library, whose functions XLA then knows, or ("", why there is none)."""
    file = _FOLDER / files.LIBRARY
    if not file.exists():
        return "", "it was not compiled; `python hatch_build.py` in a clone, with a C++ compiler, does"
    try:
        library = ctypes.CDLL(str(file))
        for function in (library.neuralmon_level, library.neuralmon_sources):
            function.restype = ctypes.c_char_p
        if library.neuralmon_sources().decode() != files.digest(_FOLDER):
            return "", "it was compiled from other sources; `python hatch_build.py` compiles it again"
        for name in (
            *("neuralmon_convolve", "neuralmon_kernel_gradient"),
            *("neuralmon_attention", "neuralmon_attention_gradients"),
            *("neuralmon_lstm", "neuralmon_lstm_gradients"),
        ):
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
        return library.neuralmon_level().decode(), ""
    except Exception as error:  # whatever is wrong with it, there is another form
        return "", f"{file.name} does not load: {' '.join(str(error).split())}"


def lowering(name: str, in_xla: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the rule that lowers a convolution for CPU: to the native function `name` where that can be."""

    def rule(ctx: mlir.LoweringRuleContext, *operands: Any, **params: Any) -> Sequence[Any]:
        if not available() or not _covers(ctx, **params):
            return in_xla(ctx, *operands, **params)
        window = params["window"]
        low = [pair[0] for pair in window.padding]
        numbers = np.array([*window.strides, *low, *window.lhs_dilation, *window.rhs_dilation], np.int64)
        attributes = {"transposed": params["transposed"]} if "transposed" in params else {}
        return jax.ffi.ffi_lowering(name)(ctx, *operands, window=numbers, **attributes)

    return rule


def _covers(ctx: mlir.LoweringRuleContext, window: Any, transposed: bool = False, spatial: Any = None) -> bool:
    del transposed
    operands: Sequence[Any] = ctx.avals_in
    kernel = spatial or operands[1].shape[1:-2]
    return (
        all(aval.dtype == jnp.float32 for aval in operands)
        and len(kernel) == 2
        and (spatial is None or max(window.lhs_dilation) == 1)
        # A matrix product, of which XLA makes the most.
        and (max(*kernel, *window.strides, *window.lhs_dilation) > 1 or bool(np.any(window.padding)))
        and on_one_device(ctx.module_context)
    )


def on_one_device(module: Any) -> bool:
    """Whether XLA neither cuts the program over devices, which it could not do with a foreign function, nor exports it.

    What jax's internals do not tell is no.
    """
    axes = getattr(module, "axis_context", None)
    mesh = getattr(axes, "mesh", None)
    one = getattr(axes, "num_devices", None) == 1
    by_hand = mesh is not None and getattr(axes, "manual_axes", ()) == frozenset(mesh.axis_names)
    return (one or by_hand) and not getattr(module.lowering_parameters, "for_export", True)
