"""What several models of the same data say together: the average of their probabilities, as logits again.

Source: Hansen & Salamon, "Neural network ensembles", IEEE Trans. Pattern Anal. Mach. Intell. 12, 1990.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def average_of_classes(logits: Float[Array, "members ... classes"]) -> Float[Array, "... classes"]:
    """Returns log(mean over the members of softmax(logits)), in float32."""
    logarithms = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jax.nn.logsumexp(logarithms, axis=0) - jnp.log(float(logits.shape[0]))


def average_of_decisions(logits: Float[Array, "members ..."]) -> Float[Array, "..."]:
    """Returns the logit of the mean over the members of the logistic function of `logits`, in float32."""
    logits = logits.astype(jnp.float32)
    return jax.nn.logsumexp(jax.nn.log_sigmoid(logits), axis=0) - jax.nn.logsumexp(jax.nn.log_sigmoid(-logits), axis=0)
