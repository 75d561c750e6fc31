"""Simple recurrent networks and PyTorch: `torch.nn.RNN`; the table is that of `recurrent`.

    variables = nm.interop.rnn.from_torch(model, network.state_dict(), names={"output": "head"})
    state_dict = nm.interop.rnn.to_torch(model, variables)

The activation is not in the weights: PyTorch's `nonlinearity="relu"` is our `activation=nn.relu`.
"""

from collections.abc import Mapping
from typing import Any

from neuralmon.interop import recurrent
from neuralmon.interop.weights import Arrays, Variables
from neuralmon.layers import ElmanLayer, Recurrent
from neuralmon.models import RNN


def from_torch(module: RNN | Recurrent | ElmanLayer, source: Any, names: Mapping[str, str] | None = None) -> Variables:
    """Returns the variables of a model, a stack of layers or a layer; see `recurrent.from_torch`."""
    return recurrent.from_torch(module, ElmanLayer, source, {"recurrent": "rnn", **(names or {})})


def to_torch(
    module: RNN | Recurrent | ElmanLayer, variables: Variables, names: Mapping[str, str] | None = None
) -> Arrays:
    """Returns PyTorch's state dict; see `recurrent.to_torch`."""
    return recurrent.to_torch(module, ElmanLayer, variables, {"recurrent": "rnn", **(names or {})})
