"""The generative adversarial network, of dense layers.

A generator makes samples of noise; a discriminator says whether a sample is real. Each is trained against the other
(`neuralmon.tasks.adversarial_losses`): min_G max_D E[log D(x)] + E[log(1 - D(G(z)))], eq. 1 of the paper.

Source: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; with labels, Mirza & Osindero, "Conditional
Generative Adversarial Nets", 2014, sec. 4.1. Sizes that the first paper leaves out are those of its authors' code.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import Dropout, Initializer, SpectralNorm, he_normal, inputs_and_labels, lecun_normal, zeros


class GAN(nn.Module):
    """A generator and a discriminator: one tree of variables, with `params/generator` and `params/discriminator`.

    Half of it is applied by `gan.apply(variables, noise, method="generate")` and `method="discriminate"`.

    Attributes:
      generator: makes samples of noise, (batch, latent_dim).
      discriminator: gives one logit for each sample: positive means real.
    """

    generator: nn.Module
    discriminator: nn.Module

    def __call__(self, inputs: Any, train: bool = False) -> Any:
        """Returns the discriminator's logits of the generator's samples and, where there are any, of real ones.

        Args:
          inputs: noise (batch, latent_dim), or a dict of it: {"noise": ...}, with "labels" (batch,) if the networks are
            conditional, and with "images" (batch, ...), the real samples of these labels, if they are judged too.
          train: whether to drop units, and to normalise by the batch's own statistics.

        Returns:
          Logits (batch,) of the generated samples; with "images" {"real": (batch,), "fake": (batch,)}.
        """
        given = dict(inputs) if isinstance(inputs, Mapping) else {"noise": inputs}
        images = given.pop("images", None)
        real = None if images is None else self.discriminate(_judged(given, images), train)
        samples = self.generate(given if "labels" in given else given["noise"], train)
        fake = self.discriminate(_judged(given, samples), train)
        return fake if images is None else {"real": real, "fake": fake}

    def generate(self, inputs: Any, train: bool = False) -> Float[Array, "batch ..."]:
        """Returns samples; `inputs` as in `__call__`."""
        return self.generator(inputs, train)

    def discriminate(self, inputs: Any, train: bool = False) -> Float[Array, " batch"]:
        """Returns logits of samples (batch, ...), or of {"images": ..., "labels": (batch,)}."""
        return self.discriminator(inputs, train)


def _judged(given: Mapping[str, Array], images: Array) -> Any:
    """What the discriminator is shown: images, with their labels if there are labels."""
    return {"images": images, "labels": given["labels"]} if "labels" in given else images


class MLPGenerator(nn.Module):
    """Noise through hidden layers to a sample: x = sigmoid(W_3 relu(W_2 relu(W_1 z + b_1) + b_2) + b_3).

    With labels y, one-hot, the second hidden layer sees [relu(W_1 z + b_1), relu(W_y y + b_y)].

    Attributes:
      sample_shape: shape of a sample, such as (height, width, channels).
      latent_dim: how many numbers of noise a sample is made of.
      hidden: width of each hidden layer.
      conditional: whether samples are made for labels.
      num_classes: how many classes the labels have; None: as many as the data.
      label_features: width of the layer that the labels go through.
      activation: non-linearity after each hidden layer.
      output_activation: what brings outputs into the data's range, such as sigmoid for [0, 1]; None: nothing does.
      dropout: probability of dropping a hidden unit while training; None: no dropout.
      kernel_init: initialiser of the hidden layers' weights.
      output_init: initialiser of the output layer's weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    sample_shape: tuple[PositiveInt, ...] = (28, 28, 1)
    latent_dim: PositiveInt = 100
    hidden: tuple[PositiveInt, ...] = (1200, 1200)
    conditional: bool = False
    num_classes: PositiveInt | None = None
    label_features: PositiveInt = 1000
    activation: Activation = nn.relu
    output_activation: Activation | None = nn.sigmoid
    dropout: FractionNumber | None = None
    kernel_init: Initializer = he_normal
    output_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Float[Array, "batch ..."]:
        """Returns samples (batch, *sample_shape), in float32 at least.

        Args:
          inputs: noise (batch, latent_dim); if `conditional`, {"noise": ..., "labels": (batch,)}.
          train: whether to drop units.
        """
        x, labels = inputs_and_labels(inputs, "noise", self.conditional, self.num_classes, self.dtype)
        if x.shape[1:] != (self.latent_dim,):
            raise ValueError(f"noise is (batch, latent_dim), here (batch, {self.latent_dim}), not {x.shape}")

        def dense(x: Array, width: int, name: str) -> Array:
            layer = nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init, name=name)
            return Dropout(self.dropout)(self.activation(layer(x)), train)

        for index, width in enumerate(self.hidden):
            x = dense(x, width, f"hidden_{index}")
            if index == 0 and labels is not None:
                x = jnp.concatenate([x, dense(labels, self.label_features, "labels")], axis=-1)
        size = math.prod(self.sample_shape)
        x = nn.Dense(size, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output")(x)
        x = x if self.output_activation is None else self.output_activation(x)
        return x.reshape(-1, *self.sample_shape).astype(jnp.promote_types(x.dtype, jnp.float32))


class MLPDiscriminator(nn.Module):
    """A sample through hidden layers of maxout units to one logit, log D(x) - log(1 - D(x)).

    A maxout unit is the largest of several linear functions of its inputs (Goodfellow et al., "Maxout Networks", ICML
    2013). With labels y, one-hot, the second hidden layer sees those that the sample and the labels went through.

    Attributes:
      hidden: units of each hidden layer.
      pieces: linear functions of each unit, for each hidden layer; 1: ordinary units, which need an `activation`.
      conditional: whether samples are judged together with labels.
      num_classes: how many classes the labels have; None: as many as the data.
      label_features: units of the layer that the labels go through, of as many pieces as the first layer's.
      activation: non-linearity after each hidden layer; None: the maximum is the only one.
      spectral_norm: whether weights are divided by their largest singular value.
      input_dropout: probability of dropping an element of a sample while training; None: no dropout.
      dropout: probability of dropping a hidden unit while training; None: no dropout.
      kernel_init: initialiser of all weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    hidden: tuple[PositiveInt, ...] = (240, 240)
    pieces: tuple[PositiveInt, ...] = (5, 5)
    conditional: bool = False
    num_classes: PositiveInt | None = None
    label_features: PositiveInt = 50
    activation: Activation | None = None
    spectral_norm: bool = False
    input_dropout: FractionNumber | None = None
    dropout: FractionNumber | None = None
    kernel_init: Initializer = lecun_normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Float[Array, " batch"]:
        """Returns logits (batch,), in float32 at least; positive means real.

        Args:
          inputs: samples (batch, ...); if `conditional`, {"images": (batch, ...), "labels": (batch,)}.
          train: whether to drop units, and to update what spectral normalisation knows.
        """
        if len(self.pieces) != len(self.hidden):
            raise ValueError(f"pieces={self.pieces} has to have one number for each layer of hidden={self.hidden}")
        x, labels = inputs_and_labels(inputs, "images", self.conditional, self.num_classes, self.dtype)

        def dense(x: Array, width: int, name: str) -> Array:
            layer = nn.Dense(width, dtype=self.dtype, kernel_init=self.kernel_init, bias_init=self.bias_init, name=name)
            return SpectralNorm(layer, name=f"{name}_spectral")(x, train) if self.spectral_norm else layer(x)

        def maxout(x: Array, units: int, pieces: int, name: str) -> Array:
            x = dense(x, units * pieces, name).reshape(-1, units, pieces).max(axis=-1)
            return Dropout(self.dropout)(x if self.activation is None else self.activation(x), train)

        x = Dropout(self.input_dropout)(jax.lax.collapse(x, 1), train)
        for index, (units, pieces) in enumerate(zip(self.hidden, self.pieces, strict=True)):
            x = maxout(x, units, pieces, f"hidden_{index}")
            if index == 0 and labels is not None:
                x = jnp.concatenate([x, maxout(labels, self.label_features, pieces, "labels")], axis=-1)
        logits = dense(x, 1, "output")[:, 0]
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


gan_mnist = GAN(MLPGenerator(), MLPDiscriminator(input_dropout=0.2, dropout=0.5))
conditional_gan_mnist = GAN(
    MLPGenerator(hidden=(200, 1200), conditional=True, num_classes=10, dropout=0.5),
    MLPDiscriminator(pieces=(5, 4), conditional=True, num_classes=10, dropout=0.5),
)
