"""GPT with a head for a task: texts are classified by what a language model has made of them."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import FractionNumber, PositiveInt
from neuralmon.layers import Dropout, Initializer, Normal
from neuralmon.layers.texts import Texts, read_texts
from neuralmon.models.gpt import GPT


class GPTClassifier(GPT):
    """The last token's vector, which has seen all of the text, is classified: logits = h_n[last] W_y + b.

    All parameters but those of the head, "output", have the names they have in `GPT`, so that a run of a GPT is what
    such a run begins with: `--init_from=FOLDER`. Texts should end with a token that occurs nowhere else, at which the
    network learns to say what it has read; `nm.data.TextCsv` and its like see to that.

    Source: Radford et al., "Improving Language Understanding by Generative Pre-Training", 2018, section 3.2 (eq. 3, 5).

    Attributes:
      num_classes: number of outputs; None: as many as the data has classes.
      next_tokens: give the logits of the next tokens too, for `nm.tasks.FineTuning(language_weight=...)`.
      output_dropout: probability of dropping an element of the last token's vector while training; None: no dropout.
      output_init: initialiser of the head's weights.
    """

    num_classes: PositiveInt | None = None
    next_tokens: bool = False
    output_dropout: FractionNumber | None = None
    output_init: Initializer = Normal(0.02)

    def __call__(self, inputs: Texts, train: bool = False) -> Any:
        """Returns logits (batch, classes); if `next_tokens`, {"classes": these, "tokens": (batch, time, vocab_size)}.

        Args:
          inputs: tokens (batch, time), or {"sequence": tokens, "lengths": ...} (see `neuralmon.layers.texts`).
          train: whether dropout acts.

        Raises:
          ValueError: these are no texts, or too long; a size is None.
        """
        if self.num_classes is None:
            what = "GPTClassifier(num_classes=None)"
            raise ValueError(f"{what}: give the number of outputs, or let an experiment's data decide it")
        tokens, real = read_texts("GPTClassifier", inputs)
        last = jnp.maximum(real.sum(axis=1) - 1, 0)
        if not self.next_tokens:
            return self._run(tokens, None, last, train)[0][:, 0]
        outputs = self._run(tokens, None, None, train)[0]
        classes = jnp.take_along_axis(outputs["classes"], last[:, None, None], axis=1)[:, 0]
        return {"classes": classes, "tokens": outputs["tokens"]}

    def _outputs(self, x: Float[Array, "batch places width"], table: nn.Embed, train: bool) -> Any:
        """Returns the classes' logits at these places."""
        assert self.num_classes is not None  # the call has seen to that
        precise = jnp.promote_types(self.dtype, jnp.float32)
        head = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )
        classes = head(Dropout(self.output_dropout)(x, train)).astype(precise)
        return {"classes": classes, "tokens": super()._outputs(x, table, train)} if self.next_tokens else classes

    def decode(self, *args: Any, **options: Any) -> Any:
        """A classifier does not write: raises ValueError."""
        raise ValueError("GPTClassifier classifies texts; a GPT continues them")
