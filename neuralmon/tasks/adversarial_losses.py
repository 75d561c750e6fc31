"""The losses of adversarial training: of the discriminator, and of the generator against it.

A discriminator gives logits f(x), positive for "real"; D(x) = sigmoid(f(x)). Each loss is three functions of logits,

    discriminator minimises  E[real(f(x))] + E[fake(f(G(z)))]
    generator minimises      E[generator(f(G(z)))]

elementwise, so that whoever trains takes the means. A penalty is added to the discriminator's loss.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import NonNegativeNumber, Number

Logits: TypeAlias = Float[Array, "..."]
Samples: TypeAlias = Float[Array, "batch ..."]
Discriminator: TypeAlias = Callable[[Samples], Float[Array, "batch ..."]]


@runtime_checkable
class AdversarialLoss(Protocol):
    """The game that both play. Implementations are frozen dataclasses."""

    def real(self, logits: Logits) -> Logits:
        """Returns what real samples of these logits cost the discriminator, each."""
        ...

    def fake(self, logits: Logits) -> Logits:
        """Returns what generated samples of these logits cost the discriminator, each."""
        ...

    def generator(self, logits: Logits) -> Logits:
        """Returns what generated samples of these logits cost the generator, each."""
        ...


@dataclasses.dataclass(frozen=True)
class Minimax:
    """The generator minimises what the discriminator maximises: log D(x) + log(1 - D(G(z))).

    Source: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014, eq. 1. The generator's gradient vanishes
    where the discriminator is sure.
    """

    def real(self, logits: Logits) -> Logits:
        """Returns -log D, which is log(1 + exp(-f))."""
        return jax.nn.softplus(-logits)

    def fake(self, logits: Logits) -> Logits:
        """Returns -log(1 - D), which is log(1 + exp(f))."""
        return jax.nn.softplus(logits)

    def generator(self, logits: Logits) -> Logits:
        """Returns log(1 - D)."""
        return -jax.nn.softplus(logits)


@dataclasses.dataclass(frozen=True)
class NonSaturating(Minimax):
    """The generator maximises log D(G(z)) instead: the same fixed point, with strong gradients from the start.

    Source: Goodfellow et al. 2014, sec. 3.
    """

    def generator(self, logits: Logits) -> Logits:
        """Returns -log D."""
        return jax.nn.softplus(-logits)


@dataclasses.dataclass(frozen=True)
class LeastSquares:
    """Squared distances from targets: samples that are on the right side but far from the data are pulled in too.

    Source: Mao et al., "Least Squares Generative Adversarial Networks", ICCV 2017, eq. 2, with its factors 1/2; the
    defaults are those of eq. 9.

    Attributes:
      fake_target: a, what the discriminator should say of generated samples.
      real_target: b, what it should say of real ones.
      generator_target: c, what the generator wants it to say of generated samples.
    """

    fake_target: Number = 0.0
    real_target: Number = 1.0
    generator_target: Number = 1.0

    def real(self, logits: Logits) -> Logits:
        """Returns (f - b)^2 / 2."""
        return jnp.square(logits - self.real_target) / 2

    def fake(self, logits: Logits) -> Logits:
        """Returns (f - a)^2 / 2."""
        return jnp.square(logits - self.fake_target) / 2

    def generator(self, logits: Logits) -> Logits:
        """Returns (f - c)^2 / 2."""
        return jnp.square(logits - self.generator_target) / 2


@dataclasses.dataclass(frozen=True)
class Hinge:
    """The discriminator is a support vector machine: what is right by more than 1 costs nothing.

    Source: Lim & Ye, "Geometric GAN", 2017, arXiv:1705.02894; Miyato et al., "Spectral Normalization for Generative
    Adversarial Networks", ICLR 2018, eq. 16 and 17.
    """

    def real(self, logits: Logits) -> Logits:
        """Returns max(0, 1 - f)."""
        return jax.nn.relu(1 - logits)

    def fake(self, logits: Logits) -> Logits:
        """Returns max(0, 1 + f)."""
        return jax.nn.relu(1 + logits)

    def generator(self, logits: Logits) -> Logits:
        """Returns -f."""
        return -logits


@dataclasses.dataclass(frozen=True)
class Wasserstein:
    """The discriminator, then called critic, estimates the earth mover's distance: E[f(x)] - E[f(G(z))].

    That is so only for critics of slope at most 1, which a `GradientPenalty` or spectral normalisation sees to.

    Source: Arjovsky, Chintala & Bottou, "Wasserstein Generative Adversarial Networks", ICML 2017, eq. 2.
    """

    def real(self, logits: Logits) -> Logits:
        """Returns -f."""
        return -logits

    def fake(self, logits: Logits) -> Logits:
        """Returns f."""
        return logits

    def generator(self, logits: Logits) -> Logits:
        """Returns -f."""
        return -logits


minimax = Minimax()
non_saturating = NonSaturating()
least_squares = LeastSquares()
hinge = Hinge()
wasserstein = Wasserstein()


@runtime_checkable
class Penalty(Protocol):
    """What is added to the discriminator's loss. Implementations are frozen dataclasses."""

    def penalise(
        self, discriminator: Discriminator, real: Samples, fake: Samples, key: jax.Array
    ) -> Float[Array, " batch"]:
        """Returns the penalty of each example.

        Args:
          discriminator: samples (batch, ...) to logits, one for each; without batch normalisation, through which an
            example's logit would depend on the others.
          real: (batch, ...).
          fake: generated samples of the same shape.
          key: of what is random.
        """
        ...


