"""What the recurrent models share: reading sequences or tokens, the stack of layers, the output layer."""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from neuralmon.fields import Dtype, FractionNumber, PositiveInt
from neuralmon.layers.dropout import Dropout
from neuralmon.layers.initializers import Initializer, Normal, glorot_uniform, orthogonal, zeros
from neuralmon.layers.recurrent.loop import RecurrentLayer, State, mask_from_lengths
from neuralmon.layers.recurrent.stack import Recurrent


class SequenceModel(nn.Module):
    """Recurrent layers over a sequence of features or tokens, then a dense output layer; a subclass says which layers.

    `inputs` of a call are one of

    - features: floating-point numbers (batch, time, features); (batch, time) has one feature a step, and axes behind
      the second are flattened, so that an image is read row by row;
    - tokens: integers (batch, time), with `vocab_size`;
    - {"sequence": either of these, "lengths": integers (batch,)} or {"sequence": ..., "mask": booleans (batch, time)}
      where sequences have different lengths: what is behind a sequence's length, or False in the mask, is no step.

    Attributes:
      hidden: width of each recurrent layer, of one direction.
      num_classes: number of outputs; None: as many as the data has classes.
      output: "last": one output for each sequence, made of the hidden state after its last step; "all": one output for
        each step.
      bidirectional: let each layer read in both directions, each with its own weights.
      vocab_size: number of different tokens, for inputs that are tokens; None: inputs are features.
      embedding_dim: width of a token's vector.
      dropout: probability of dropping, while training, an output of one layer on its way to the next or to the output
        layer; None: no dropout.
      kernel_init: initialiser of the weights of the recurrent layers' inputs.
      recurrent_init: initialiser of the weights of the recurrent layers' states.
      output_init: initialiser of the output layer's weights.
      embedding_init: initialiser of the tokens' vectors.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    hidden: tuple[PositiveInt, ...] = (128,)
    num_classes: PositiveInt | None = None
    output: Literal["last", "all"] = "last"
    bidirectional: bool = False
    vocab_size: PositiveInt | None = None
    embedding_dim: PositiveInt = 64
    dropout: FractionNumber | None = None
    kernel_init: Initializer = glorot_uniform
    recurrent_init: Initializer = orthogonal
    output_init: Initializer = glorot_uniform
    embedding_init: Initializer = Normal(1.0)
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.nowrap
    def layer(self) -> RecurrentLayer:
        """Returns the kind of recurrent layer, with its options; those of every kind are `layer_options`."""
        raise NotImplementedError

    @property
    def layer_options(self) -> dict[str, Any]:
        """The options that every kind of recurrent layer has."""
        initializers = {name: getattr(self, name) for name in ("kernel_init", "recurrent_init", "bias_init")}
        return {**initializers, "dtype": self.dtype, "parent": None}

    @nn.nowrap
    def initial_state(self, batch_size: int) -> dict[str, State]:
        """Returns the state before the first step, of each layer: zeros."""
        return Recurrent(self.layer(), self.hidden, self.bidirectional, parent=None).initial_state(batch_size)

    def __call__(self, inputs: Any, train: bool = False) -> Float[Array, "batch *time classes"]:
        """Returns outputs (batch, classes), or (batch, time, classes) where `output` is "all", in float32 at least.

        Raises:
          ValueError: `inputs` are none of the above, or a size is left open.
        """
        return self.run(inputs, train=train)[0]

    @nn.compact
    def run(
        self, inputs: Any, state: dict[str, State] | None = None, train: bool = False
    ) -> tuple[Float[Array, "batch *time classes"], dict[str, State]]:
        """Returns the outputs, and the state after the last step to go on with: a sequence can come in parts.

            outputs, state = model.apply(variables, inputs, state, method="run")

        Args:
          inputs: as those of a call.
          state: the state before the first step, of `initial_state` or of the call before; None: zeros.
          train: whether `dropout` acts.

        Raises:
          ValueError: as a call; or there is a state and the model reads backwards too, for what comes after this part
            would have had to be read before it.
        """
        name = type(self).__name__
        if self.num_classes is None:
            raise ValueError(
                f"{name}(num_classes=None): give the number of outputs, or let an experiment's data decide it"
            )
        if not self.hidden:
            raise ValueError(f"{name}(hidden=()): give the width of one recurrent layer at least")
        if self.bidirectional and state is not None:
            raise ValueError(
                f"{name}(bidirectional=True) has to see a whole sequence at once: it cannot go on from a state"
            )
        x, mask = self._read(inputs)
        layers = Recurrent(self.layer(), self.hidden, self.bidirectional, self.dropout, name="recurrent")
        x, state = layers.run(x, state, mask, train)
        if self.output == "last":
            last = len(self.hidden) - 1
            x = jnp.concatenate([state[f"{way}_{last}"]["hidden"] for way in layers.directions], axis=-1)
        x = Dropout(self.dropout)(x, train)
        outputs = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x)
        return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32)), state

    def decode(
        self, tokens: Int[Array, "batch time"], cache: dict[str, State], lengths: Int[Array, " batch"] | None = None
    ) -> tuple[Float[Array, "batch classes"], dict[str, State]]:
        """Reads on, and returns the outputs after each example's last token, and the state to go on with.

        With it a model of tokens writes as a GPT does (see `neuralmon.models.generation`).

        Args:
          tokens: a prompt, or the token chosen last.
          cache: from `empty_cache`, or from the call before.
          lengths: how many of each example's `tokens` are real, at least 1; behind them is padding. None: all.

        Raises:
          ValueError: as `run`.
        """
        if self.bidirectional:
            raise ValueError(f"{type(self).__name__}(bidirectional=True) reads what comes later too: it cannot write")
        inputs = tokens if lengths is None else {"sequence": tokens, "lengths": lengths}
        outputs, cache = self.run(inputs, cache)
        if self.output == "all":
            last = jnp.full(len(tokens), tokens.shape[1] - 1) if lengths is None else lengths - 1
            outputs = jnp.take_along_axis(outputs, last[:, None, None], axis=1)[:, 0]
        return outputs, cache

    @nn.nowrap
    def empty_cache(self, batch_size: int, max_length: int | None = None) -> dict[str, State]:
        """Returns the cache for `decode` before the first token: the initial state, with room for any text."""
        return self.initial_state(batch_size)

    @nn.nowrap
    def unstacked(self, variables: dict, cache: dict[str, State]) -> tuple[dict, dict[str, State]]:
        """Returns variables and cache for `decode` as they are: a loop over tokens reads them where they lie."""
        return variables, cache

    @nn.nowrap
    def _read(self, inputs: Any) -> tuple[Float[Array, "batch time features"], Bool[Array, "batch time"] | None]:
        """Returns features, tokens as their vectors, and where there are steps."""
        name, lengths, mask = type(self).__name__, None, None
        if isinstance(inputs, Mapping):
            if inputs.keys() not in ({"sequence"}, {"sequence", "lengths"}, {"sequence", "mask"}):
                raise ValueError(
                    f"{name} takes inputs with a sequence and its lengths or its mask, not {sorted(inputs)}"
                )
            lengths, mask, inputs = inputs.get("lengths"), inputs.get("mask"), inputs["sequence"]
        if inputs.ndim < 2:
            raise ValueError(f"{name} takes sequences (batch, time, features), not inputs of shape {inputs.shape}")
        if lengths is not None:
            if jnp.shape(lengths) != inputs.shape[:1]:
                raise ValueError(
                    f"{name} takes one length a sequence, {inputs.shape[:1]}, not lengths {jnp.shape(lengths)}"
                )
            mask = mask_from_lengths(lengths, inputs.shape[1])
        if jnp.issubdtype(inputs.dtype, jnp.floating):
            if self.vocab_size is not None:
                raise ValueError(f"{name}(vocab_size={self.vocab_size}) takes tokens, integers, not {inputs.dtype}")
            return jax.lax.collapse(inputs, 2), mask
        if self.vocab_size is None:
            raise ValueError(
                f"{name}(vocab_size=None) takes floating-point numbers, not {inputs.dtype}: give vocab_size for tokens"
            )
        if inputs.ndim != 2:
            raise ValueError(f"{name} takes tokens (batch, time), not {inputs.shape}")
        embed = nn.Embed(
            self.vocab_size, self.embedding_dim, dtype=self.dtype, embedding_init=self.embedding_init, name="embedding"
        )
        return embed(inputs), mask
