"""The simple recurrent network of Elman."""

import flax.linen as nn
import jax.numpy as jnp

from neuralmon.fields import Activation
from neuralmon.layers import ElmanLayer, RecurrentLayer, SequenceModel


class RNN(SequenceModel):
    """The simple recurrent network: what it has read so far is one vector, the hidden state h.

    At each step t it is made anew from the input x_t (batch, features) and from itself:

        h_t = tanh(W x_t + U h_{t-1} + b)     (batch, hidden), h_0 = 0
        y   = V h_T + c                       (batch, classes), or y_t = V h_t + c for each step

    The next layer reads h_1, ..., h_T as its inputs. The gradient of a late step by an early one is a product of as
    many factors U^T diag(1 - h^2) as there are steps between them: it vanishes or explodes (Bengio, Simard & Frasconi
    1994), which is why there are GRU and LSTM.

    Source: Elman, "Finding structure in time", Cognitive Science 14, 1990.

    Attributes:
      activation: non-linearity of the hidden state.
    """

    activation: Activation = jnp.tanh

    @nn.nowrap
    def layer(self) -> RecurrentLayer:
        """See `SequenceModel.layer`."""
        return ElmanLayer(activation=self.activation, **self.layer_options)
