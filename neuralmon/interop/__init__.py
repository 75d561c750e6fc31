"""Weights and models from and to other frameworks.

    variables = nm.interop.gpt.from_huggingface(model, "gpt2/")    # a folder with safetensors, or a state dict
    state_dict = nm.interop.gpt.to_huggingface(model, variables)
    nm.interop.to_nnx(model, images, variables=variables)          # a Flax NNX module
    nm.interop.export(model, variables, images, "model.nmx")       # a file that runs without the model's code
    nm.interop.to_onnx(model, variables, images, "model.onnx")

One file per architecture says which parameter is which there; `weights` reads, checks and writes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralmon.interop.exporting import Exported as Exported
    from neuralmon.interop.exporting import export as export
    from neuralmon.interop.exporting import load_export as load_export
    from neuralmon.interop.nnx import from_nnx as from_nnx
    from neuralmon.interop.nnx import to_nnx as to_nnx
    from neuralmon.interop.onnx import to_onnx as to_onnx

# Loaded when they are first asked for: few runs need any of them.
_ARCHITECTURES = ("bert", "cnn", "gpt", "gru", "lstm", "resnet", "rnn", "transformer", "vit")
_FILES = {
    "Exported": "exporting",
    "export": "exporting",
    "load_export": "exporting",
    "from_nnx": "nnx",
    "to_nnx": "nnx",
    "to_onnx": "onnx",
}


def __getattr__(name: str) -> Any:
    if name in _ARCHITECTURES:
        return importlib.import_module(f"neuralmon.interop.{name}")
    if name in _FILES:
        return getattr(importlib.import_module(f"neuralmon.interop.{_FILES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_ARCHITECTURES, *_FILES])
