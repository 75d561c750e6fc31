"""Gated recurrent units and PyTorch: `torch.nn.GRU`; the table is that of `recurrent`.

    variables = nm.interop.gru.from_torch(model, network.state_dict(), names={"output": "head"})
    state_dict = nm.interop.gru.to_torch(model, variables)

PyTorch has the GRU with `reset_after` only.
"""

from collections.abc import Mapping
from typing import Any

from neuralmon.interop import recurrent
from neuralmon.interop.weights import Arrays, Variables
from neuralmon.layers import GRULayer, Recurrent
from neuralmon.models import GRU


def from_torch(module: GRU | Recurrent | GRULayer, source: Any, names: Mapping[str, str] | None = None) -> Variables:
    """Returns the variables of a model, a stack of layers or a layer; see `recurrent.from_torch`."""
    return recurrent.from_torch(module, GRULayer, source, {"recurrent": "gru", **(names or {})})


def to_torch(
    module: GRU | Recurrent | GRULayer, variables: Variables, names: Mapping[str, str] | None = None
) -> Arrays:
    """Returns PyTorch's state dict; see `recurrent.to_torch`."""
    return recurrent.to_torch(module, GRULayer, variables, {"recurrent": "gru", **(names or {})})
