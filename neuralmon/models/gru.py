"""The gated recurrent unit."""

import flax.linen as nn

from neuralmon.layers import GRULayer, RecurrentLayer, SequenceModel


class GRU(SequenceModel):
    """A recurrent network whose hidden state h is kept or replaced, unit by unit, as two gates say.

    A step t, * elementwise; x_t is (batch, features), everything else (batch, hidden):

        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)                 reset gate: how much of the past the candidate sees
        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)                 update gate: how much of the past stays
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))      candidate
        h_t = z_t * h_{t-1} + (1 - z_t) * n_t

    Where z is 1 the state stays as it is and so does the gradient through it, however many steps there are.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
    EMNLP 2014, eqs. 5 to 8, where the candidate is n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1})); as above it is
    PyTorch's and cuDNN's.

    Attributes:
      reset_after: let the reset gate act after the product with U_n, as above; False: before it, as published.
    """

    reset_after: bool = True

    @nn.nowrap
    def layer(self) -> RecurrentLayer:
        """See `SequenceModel.layer`."""
        return GRULayer(reset_after=self.reset_after, recurrent_bias_init=self.bias_init, **self.layer_options)
