"""Long short-term memory."""

import flax.linen as nn

from neuralmon.layers import Initializer, LSTMLayer, RecurrentLayer, SequenceModel, ones


class LSTM(SequenceModel):
    """A recurrent network with a memory of its own, the cell state c, which gates write, keep and show.

    A step t, * elementwise; x_t is (batch, features), everything else (batch, hidden):

        i_t = sigmoid(W_i x_t + U_i h_{t-1} + b_i)      input gate: how much of the candidate is written
        f_t = sigmoid(W_f x_t + U_f h_{t-1} + b_f)      forget gate: how much of the memory stays
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)         candidate
        c_t = f_t * c_{t-1} + i_t * g_t                 cell state
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + b_o)      output gate: how much of the memory shows
        h_t = o_t * tanh(c_t)                           hidden state, what the next layer reads

    From c_{t-1} to c_t there is no matrix and no tanh: a gradient goes back unchanged for as long as f is 1. With
    `peepholes` the gates also see the memory: + p_i * c_{t-1} and + p_f * c_{t-1} inside i and f, + p_o * c_t inside o.

    Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997; the forget gate: Gers,
    Schmidhuber & Cummins 2000; peepholes: Gers & Schmidhuber 2000; the forget gate's bias of 1: Jozefowicz, Zaremba &
    Sutskever 2015.

    Attributes:
      peepholes: let the gates see the cell state.
      forget_bias_init: initialiser of the forget gate's bias; 1 makes the cell remember at first.
    """

    peepholes: bool = False
    forget_bias_init: Initializer = ones

    @nn.nowrap
    def layer(self) -> RecurrentLayer:
        """See `SequenceModel.layer`."""
        return LSTMLayer(peepholes=self.peepholes, forget_bias_init=self.forget_bias_init, **self.layer_options)
