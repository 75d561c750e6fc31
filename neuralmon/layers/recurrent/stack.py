"""Recurrent layers on top of each other, in one direction or both."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon.fields import FractionNumber, PositiveInt
from neuralmon.layers.dropout import Dropout
from neuralmon.layers.recurrent.loop import RecurrentLayer, State


class Recurrent(nn.Module):
    """Recurrent layers on top of each other: `Recurrent(LSTMLayer(), hidden=(64, 64), bidirectional=True)`.

    A bidirectional layer is two layers that read the same inputs, one from the first step to the last and one from the
    last to the first; the outputs of both stand side by side. The layers are called forward_0, backward_0, forward_1,
    ..., in the parameters and in the state: {"forward_0": {"hidden": (batch, hidden), ...}, ...}.

    Source: Schuster & Paliwal, "Bidirectional Recurrent Neural Networks", IEEE Transactions on Signal Processing
    45(11), 1997; dropout between layers only: Zaremba, Sutskever & Vinyals, "Recurrent Neural Network Regularization",
    2014.

    Attributes:
      layer: the kind of layer and its options.
      hidden: width of each layer, of one direction.
      bidirectional: let each layer read in both directions.
      dropout: probability of dropping, while training, an output of one layer on its way to the next; None: no dropout.
    """

    layer: RecurrentLayer
    hidden: tuple[PositiveInt, ...] = (128,)
    bidirectional: bool = False
    dropout: FractionNumber | None = None

    @property
    def directions(self) -> tuple[str, ...]:
        """The directions in which each layer reads."""
        return ("forward", "backward") if self.bidirectional else ("forward",)

    @nn.nowrap
    def initial_state(self, batch_size: int) -> dict[str, State]:
        """Returns the state before the first step, of each layer and direction: zeros."""
        return {
            f"{direction}_{index}": self.layer.clone(features=width, parent=None).initial_state(batch_size)
            for index, width in enumerate(self.hidden)
            for direction in self.directions
        }

    def __call__(
        self,
        inputs: Float[Array, "batch time inputs"],
        mask: Bool[Array, "batch time"] | None = None,
        train: bool = False,
    ) -> Float[Array, "batch time directions*hidden"]:
        """Returns the outputs of the last layer, zero where `mask` is False."""
        return self.run(inputs, mask=mask, train=train)[0]

    @nn.compact
    def run(
        self,
        inputs: Float[Array, "batch time inputs"],
        state: dict[str, State] | None = None,
        mask: Bool[Array, "batch time"] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "batch time directions*hidden"], dict[str, State]]:
        """Returns the outputs of the last layer, and the state of every layer after its last step.

        Args:
          inputs: the sequences.
          state: the state of every layer before its first step, which is the sequence's last one where a layer reads
            backwards; None: zeros.
          mask: True where there is a step (see `RecurrentLayer`); None: everywhere.
          train: whether `dropout` acts.

        Raises:
          ValueError: the shapes do not fit.
        """
        state = self.initial_state(inputs.shape[0]) if state is None else state
        if state.keys() != (needed := self.initial_state(1).keys()):
            raise ValueError(f"the state of these layers has {', '.join(needed)}, not {', '.join(state) or 'nothing'}")
        final: dict[str, State] = {}
        x = inputs
        for index, width in enumerate(self.hidden):
            x = Dropout(self.dropout, name=f"dropout_{index}")(x, train) if index else x
            outputs = []
            for direction in self.directions:
                name, reverse = f"{direction}_{index}", direction == "backward"
                layer = self.layer.clone(features=width, reverse=reverse, name=name, parent=self)
                y, final[name] = layer(x, state[name], mask)
                outputs.append(y)
            x = jnp.concatenate(outputs, axis=-1)
        return x, final
