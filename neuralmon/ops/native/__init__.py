"""What is compiled, in C++ for float32 on CPU: convolution in two dimensions, attention, LSTM, batch normalisation.

It is compiled when the package is installed, if there is a compiler then; in a clone by `python hatch_build.py`. Where
it is missing, does not fit or is switched off (NEURALMON_NATIVE=0) XLA's own operations do the same, slower;
`native_status` says which. NEURALMON_NATIVE=avx2 or =portable take the loops of lesser instruction sets.
"""

import ctypes
import functools
import os
from pathlib import Path
from typing import Any

import jax

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
            *("neuralmon_moments", "neuralmon_products"),
        ):
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
        return library.neuralmon_level().decode(), ""
    except Exception as error:  # whatever is wrong with it, there is another form
        return "", f"{file.name} does not load: {' '.join(str(error).split())}"


def on_one_device(module: Any) -> bool:
    """Whether XLA neither cuts the program over devices, which it could not do with a foreign function, nor exports it.

    What jax's internals do not tell is no.
    """
    axes = getattr(module, "axis_context", None)
    mesh = getattr(axes, "mesh", None)
    one = getattr(axes, "num_devices", None) == 1
    by_hand = mesh is not None and getattr(axes, "manual_axes", ()) == frozenset(mesh.axis_names)
    return (one or by_hand) and not getattr(module.lowering_parameters, "for_export", True)
