"""The same initial weights for everybody: neuralmon's variables in the layouts of PyTorch and of plain Flax."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from neuralmon.interop import gpt, lstm, resnet, transformer
from neuralmon.interop import weights as w
from neuralmon.models import CNN, GPT, LSTM, MLP, ResNet, Transformer

Arrays = dict[str, np.ndarray]


def sizes(model: Any, features: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """Returns what both other sides build the network from; `features` are shapes of what an example has."""
    shape = features["inputs"]
    match model:
        case MLP():
            own = {"inputs": int(np.prod(shape)), "hidden": model.hidden, "num_classes": model.num_classes}
        case CNN():
            own = {"image": shape} | {name: getattr(model, name) for name in ("features", "hidden", "num_classes")}
        case ResNet():
            own = {"channels": shape[-1]}
            own |= {name: getattr(model, name) for name in ("features", "stage_sizes", "num_classes")}
        case LSTM():
            own = {name: getattr(model, name) for name in ("vocab_size", "embedding_dim", "num_classes")}
            own["hidden"] = model.hidden[0]
        case GPT():
            kept = ("vocab_size", "context_length", "num_layers", "num_heads", "width")
            own = {name: getattr(model, name) for name in kept}
            own["feedforward_dim"] = model.feedforward_dim or 4 * model.width
        case Transformer():
            kept = ("vocab_size", "num_layers", "num_heads", "width", "feedforward_dim")
            own = {name: getattr(model, name) for name in kept} | {"longest": max(shape[0], features["written"][0])}
        case _:
            raise TypeError(f"there is no {type(model).__name__} in PyTorch and plain Flax here")
    return own


def to_torch(model: Any, variables: w.Variables) -> Arrays:
    """Returns a state dict for `torch_models`, with the joint projection "in_proj" of every attention."""
    match model:
        case MLP():
            entries = w.dense("params/output", "output")
            for index in range(len(model.hidden)):
                entries += w.dense(f"params/hidden_{index}", f"hidden.{index}")
            return w.to_theirs(entries, variables)
        case CNN():
            entries = w.dense("params/hidden", "hidden") + w.dense("params/output", "output")
            for index in range(len(model.features)):
                entries += w.convolution(f"params/conv_{index}", f"convolutions.{index}")
            arrays = w.to_theirs(entries, variables)
            # Ours are flattened with the channels last.
            channels, rows = model.features[-1], arrays["hidden.weight"]
            side = round((rows.shape[1] / channels) ** 0.5)
            rows = rows.reshape(-1, side, side, channels).transpose(0, 3, 1, 2)
            return arrays | {"hidden.weight": rows.reshape(len(rows), -1)}
        case ResNet():
            return resnet.to_torchvision(model, variables)
        case LSTM():
            return lstm.to_torch(model, variables)
        case GPT():
            arrays = {}
            for key, array in gpt.to_huggingface(model, variables).items():
                key = key.removeprefix("transformer.").replace("mlp.", "")
                key = key.replace("attn.c_attn", "attn.in_proj").replace("attn.c_proj", "attn.out_proj")
                linear = ".in_proj." in key or ".out_proj." in key or ".c_" in key
                arrays[key] = array.T if linear and array.ndim == 2 else array
            del arrays["lm_head.weight"]
            return arrays
        case _:
            arrays = {}
            for key, array in transformer.to_torch(model, variables).items():
                key = key.replace(".layers", "").replace("in_proj_", "in_proj.")
                last = "norm3" if key.startswith("decoder") else "norm2"
                arrays[key.replace(last, "last_norm")] = array
            return arrays


def to_flax(model: Any, variables: w.Variables) -> Arrays:
    """Returns variables for `flax_models`, by path."""
    arrays = {path: np.asarray(leaf) for path, leaf in w.flatten(variables).items()}
    if isinstance(model, LSTM):
        return _cells(arrays)
    if isinstance(model, GPT):
        arrays = _unstacked(arrays, model.num_layers)
    if isinstance(model, GPT | Transformer):
        return {path: _headed(path, array, model.num_heads) for path, array in arrays.items()}
    return arrays


def _cells(arrays: Arrays) -> Arrays:
    """Flax's LSTM has a matrix for each gate, and the bias with the state's."""
    ours = "params/recurrent/forward_0"
    result = {path: array for path, array in arrays.items() if not path.startswith(ours)}
    for part, names, kind in (("kernel", "i", "kernel"), ("recurrent", "h", "kernel"), ("bias", "h", "bias")):
        for gate, array in zip("ifgo", np.split(arrays[f"{ours}/{part}"], 4, axis=-1), strict=True):
            result[f"params/cell/{names}{gate}/{kind}"] = array
    return result


def _unstacked(arrays: Arrays, num_layers: int) -> Arrays:
    result = {}
    for path, array in arrays.items():
        if not path.startswith("params/layers/"):
            result[path] = array
            continue
        for index in range(num_layers):
            result[path.replace("layers", f"layers_{index}", 1)] = array[index]
    return result


def _headed(path: str, array: np.ndarray, num_heads: int) -> np.ndarray:
    """Flax's attention has the heads as an axis."""
    if "attention/" not in path:
        return array
    if "/out/" in path:
        return array.reshape(num_heads, -1, array.shape[-1]) if array.ndim == 2 else array
    return array.reshape(*array.shape[:-1], num_heads, -1)
