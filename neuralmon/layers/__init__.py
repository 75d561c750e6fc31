"""Pure Linen layers and initialisers shared by several models."""

from neuralmon.layers.activations import gelu_exact
from neuralmon.layers.attention import (
    KeyValueCache,
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    segment_mask,
    segment_places,
    select_examples,
)
from neuralmon.layers.building_blocks import AvgPool, Conv, Dense, Flatten, GlobalAveragePool, MaxPool, Output
from neuralmon.layers.conditioning import inputs_and_labels
from neuralmon.layers.dropout import Dropout
from neuralmon.layers.initializers import (
    Constant,
    Initializer,
    Normal,
    Orthogonal,
    ScaledResidual,
    VarianceScaling,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    ones,
    orthogonal,
    zeros,
)
from neuralmon.layers.normalization import batch_norm, layer_norm
from neuralmon.layers.positions import sinusoidal_positions
from neuralmon.layers.recurrent import (
    ElmanLayer,
    GRULayer,
    LSTMLayer,
    Recurrent,
    RecurrentLayer,
    SequenceModel,
    mask_from_lengths,
)
from neuralmon.layers.residual import ResidualBlock
from neuralmon.layers.sequential import Residual, Sequential
from neuralmon.layers.spectral_norm import SpectralNorm
from neuralmon.layers.step import step
from neuralmon.layers.token_embedding import TokenEmbedding
from neuralmon.layers.transformer_block import FeedForward, TransformerBlock
from neuralmon.layers.transformer_stack import TransformerStack
from neuralmon.layers.transposed_convolution import ConvTranspose, conv_transpose

__all__ = [
    "AvgPool",
    "Constant",
    "Conv",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "ElmanLayer",
    "FeedForward",
    "Flatten",
    "GRULayer",
    "GlobalAveragePool",
    "Initializer",
    "KeyValueCache",
    "LSTMLayer",
    "MaxPool",
    "MultiHeadAttention",
    "Normal",
    "Orthogonal",
    "Output",
    "Recurrent",
    "RecurrentLayer",
    "Residual",
    "ResidualBlock",
    "ScaledResidual",
    "SequenceModel",
    "Sequential",
    "SpectralNorm",
    "TokenEmbedding",
    "TransformerBlock",
    "TransformerStack",
    "VarianceScaling",
    "batch_norm",
    "causal_mask",
    "conv_transpose",
    "gelu_exact",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "inputs_and_labels",
    "layer_norm",
    "lecun_normal",
    "lecun_uniform",
    "mask_from_lengths",
    "ones",
    "orthogonal",
    "padding_mask",
    "segment_mask",
    "segment_places",
    "select_examples",
    "sinusoidal_positions",
    "step",
    "zeros",
]
