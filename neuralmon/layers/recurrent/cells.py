"""The three kinds of cell: Elman's, the gated recurrent unit, and long short-term memory.

In all equations x_t is the input of step t, h_t the hidden state after it, W a matrix of `kernel` (inputs, features),
U one of `recurrent` (features, features), b a part of `bias`; * is elementwise. What is after `inputs @ W + b` is in
`step`, line by line as in the equations.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from neuralmon import ops
from neuralmon.fields import Activation
from neuralmon.layers.initializers import Initializer, ones, zeros
from neuralmon.layers.recurrent.loop import RecurrentLayer, State, Weights


class ElmanLayer(RecurrentLayer):
    """A recurrent layer without gates.

        h_t = tanh(W x_t + U h_{t-1} + b)

    Source: Elman, "Finding structure in time", Cognitive Science 14, 1990.

    Attributes:
      activation: non-linearity of the hidden state; Elman's is a sigmoid one, relu with `recurrent_init` the identity
        is the IRNN of Le, Jaitly & Hinton 2015.
    """

    activation: Activation = jnp.tanh

    gates: ClassVar[tuple[str, ...]] = ("hidden",)

    @nn.nowrap
    def step(
        self, weights: Weights, state: State, projected: Float[Array, "batch features"]
    ) -> tuple[State, dict[str, Array]]:
        """See `RecurrentLayer.step`."""
        return {"hidden": self.activation(projected + self.product(state["hidden"], weights["recurrent"]))}, {}


class GRULayer(RecurrentLayer):
    """The gated recurrent unit: a reset gate r, an update gate z, a candidate n.

        r_t = sigmoid(W_r x_t + U_r h_{t-1} + b_r)
        z_t = sigmoid(W_z x_t + U_z h_{t-1} + b_z)
        n_t = tanh(W_n x_t + b_n + r_t * (U_n h_{t-1} + c_n))     with `reset_after`
        n_t = tanh(W_n x_t + b_n + U_n (r_t * h_{t-1}))           without
        h_t = z_t * h_{t-1} + (1 - z_t) * n_t

    As published the reset gate acts before the product with U_n. PyTorch and cuDNN let it act after, which makes the
    products of all three gates one, and gives the candidate a second bias c_n, `recurrent_bias`. The two are different
    functions; weights of one do not fit the other.

    Source: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
    EMNLP 2014, eqs. 5 to 8.

    Attributes:
      reset_after: let the reset gate act after the product with U_n, as PyTorch and cuDNN do; False: before it, as
        published.
      recurrent_bias_init: initialiser of the bias inside the reset gate, which only `reset_after` has.
    """

    reset_after: bool = True
    recurrent_bias_init: Initializer = zeros

    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")

    @nn.nowrap
    def declare(self, num_inputs: int) -> Weights:
        """See `RecurrentLayer.declare`; with `reset_after` also "recurrent_bias" (features,)."""
        weights = super().declare(num_inputs)
        if self.reset_after:
            weights["recurrent_bias"] = self.param("recurrent_bias", self.recurrent_bias_init, (self.width,))
        return weights

    @nn.nowrap
    def step(
        self, weights: Weights, state: State, projected: Float[Array, "batch 3*features"]
    ) -> tuple[State, dict[str, Array]]:
        """See `RecurrentLayer.step`."""
        h, size = state["hidden"], self.width
        x_r, x_z, x_n = jnp.split(projected, 3, axis=-1)
        if self.reset_after:
            h_r, h_z, h_n = jnp.split(self.product(h, weights["recurrent"]), 3, axis=-1)
            r = nn.sigmoid(x_r + h_r)
            n = jnp.tanh(x_n + r * (h_n + weights["recurrent_bias"]))
        else:
            h_r, h_z = jnp.split(self.product(h, weights["recurrent"][:, : 2 * size]), 2, axis=-1)
            r = nn.sigmoid(x_r + h_r)
            n = jnp.tanh(x_n + self.product(r * h, weights["recurrent"][:, 2 * size :]))
        z = nn.sigmoid(x_z + h_z)
        return {"hidden": z * h + (1 - z) * n}, {"reset": r, "update": z, "candidate": n}


class LSTMLayer(RecurrentLayer):
    """Long short-term memory: an input gate i, a forget gate f, a candidate g, an output gate o, a cell state c.

        i_t = sigmoid(W_i x_t + U_i h_{t-1} + p_i * c_{t-1} + b_i)
        f_t = sigmoid(W_f x_t + U_f h_{t-1} + p_f * c_{t-1} + b_f)
        g_t = tanh(W_g x_t + U_g h_{t-1} + b_g)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_o x_t + U_o h_{t-1} + p_o * c_t + b_o)
        h_t = o_t * tanh(c_t)

    The terms with p are there with `peepholes` only: the gates then see the cell state itself, even while the output
    gate hides it.

    Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997; the forget gate: Gers,
    Schmidhuber & Cummins, "Learning to Forget", Neural Computation 12(10), 2000; peepholes: Gers & Schmidhuber,
    "Recurrent nets that time and count", IJCNN 2000.

    Attributes:
      peepholes: let the gates see the cell state.
      forget_bias_init: initialiser of the forget gate's bias; 1 makes the cell remember at first (Jozefowicz, Zaremba &
        Sutskever, "An Empirical Exploration of Recurrent Network Architectures", ICML 2015).
      peephole_init: initialiser of the peepholes' weights; zeros: at first it is the LSTM without.
    """

    peepholes: bool = False
    forget_bias_init: Initializer = ones
    peephole_init: Initializer = zeros

    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    states: ClassVar[tuple[str, ...]] = ("hidden", "cell")

    @property
    def bias_inits(self) -> list[Initializer]:
        """See `RecurrentLayer.bias_inits`."""
        return [self.bias_init, self.forget_bias_init, self.bias_init, self.bias_init]

    @nn.nowrap
    def declare(self, num_inputs: int) -> Weights:
        """See `RecurrentLayer.declare`; with `peepholes` also "peephole" (3, features): input, forget, output gate."""
        weights = super().declare(num_inputs)
        if self.peepholes:
            weights["peephole"] = self.param("peephole", self.peephole_init, (3, self.width))
        return weights

    @nn.nowrap
    def step(
        self, weights: Weights, state: State, projected: Float[Array, "batch 4*features"]
    ) -> tuple[State, dict[str, Array]]:
        """See `RecurrentLayer.step`."""
        h, c = state["hidden"], state["cell"]
        p_i, p_f, p_o = weights["peephole"] if self.peepholes else (None, None, None)

        def gate(z: Array, p: Array | None, c: Array) -> Array:
            return nn.sigmoid(z if p is None else z + p * c)

        z_i, z_f, z_g, z_o = jnp.split(projected + self.product(h, weights["recurrent"]), 4, axis=-1)
        i, f = gate(z_i, p_i, c), gate(z_f, p_f, c)
        g = jnp.tanh(z_g)
        c = f * c + i * g
        o = gate(z_o, p_o, c)
        return {"hidden": o * jnp.tanh(c), "cell": c}, {"input": i, "forget": f, "candidate": g, "output": o}

    @nn.nowrap
    def over_time(
        self,
        weights: Weights,
        state: State,
        projected: Float[Array, "time batch 4*features"],
        real: Bool[Array, "time batch"] | None,
    ) -> tuple[State, tuple[Float[Array, "time batch features"], Any]]:
        """See `RecurrentLayer.over_time`; the plain LSTM has an op of its own, unless somebody looks at its gates."""
        plain = real is None and not self.peepholes and self.dtype == jnp.float32
        if not plain or self.is_mutable_collection("intermediates"):
            return super().over_time(weights, state, projected, real)
        final, hidden = ops.lstm(projected, weights["recurrent"], state, self.reverse)
        return final, (hidden, None)
