"""Skip-gram word embeddings."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from neuralmon.fields import Dtype, PositiveInt
from neuralmon.layers import Initializer, Normal, zeros


class SkipGram(nn.Module):
    """Two tables of vectors; how well a word and a context go together is the dot product of their rows.

        logit[b, i] = context_embedding[contexts[b, i]] . embedding[center[b]]

    Trained by negative sampling (`neuralmon.tasks.NegativeSampling`), words that occur in like contexts get like rows
    in `embedding`, which are the word vectors. The other table is thrown away.

    Source: Mikolov, Sutskever, Chen, Corrado & Dean, "Distributed Representations of Words and Phrases and their
    Compositionality", arXiv:1310.4546, section 2.2: v_w is `embedding`, v'_w is `context_embedding`.

    Attributes:
      vocab_size: number of words; None: as many as the data has.
      embedding_dim: length of a word's vector.
      embedding_init: initialiser of the words' vectors.
      context_init: initialiser of the contexts' vectors; word2vec begins with zeros, where every logit is 0.
      dtype: type of the computation; parameters stay float32.
    """

    vocab_size: PositiveInt | None = None
    embedding_dim: PositiveInt = 100
    embedding_init: Initializer = Normal(0.1)
    context_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: dict[str, Int[Array, " batch"] | Int[Array, "batch contexts"]]
    ) -> Float[Array, "batch contexts"]:
        """Returns the logits of {"center": (batch,), "contexts": (batch, contexts)}, both numbers of words."""
        if self.vocab_size is None:
            raise ValueError("SkipGram(vocab_size=None): give the number of words, or let the data decide it")
        center, contexts = inputs["center"], inputs["contexts"]
        if center.ndim != 1 or contexts.ndim != 2 or center.shape[0] != contexts.shape[0]:
            shapes = f"center {center.shape} and contexts {contexts.shape}"
            raise ValueError(f"SkipGram takes center (batch,) and contexts (batch, contexts), not {shapes}")
        shape = (self.vocab_size, self.embedding_dim)
        embedding = self.param("embedding", self.embedding_init, shape)
        context_embedding = self.param("context_embedding", self.context_init, shape)
        words = embedding[center].astype(self.dtype)
        around = context_embedding[contexts].astype(self.dtype)
        logits = jnp.einsum("bcd,bd->bc", around, words)
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
