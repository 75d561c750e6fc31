"""The deep convolutional generative adversarial network.

Source: Radford, Metz & Chintala, "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
Networks", ICLR 2016: fig. 1 and the guidelines of sec. 3; the discriminator is that of its authors' code.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, NonNegativeNumber, PositiveInt
from neuralmon.layers import ConvTranspose, Initializer, Normal, SpectralNorm, batch_norm, inputs_and_labels, zeros
from neuralmon.models.gan import GAN

_normal = Normal(0.02)


class DCGANGenerator(nn.Module):
    """Noise is projected to a small image of many channels, which transposed convolutions make larger.

    Each of them has stride 2: twice the height and width. (batch, 100) becomes (batch, 4, 4, 1024), then
    8 x 8 x 512, 16 x 16 x 256, 32 x 32 x 128 and the image, 64 x 64 x 3. Batch normalisation and ReLU follow each layer
    but the last, and tanh that one. A layer before a batch normalisation has no bias, which would change nothing.

    Attributes:
      sample_shape: height, width and channels of the images; 2 ^ len(features) divides height and width.
      latent_dim: how many numbers of noise an image is made of.
      features: channels after the projection and after each transposed convolution but the last.
      kernel_size: height and width of the kernels.
      conditional: whether images are made for labels, which are put behind the noise, one-hot.
      num_classes: how many classes the labels have; None: as many as the data.
      batch_norm: whether there are batch normalisations.
      activation: non-linearity after each layer but the last.
      output_activation: what brings pixels into the data's range, such as tanh for [-1, 1]; None: nothing does.
      kernel_init: initialiser of all weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    sample_shape: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 64, 3)
    latent_dim: PositiveInt = 100
    features: tuple[PositiveInt, ...] = (1024, 512, 256, 128)
    kernel_size: tuple[PositiveInt, PositiveInt] = (5, 5)
    conditional: bool = False
    num_classes: PositiveInt | None = None
    batch_norm: bool = True
    activation: Activation = nn.relu
    output_activation: Activation | None = nn.tanh
    kernel_init: Initializer = _normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Float[Array, "batch height width channels"]:
        """Returns images (batch, *sample_shape), in float32 at least.

        Args:
          inputs: noise (batch, latent_dim); if `conditional`, {"noise": ..., "labels": (batch,)}.
          train: whether the batch's own statistics normalise; they need the collection "batch_stats" to be mutable.
        """
        x, labels = inputs_and_labels(inputs, "noise", self.conditional, self.num_classes, self.dtype)
        if x.shape[1:] != (self.latent_dim,):
            raise ValueError(f"noise is (batch, latent_dim), here (batch, {self.latent_dim}), not {x.shape}")
        height, width, channels = self.sample_shape
        rows, columns = _halved(height, width, len(self.features))
        if labels is not None:
            x = jnp.concatenate([x, labels], axis=-1)

        options: dict[str, Any] = {"dtype": self.dtype, "kernel_init": self.kernel_init, "bias_init": self.bias_init}
        project = nn.Dense(rows * columns * self.features[0], use_bias=not self.batch_norm, name="project", **options)
        x = project(x).reshape(-1, rows, columns, self.features[0])
        # That of the discriminator's convolutions, which halve an image: transposed, they double it.
        padding = tuple((k // 2, k - k // 2) for k in self.kernel_size)
        for index, after in enumerate((*self.features[1:], channels)):
            if self.batch_norm:
                x = batch_norm(train, self.dtype, f"norm_{index}")(x)
            bias = not self.batch_norm or index == len(self.features) - 1
            upscale = ConvTranspose(
                after, self.kernel_size, (2, 2), padding, use_bias=bias, name=f"conv_{index}", **options
            )
            x = upscale(self.activation(x))
        x = x if self.output_activation is None else self.output_activation(x)
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))


