"""The Vision Transformer: an image is a sequence of patches."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveFloat, PositiveInt
from neuralmon.layers import (
    Dropout,
    Initializer,
    Normal,
    TransformerBlock,
    TransformerStack,
    gelu_exact,
    glorot_uniform,
    lecun_normal,
    zeros,
)


class ViT(nn.Module):
    """Patches as tokens, a class token before them, and a Transformer's pre-norm encoder; that token is classified.

    z_0 = [x_class; x_1 E; ...; x_N E] + E_pos (eq. 1), pre-norm blocks (eq. 2, 3), y = LayerNorm(z_L^0) (eq. 4), and
    logits = y W + b.

    Source: Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale", ICLR 2021
    (arXiv:2010.11929), section 3.1.

    Attributes:
      num_classes: number of outputs; None: as many as the data has classes.
      patch_size: height and width P of a patch; the image's are multiples of it.
      num_layers: number of blocks L.
      num_heads: heads of each attention.
      width: size D of the vector of each patch, a multiple of `num_heads`.
      feedforward_dim: hidden width of the feed-forward networks.
      activation: non-linearity of the feed-forward networks; the exact GELU, as published.
      dropout: probability of dropping an element of a part's output, and of the sum of patch and position, while
        training (appendix B.1, but not between the two layers of the feed-forward network); None: no dropout.
      attention_dropout: the same for the attention weights.
      norm_epsilon: what layer normalisation adds to the variance; 1e-6 in the published code, 1e-12 in Hugging Face's.
      patch_init: initialiser of E.
      class_token_init: initialiser of the class token.
      position_embedding_init: initialiser of E_pos.
      kernel_init: initialiser of the blocks' weights.
      output_init: initialiser of the output layer's weights; zeros, as published.
      bias_init: initialiser of all biases.
      dtype: type of the computation; parameters stay float32.
    """

    num_classes: PositiveInt | None = None
    patch_size: PositiveInt = 16
    num_layers: PositiveInt = 12
    num_heads: PositiveInt = 12
    width: PositiveInt = 768
    feedforward_dim: PositiveInt = 3072
    activation: Activation = gelu_exact
    dropout: FractionNumber | None = None
    attention_dropout: FractionNumber | None = None
    norm_epsilon: PositiveFloat = 1e-6
    patch_init: Initializer = lecun_normal
    class_token_init: Initializer = zeros
    position_embedding_init: Initializer = Normal(0.02)
    kernel_init: Initializer = glorot_uniform
    output_init: Initializer = zeros
    bias_init: Initializer = zeros
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch classes"]:
        """Returns logits of at least float32.

        Raises:
          ValueError: `inputs` are no images, or cannot be cut into whole patches, or into as many as the positions
            were learned for; `num_classes` is None.
        """
        if self.num_classes is None:
            raise ValueError("ViT(num_classes=None): give the number of outputs, or let an experiment's data decide it")
        if inputs.ndim != 4:
            raise ValueError(f"ViT takes images (batch, height, width, channels), not inputs of shape {inputs.shape}")
        batch, height, width, _ = inputs.shape
        size = self.patch_size
        what = f"images of {height} x {width} pixels"
        if height % size or width % size or not height * width:
            raise ValueError(f"ViT(patch_size={size}) cannot cut {what} into whole patches: both have to be multiples")
        places = 1 + (height // size) * (width // size)
        if self.has_variable("params", "position_embedding"):
            learned: int = self.get_variable("params", "position_embedding").shape[1]
            if learned != places:
                raise ValueError(f"ViT has positions for {learned - 1} patches: {what} are {places - 1} patches")

        # A patch's linear map is a convolution whose windows do not overlap:
        # [batch, height, width, channels] -> [batch, height / P, width / P, D] -> [batch, N, D]
        patches = nn.Conv(
            self.width,
            (size, size),
            strides=(size, size),
            padding="VALID",
            dtype=self.dtype,
            kernel_init=self.patch_init,
            bias_init=self.bias_init,
            conv_general_dilated=ops.conv_general_dilated,
            name="patch_embedding",
        )(inputs.astype(self.dtype)).reshape(batch, places - 1, self.width)
        token = self.param("class_token", self.class_token_init, (1, 1, self.width)).astype(self.dtype)
        x = jnp.concatenate([jnp.broadcast_to(token, (batch, 1, self.width)), patches], axis=1)
        position = self.param("position_embedding", self.position_embedding_init, (1, places, self.width))
        x = Dropout(self.dropout)(x + position.astype(self.dtype), train)

        block = TransformerBlock(
            num_heads=self.num_heads,
            feedforward_dim=self.feedforward_dim,
            pre_norm=True,
            activation=self.activation,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            norm_epsilon=self.norm_epsilon,
            kernel_init=self.kernel_init,
            residual_init=self.kernel_init,
            bias_init=self.bias_init,
            dtype=self.dtype,
            parent=None,
        )
        x, _ = TransformerStack(self.num_layers, block, name="encoder")(x, train=train)
        logits = nn.Dense(
            self.num_classes, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name="output"
        )(x[:, 0])
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))


# Dosovitskiy et al. 2021, table 1, on images of 224 x 224; huge has patches of 14 x 14 and 16 heads.
vit_base = ViT()
vit_large = ViT(num_layers=24, num_heads=16, width=1024, feedforward_dim=4096)
vit_huge = ViT(patch_size=14, num_layers=32, num_heads=16, width=1280, feedforward_dim=5120)

# Touvron et al., "Training data-efficient image transformers" (DeiT), ICML 2021 (arXiv:2012.12877), table 1.
vit_tiny = ViT(num_heads=3, width=192, feedforward_dim=768)
vit_small = ViT(num_heads=6, width=384, feedforward_dim=1536)