@dataclasses.dataclass(frozen=True)
class GradientPenalty:
    """weight * (|grad f(x)| - 1)^2 at x = e real + (1 - e) fake, with e uniform in [0, 1] for each example.

    Source: Gulrajani et al., "Improved Training of Wasserstein GANs", NeurIPS 2017, eq. 3 and algorithm 1.

    Attributes:
      weight: the factor, lambda.
    """

    weight: NonNegativeNumber = 10.0

    def penalise(
        self, discriminator: Discriminator, real: Samples, fake: Samples, key: jax.Array
    ) -> Float[Array, " batch"]:
        """See `Penalty`."""
        between = jax.random.uniform(key, (real.shape[0], *[1] * (real.ndim - 1)), real.dtype)
        squared = _squared_slopes(discriminator, between * real + (1 - between) * fake)
        # The root has no slope at 0, where a discriminator that says the same of everything begins.
        length = jnp.where(squared > 0, jnp.sqrt(jnp.where(squared > 0, squared, 1)), 0)
        return self.weight * jnp.square(length - 1)


@dataclasses.dataclass(frozen=True)
class R1Penalty:
    """weight / 2 * |grad f(x)|^2 at real samples: where generator and data agree, the discriminator is to be flat.

    Source: Mescheder, Geiger & Nowozin, "Which Training Methods for GANs do actually Converge?", ICML 2018, eq. 9.

    Attributes:
      weight: the factor, gamma.
    """

    weight: NonNegativeNumber = 10.0

    def penalise(
        self, discriminator: Discriminator, real: Samples, fake: Samples, key: jax.Array
    ) -> Float[Array, " batch"]:
        """See `Penalty`; `fake` and `key` are not used."""
        return self.weight / 2 * _squared_slopes(discriminator, real)


def _squared_slopes(discriminator: Discriminator, samples: Samples) -> Float[Array, " batch"]:
    """Returns |grad f(x)|^2 of each sample x."""
    # Each logit depends on its own sample alone, so the gradient of their sum has all of theirs.
    gradients = jax.grad(lambda samples: discriminator(samples).sum())(samples)
    return jnp.square(gradients).sum(axis=tuple(range(1, gradients.ndim)))
