"""What `rnn`, `gru` and `lstm` share: the table of PyTorch's recurrent layers.

PyTorch's gates are in the order of ours. It has two biases where the equations see only their sum: reading adds them,
writing puts ours into `bias_ih` and zeros into `bias_hh`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.interop import weights
from neuralmon.layers import GRULayer, LSTMLayer, Recurrent, RecurrentLayer, SequenceModel

# The parts of a model, and what they are called in PyTorch if nothing else is said.
_NAMES = {"embedding": "embedding", "recurrent": "recurrent", "output": "output"}
RecurrentModule: TypeAlias = SequenceModel | Recurrent | RecurrentLayer


def from_torch(
    module: RecurrentModule, kind: type[RecurrentLayer], source: Any, names: Mapping[str, str]
) -> weights.Variables:
    """Returns our variables, made of PyTorch's weights.

    Args:
      module: a stack of layers or a single layer, which is what `torch.nn.LSTM` is; or a model, which is a module of
        PyTorch with an `Embedding` where there are tokens, an `LSTM`, and a `Linear`.
      kind: what the layers have to be.
      source: a state dict, or the path of a .safetensors file (see `weights.load`).
      names: what a model's "embedding", "recurrent" and "output" are called there, where it is anything else.

    Raises:
      RequestError: keys are missing or left over, or shapes differ, and all of them are listed; or PyTorch has no such
        layers.
    """
    tensors = weights.load(source)
    entries = _entries(module, kind, names)
    first = tensors.get(_prefix(module, names) + "weight_ih_l0")
    num_inputs = first.shape[1] if first is not None and first.ndim == 2 else 1
    inputs = jax.ShapeDtypeStruct((1, 1, num_inputs), jnp.float32)
    if isinstance(module, SequenceModel) and module.vocab_size is not None:
        inputs = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return weights.to_ours(entries, tensors, weights.shapes_of(module.init, inputs))


def to_torch(
    module: RecurrentModule, kind: type[RecurrentLayer], variables: weights.Variables, names: Mapping[str, str]
) -> weights.Arrays:
    """Returns PyTorch's state dict as NumPy arrays, made of our variables; arguments as those of `from_torch`."""
    return weights.to_theirs(_entries(module, kind, names), variables)


def layers(ours: str, theirs: str, stack: Recurrent) -> list[weights.Entry]:
    """Returns the entries of a stack: `ours` such as "params/recurrent/", `theirs` such as "lstm." (or "")."""
    return [
        entry
        for index in range(len(stack.hidden))
        for direction in stack.directions
        for entry in _layer(
            f"{ours}{direction}_{index}", theirs, f"l{index}{'_reverse' * (direction == 'backward')}", stack.layer
        )
    ]


def _entries(module: RecurrentModule, kind: type[RecurrentLayer], names: Mapping[str, str]) -> list[weights.Entry]:
    """Returns which is which."""
    if unknown := names.keys() - _NAMES.keys():
        raise RequestError(f"names: a model has {', '.join(_NAMES)}, and no {', '.join(sorted(unknown))}")
    names = {**_NAMES, **names}
    match module:
        case RecurrentLayer():
            layer = module
        case Recurrent():
            layer = module.layer
        case SequenceModel():
            layer = module.layer()
        case _:
            raise RequestError(f"{type(module).__name__} is no recurrent model, stack of layers or layer")
    if not isinstance(layer, kind):
        raise RequestError(f"expected layers of the kind {kind.__name__}, not {type(layer).__name__}")
    if isinstance(layer, GRULayer) and not layer.reset_after:
        raise RequestError("PyTorch's GRU has its reset gate after the product: it has no GRU with reset_after=False")
    if isinstance(layer, LSTMLayer) and layer.peepholes:
        raise RequestError("PyTorch's LSTM has no peepholes: it has none with peepholes=True")
    prefix = _prefix(module, names)
    if isinstance(module, RecurrentLayer):
        return _layer("params", prefix, "l0", layer)
    if isinstance(module, Recurrent):
        return layers("params/", prefix, module)
    if module.num_classes is None:
        raise RequestError(f"{type(module).__name__}(num_classes=None): give the number of outputs of these weights")
    stack = Recurrent(layer, module.hidden, module.bidirectional, parent=None)
    entries = layers("params/recurrent/", prefix, stack) + weights.dense("params/output", names["output"])
    if module.vocab_size is not None:
        entries.append(weights.same("params/embedding/embedding", f"{names['embedding']}.weight"))
    return entries


def _prefix(module: RecurrentModule, names: Mapping[str, str]) -> str:
    return f"{names['recurrent']}." if isinstance(module, SequenceModel) else ""


def _layer(ours: str, theirs: str, place: str, layer: RecurrentLayer) -> list[weights.Entry]:
    """Returns the entries of one layer and direction; `place` is such as "l0_reverse"."""
    biases = (f"{theirs}bias_ih_{place}", f"{theirs}bias_hh_{place}")
    return [
        weights.transposed(f"{ours}/kernel", f"{theirs}weight_ih_{place}"),
        weights.transposed(f"{ours}/recurrent", f"{theirs}weight_hh_{place}"),
        weights.Entry((f"{ours}/bias", f"{ours}/recurrent_bias"), biases, _read_gru, _write_gru)
        if isinstance(layer, GRULayer)
        else weights.Entry((f"{ours}/bias",), biases, _read_sum, lambda b: (b, np.zeros_like(b))),
    ]


def _read_sum(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray]:
    if one.shape != two.shape:
        raise ValueError("the two biases have different shapes")  # NumPy would stretch one of them
    return (one + two,)


def _read_gru(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The candidate's second bias stands inside the reset gate, so it is a parameter of its own."""
    gates = 2 * two.size // 3
    (bias,) = _read_sum(one, np.concatenate([two[:gates], np.zeros_like(two[gates:])]))
    return bias, two[gates:]


def _write_gru(bias: np.ndarray, recurrent_bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return bias, np.concatenate([np.zeros_like(bias[len(recurrent_bias) :]), recurrent_bias])
