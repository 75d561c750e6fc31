"""Long short-term memory and PyTorch: `torch.nn.LSTM`; the table is that of `recurrent`.

    variables = nm.interop.lstm.from_torch(model, network.state_dict(), names={"output": "head"})
    state_dict = nm.interop.lstm.to_torch(model, variables)

PyTorch has no peepholes.
"""

from collections.abc import Mapping
from typing import Any

from neuralmon.interop import recurrent
from neuralmon.interop.weights import Arrays, Variables
from neuralmon.layers import LSTMLayer, Recurrent
from neuralmon.models import LSTM


def from_torch(module: LSTM | Recurrent | LSTMLayer, source: Any, names: Mapping[str, str] | None = None) -> Variables:
    """Returns the variables of a model, a stack of layers or a layer; see `recurrent.from_torch`."""
    return recurrent.from_torch(module, LSTMLayer, source, {"recurrent": "lstm", **(names or {})})


def to_torch(
    module: LSTM | Recurrent | LSTMLayer, variables: Variables, names: Mapping[str, str] | None = None
) -> Arrays:
    """Returns PyTorch's state dict; see `recurrent.to_torch`."""
    return recurrent.to_torch(module, LSTMLayer, variables, {"recurrent": "lstm", **(names or {})})
