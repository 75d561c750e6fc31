"""The loop over time, which every recurrent layer shares."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from neuralmon.fields import Dtype, PositiveInt
from neuralmon.layers.initializers import Initializer, glorot_uniform, orthogonal, zeros

# What a layer remembers from one step to the next: "hidden" and, of an LSTM, "cell"; each (batch, features).
State: TypeAlias = dict[str, Array]
Weights: TypeAlias = dict[str, Array]


class RecurrentLayer(nn.Module):
    """One layer that reads a sequence step by step; the cell's equations are a subclass's `step`.

    What the inputs contribute does not depend on the state, so it is one matrix product for all steps at once. Only
    what the state contributes, (batch, features) times (features, gates * features), is left to the loop.

    States have the type of the computation but at least float32: a cell adds up many small terms, which bfloat16 would
    lose. Products take `dtype` and add up in the states' type.

    Attributes:
      features: width of the state and of the outputs; None: the stack it is a part of says it.
      reverse: read the sequence from its last step to its first.
      kernel_init: initialiser of the inputs' weights, of each gate's own matrix (inputs, features).
      recurrent_init: initialiser of the state's weights, of each gate's own matrix (features, features).
      bias_init: initialiser of the biases.
      dtype: type of the computation; parameters stay float32.
    """

    features: PositiveInt | None = None
    reverse: bool = False
    kernel_init: Initializer = glorot_uniform
    recurrent_init: Initializer = orthogonal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    # Of a kind of cell: what its matrices compute, in the order of their columns; what is in its state.
    gates: ClassVar[tuple[str, ...]] = ()
    states: ClassVar[tuple[str, ...]] = ("hidden",)

    @nn.nowrap
    def declare(self, num_inputs: int) -> Weights:
        """Returns the parameters: "kernel" (inputs, gates * features), "recurrent" (features, same), "bias" (same)."""
        size, count = self.width, len(self.gates)
        return {
            "kernel": self.param("kernel", each_gate(self.kernel_init, count), (num_inputs, count * size)),
            "recurrent": self.param("recurrent", each_gate(self.recurrent_init, count), (size, count * size)),
            "bias": self.param("bias", side_by_side(self.bias_inits), (count * size,)),
        }

    @property
    def bias_inits(self) -> list[Initializer]:
        """The initialiser of each gate's bias."""
        return [self.bias_init] * len(self.gates)

    @nn.nowrap
    def step(
        self, weights: Weights, state: State, projected: Float[Array, "batch gates_features"]
    ) -> tuple[State, dict[str, Array]]:
        """Returns the next state and the gates that made it, by name; a pure function.

        Args:
          weights: what `declare` returned, in `dtype`.
          state: the state before this step.
          projected: W x_t + b of all gates, side by side.
        """
        raise NotImplementedError

    @nn.nowrap
    def initial_state(self, batch_size: int) -> State:
        """Returns the state before the first step: zeros, each (batch_size, features)."""
        return {name: jnp.zeros((batch_size, self.width), self.state_dtype) for name in self.states}

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, "batch time inputs"],
        state: State | None = None,
        mask: Bool[Array, "batch time"] | None = None,
    ) -> tuple[Float[Array, "batch time features"], State]:
        """Returns the hidden state after each step, and the state after the last one.

        Where `mask` is False there is no step: the state stays as it is, outputs are zero, and whatever `inputs` holds
        there is ignored. Since a layer with `reverse` then carries its initial state through the padding to the last
        real step, it reads each sequence backwards within that sequence's own length.

        Sown into "intermediates": "gates", {name: (batch, time, features)}, and "hidden_states", "cell_states" (batch,
        time, features), zero where masked.

        Args:
          inputs: the sequences.
          state: the state before the first step that is read; None: zeros.
          mask: True where there is a step; None: everywhere.

        Raises:
          ValueError: the shapes do not fit.
        """
        self._check(inputs, state, mask)
        if mask is not None:
            inputs = jnp.where(mask[..., None], inputs, 0)
        weights = {name: weight.astype(self.dtype) for name, weight in self.declare(inputs.shape[-1]).items()}
        state = self.initial_state(len(inputs)) if state is None else state
        state = {name: state[name].astype(self.state_dtype) for name in self.states}
        # Time comes first from here on: the inputs are smaller than what all gates make of them.
        inputs, real = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (inputs.astype(self.dtype), mask))
        projected = inputs @ weights["kernel"] + weights["bias"]
        final, history = self.over_time(weights, state, projected, real)
        history = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), history)
        if mask is not None:
            history = jax.tree.map(lambda x: jnp.where(mask[..., None], x, 0), history)
        outputs, seen = history
        if seen is not None:
            gates, states = seen
            if gates:
                self.sow("intermediates", "gates", gates)
            for name in self.states:
                self.sow("intermediates", f"{name}_states", states[name])
        return outputs, final

    @nn.nowrap
    def over_time(
        self,
        weights: Weights,
        state: State,
        projected: Float[Array, "time batch gates_features"],
        real: Bool[Array, "time batch"] | None,
    ) -> tuple[State, tuple[Float[Array, "time batch features"], Any]]:
        """Returns the last state, and of all steps the outputs and what is to be looked at, or None."""
        looked_at = self.is_mutable_collection("intermediates")

        def body(state: State, now: tuple[Array, Array | None]) -> tuple[State, Any]:
            projected, real = now
            after, gates = self.step(weights, state, projected.astype(self.state_dtype))
            if real is not None:
                after = jax.tree.map(lambda new, old: jnp.where(real[:, None], new, old), after, state)
            seen = (gates, after) if looked_at else None
            return after, (after["hidden"].astype(self.dtype), seen)

        return jax.lax.scan(body, state, (projected, real), reverse=self.reverse)

    @property
    def width(self) -> int:
        """The number of features."""
        if self.features is None:
            raise ValueError(f"{type(self).__name__}(features=None): give the width of the state")
        return self.features

    @property
    def state_dtype(self) -> Any:
        """The type of the states."""
        return jnp.promote_types(self.dtype, jnp.float32)

    @nn.nowrap
    def product(self, state: Float[Array, "batch features"], matrix: Float[Array, "features outputs"]) -> Array:
        """Returns the product of a state and a matrix, of `dtype` each, in the states' type."""
        return jnp.matmul(state.astype(self.dtype), matrix, preferred_element_type=self.state_dtype)

    @nn.nowrap
    def _check(self, inputs: Array, state: State | None, mask: Array | None) -> None:
        name = type(self).__name__
        if inputs.ndim != 3:
            raise ValueError(f"{name} takes sequences (batch, time, features), not inputs of shape {inputs.shape}")
        if mask is not None and (mask.shape != inputs.shape[:2] or mask.dtype != jnp.bool_):
            what = f"a mask of {mask.dtype} {mask.shape}"
            raise ValueError(f"{name} takes a mask of booleans (batch, time), here {inputs.shape[:2]}, not {what}")
        shapes = None if state is None else {key: leaf.shape for key, leaf in state.items()}
        needed = dict.fromkeys(self.states, (inputs.shape[0], self.width))
        if shapes is not None and shapes != needed:
            raise ValueError(f"{name} takes a state of the shapes {needed} here, not {shapes}")


def mask_from_lengths(lengths: Int[Array, " batch"], num_steps: int) -> Bool[Array, "batch time"]:
    """Returns True for the first `lengths` steps of each sequence."""
    return jnp.arange(num_steps) < jnp.asarray(lengths)[:, None]


def each_gate(initializer: Initializer, count: int) -> Initializer:
    """Returns the initialiser of `count` arrays side by side along the last axis, each drawn for itself."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        one = (*shape[:-1], shape[-1] // count)
        # Mapped, so that there is one program for all of them: orthogonal matrices take long to compile.
        arrays = jax.vmap(lambda key: initializer(key, one, dtype))(jax.random.split(key, count))
        return jnp.moveaxis(arrays, 0, -2).reshape(shape)

    return initialize


def side_by_side(initializers: Sequence[Initializer]) -> Initializer:
    """Returns the initialiser of an array whose last axis is cut into equal parts, each made by one of these."""

    def initialize(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        part = (*shape[:-1], shape[-1] // len(initializers))
        keys = jax.random.split(key, len(initializers))
        return jnp.concatenate([init(k, part, dtype) for init, k in zip(initializers, keys, strict=True)], axis=-1)

    return initialize