class DCGANDiscriminator(nn.Module):
    """Convolutions of stride 2 make the image smaller; what is left is flattened and goes to one logit.

    64 x 64 x 3 becomes 32 x 32 x 128, 16 x 16 x 256, 8 x 8 x 512, 4 x 4 x 1024 and a number. LeakyReLU follows each
    convolution, after a batch normalisation in all but the first.

    Attributes:
      features: channels after each convolution.
      kernel_size: height and width of the kernels.
      conditional: whether images are judged together with labels: one more channel for each class, 1 if it is that one.
      num_classes: how many classes the labels have; None: as many as the data.
      batch_norm: whether there are batch normalisations; a gradient penalty or spectral normalisation goes without.
      spectral_norm: whether weights are divided by their largest singular value.
      negative_slope: slope of LeakyReLU below 0.
      kernel_init: initialiser of all weights.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    features: tuple[PositiveInt, ...] = (128, 256, 512, 1024)
    kernel_size: tuple[PositiveInt, PositiveInt] = (5, 5)
    conditional: bool = False
    num_classes: PositiveInt | None = None
    batch_norm: bool = True
    spectral_norm: bool = False
    negative_slope: NonNegativeNumber = 0.2
    kernel_init: Initializer = _normal
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, inputs: Any, train: bool = False) -> Float[Array, " batch"]:
        """Returns logits (batch,), in float32 at least; positive means real.

        Args:
          inputs: images (batch, height, width, channels); if `conditional`, {"images": ..., "labels": (batch,)}.
          train: whether the batch's own statistics normalise; they need the collection "batch_stats" to be mutable.
        """
        x, labels = inputs_and_labels(inputs, "images", self.conditional, self.num_classes, self.dtype)
        if x.ndim != 4:
            raise ValueError(f"DCGANDiscriminator takes images (batch, height, width, channels), not {x.shape}")
        _halved(x.shape[1], x.shape[2], len(self.features))
        if labels is not None:
            planes = jnp.broadcast_to(labels[:, None, None], (*x.shape[:3], labels.shape[-1]))
            x = jnp.concatenate([x, planes], axis=-1)

        def normalised(layer: nn.Module, x: Array) -> Array:
            return SpectralNorm(layer, name=f"{layer.name}_spectral")(x, train) if self.spectral_norm else layer(x)

        options: dict[str, Any] = {"dtype": self.dtype, "kernel_init": self.kernel_init, "bias_init": self.bias_init}
        padding = tuple(((k - 1) // 2, (k - 1) // 2) for k in self.kernel_size)
        for index, channels in enumerate(self.features):
            norm = self.batch_norm and index > 0
            conv = nn.Conv(
                channels,
                self.kernel_size,
                (2, 2),
                padding,
                use_bias=not norm,
                conv_general_dilated=ops.conv_general_dilated,
                name=f"conv_{index}",
                **options,
            )
            x = normalised(conv, x)
            if norm:
                x = batch_norm(train, self.dtype, f"norm_{index}")(x)
            x = nn.leaky_relu(x, self.negative_slope)
        logits = normalised(nn.Dense(1, name="output", **options), jax.lax.collapse(x, 1))[:, 0]
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


def _halved(height: int, width: int, times: int) -> tuple[int, int]:
    """Height and width after so many halvings."""
    if not times or height % 2**times or width % 2**times:
        raise ValueError(
            f"images of {height} x {width} pixels cannot be halved {times} times, once for each of `features`: "
            f"{2**times} has to divide height and width, as (256, 128) for 28 x 28 pixels does"
        )
    return height // 2**times, width // 2**times


dcgan_64 = GAN(DCGANGenerator(), DCGANDiscriminator())
dcgan_32 = GAN(
    DCGANGenerator(sample_shape=(32, 32, 3), features=(512, 256, 128)), DCGANDiscriminator(features=(128, 256, 512))
)
dcgan_28 = GAN(DCGANGenerator(sample_shape=(28, 28, 1), features=(128, 64)), DCGANDiscriminator(features=(64, 128)))
