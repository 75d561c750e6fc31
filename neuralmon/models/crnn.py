"""The convolutional recurrent network: a CNN sees, an LSTM reads."""

import dataclasses
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon import ops
from neuralmon.fields import Activation, Dtype, FractionNumber, PositiveInt
from neuralmon.layers import (
    Dropout,
    Initializer,
    LSTMLayer,
    Recurrent,
    batch_norm,
    glorot_uniform,
    he_normal,
    ones,
    orthogonal,
    zeros,
)


@dataclasses.dataclass(frozen=True)
class ConvStage:
    """A stage of a CRNN: convolution, batch normalisation if any, activation, max-pooling if any.

    Attributes:
      features: output channels.
      kernel_size: height and width of the kernel.
      padding: SAME keeps height and width, VALID pads nothing.
      batch_norm: normalise each channel over the batch, between convolution and activation.
      pool: height and width of the windows of which the maximum is kept; (2, 1) halves the height alone, so that the
        sequence stays as long as it is; None: no pooling.
    """

    features: PositiveInt
    kernel_size: tuple[PositiveInt, PositiveInt] = (3, 3)
    padding: Literal["SAME", "VALID"] = "SAME"
    batch_norm: bool = False
    pool: tuple[PositiveInt, PositiveInt] | None = None


class CRNN(nn.Module):
    """Convolutional stages, then bidirectional LSTM layers over the columns of what they see.

    A text line of any width goes in, and a row of logits for each column comes out, left to right; CTC (Graves et al.
    2006) makes a text of them. Shapes, with the stages of `crnn_vgg` and images of 32 x 100:

        inputs           (batch, 32, 100, 1)
        stages           (batch, 1, 24, 512)      one row is left
        map to sequence  (batch, 24, 512)         a column is a step, rows * channels its features
        LSTM layers      (batch, 24, 2 * 256), joined to (batch, 24, 256) between two layers
        output layer     (batch, 24, num_classes)

    Source: Shi, Bai & Yao, "An End-to-End Trainable Neural Network for Image-based Sequence Recognition and Its
    Application to Scene Text Recognition", IEEE TPAMI 39(11), 2017 (arXiv:1507.05717), sec. 2 and table 1.

    Attributes:
      stages: the convolutional stages.
      hidden: width of each LSTM layer, of one direction.
      num_classes: number of outputs, for CTC with the blank; None: as many as the data has classes.
      output: "all": one output for each column; "last": one for the image, made of both directions' last states.
      join: a dense layer makes one vector as wide as one direction of both directions' outputs, before the next LSTM
        layer, as in the authors' program; False: the next layer reads both.
      activation: non-linearity after each convolution.
      dropout: probability of dropping, while training, an input of an LSTM layer or of the output layer; None: none.
      kernel_init: initialiser of the convolutions' kernels.
      recurrent_kernel_init: initialiser of the weights of the LSTM layers' inputs.
      recurrent_init: initialiser of the weights of the LSTM layers' states.
      output_init: initialiser of the weights of the output layer and of those that join.
      bias_init: initialiser of all biases but the forget gates'.
      forget_bias_init: initialiser of the forget gates' biases.
      dtype: type of the computation; parameters stay float32.
    """

    stages: tuple[ConvStage, ...] = (ConvStage(16, pool=(2, 2)), ConvStage(32, pool=(2, 1)))
    hidden: tuple[PositiveInt, ...] = (64,)
    num_classes: PositiveInt | None = None
    output: Literal["all", "last"] = "all"
    join: bool = True
    activation: Activation = nn.relu
    dropout: FractionNumber | None = None
    kernel_init: Initializer = he_normal
    recurrent_kernel_init: Initializer = glorot_uniform
    recurrent_init: Initializer = orthogonal
    output_init: Initializer = glorot_uniform
    bias_init: Initializer = zeros
    forget_bias_init: Initializer = ones
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, "batch height width channels"], train: bool = False
    ) -> Float[Array, "batch *columns classes"]:
        """Returns logits in float32 at least: (batch, columns, classes), or (batch, classes) where `output` is "last".

        Raises:
          ValueError: `inputs` are not images, or are too small for these stages.
        """
        if self.num_classes is None:
            raise ValueError(
                "CRNN(num_classes=None): give the number of outputs, or let an experiment's data decide it"
            )
        if not self.hidden:
            raise ValueError("CRNN(hidden=()): give the width of one LSTM layer at least")
        if inputs.ndim != 4:
            raise ValueError(f"CRNN takes images (batch, height, width, channels), not inputs of shape {inputs.shape}")
        x = inputs.astype(self.dtype)
        for index, stage in enumerate(self.stages):
            x = self._convolve(stage, x, str(index), train)
            if 0 in x.shape[1:3]:
                size = f"{inputs.shape[1]} x {inputs.shape[2]}"
                raise ValueError(f"images of {size} pixels are too small for CRNN's {len(self.stages)} stages")
        batch, rows, columns, channels = x.shape
        x = x.swapaxes(1, 2).reshape(batch, columns, rows * channels)
        for index, width in enumerate(self.hidden):
            if index and self.join:
                x = self._dense(width, f"join_{index}", x)
            x = Dropout(self.dropout)(x, train)
            x, state = Recurrent(self._layer(), (width,), bidirectional=True, name=f"lstm_{index}").run(x, train=train)
        if self.output == "last":
            x = jnp.concatenate([state["forward_0"]["hidden"], state["backward_0"]["hidden"]], axis=-1)
        logits = self._dense(self.num_classes, "output", Dropout(self.dropout)(x, train))
        return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

    @nn.nowrap
    def _convolve(self, stage: ConvStage, x: Array, index: str, train: bool) -> Array:
        x = nn.Conv(
            stage.features,
            stage.kernel_size,
            padding=stage.padding,
            dtype=self.dtype,
            kernel_init=self.kernel_init,
            bias_init=self.bias_init,
            conv_general_dilated=ops.conv_general_dilated,
            name=f"conv_{index}",
        )(x)
        if stage.batch_norm:
            x = batch_norm(train, self.dtype, f"norm_{index}")(x)
        x = self.activation(x)
        return x if stage.pool is None else ops.max_pool(x, stage.pool, strides=stage.pool)

    @nn.nowrap
    def _layer(self) -> LSTMLayer:
        return LSTMLayer(
            kernel_init=self.recurrent_kernel_init,
            recurrent_init=self.recurrent_init,
            bias_init=self.bias_init,
            forget_bias_init=self.forget_bias_init,
            dtype=self.dtype,
            parent=None,
        )

    @nn.nowrap
    def _dense(self, features: int, name: str, x: Array) -> Array:
        return nn.Dense(features, dtype=self.dtype, kernel_init=self.output_init, bias_init=self.bias_init, name=name)(
            x
        )


# Table 1, from its bottom to its top, which is VGG with flat pooling windows: 26 letters, 10 digits and CTC's blank.
crnn_vgg = CRNN(
    stages=(
        ConvStage(64, pool=(2, 2)),
        ConvStage(128, pool=(2, 2)),
        ConvStage(256),
        ConvStage(256, pool=(2, 1)),
        ConvStage(512, batch_norm=True),
        ConvStage(512, batch_norm=True, pool=(2, 1)),
        ConvStage(512, kernel_size=(2, 2), padding="VALID"),
    ),
    hidden=(256, 256),
    num_classes=37,
)
