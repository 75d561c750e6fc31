"""Architectures: one file each, pure Flax Linen modules that need nothing else of neuralmon."""

from neuralmon.layers import Sequential
from neuralmon.models.beam_search import beam_search as beam_search
from neuralmon.models.beam_search import translate as translate
from neuralmon.models.bert import BERT, bert_base, bert_large
from neuralmon.models.captioner import Captioner
from neuralmon.models.cnn import CNN, pokemon_cnn
from neuralmon.models.crnn import CRNN, ConvStage, crnn_vgg
from neuralmon.models.dcgan import DCGANDiscriminator, DCGANGenerator, dcgan_28, dcgan_32, dcgan_64
from neuralmon.models.gan import GAN, MLPDiscriminator, MLPGenerator, conditional_gan_mnist, gan_mnist
from neuralmon.models.generation import generate as generate
from neuralmon.models.gpt import (
    GPT,
    gpt1,
    gpt2_large,
    gpt2_medium,
    gpt2_small,
    gpt2_xl,
    gpt3_2_7b,
    gpt3_6_7b,
    gpt3_13b,
    gpt3_175b,
    gpt3_large,
    gpt3_medium,
    gpt3_small,
    gpt3_xl,
    gpt_mini,
    gpt_tiny,
)
from neuralmon.models.gpt_classifier import GPTClassifier
from neuralmon.models.gru import GRU
from neuralmon.models.lenet import LeNet5, lenet5, scaled_tanh
from neuralmon.models.lstm import LSTM
from neuralmon.models.mlp import MLP
from neuralmon.models.perceptron import Perceptron
from neuralmon.models.resnet import (
    ResNet,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet44,
    resnet50,
    resnet56,
    resnet101,
    resnet110,
    resnet110_v2,
    resnet152,
)
from neuralmon.models.rnn import RNN
from neuralmon.models.skip_gram import SkipGram
from neuralmon.models.text_cnn import TextCNN
from neuralmon.models.transformer import Transformer, transformer_base, transformer_big
from neuralmon.models.vit import ViT, vit_base, vit_huge, vit_large, vit_small, vit_tiny

__all__ = [
    "BERT",
    "CNN",
    "CRNN",
    "GAN",
    "GPT",
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "Captioner",
    "ConvStage",
    "DCGANDiscriminator",
    "DCGANGenerator",
    "GPTClassifier",
    "LeNet5",
    "MLPDiscriminator",
    "MLPGenerator",
    "Perceptron",
    "ResNet",
    "Sequential",
    "SkipGram",
    "TextCNN",
    "Transformer",
    "ViT",
    "bert_base",
    "bert_large",
    "conditional_gan_mnist",
    "crnn_vgg",
    "dcgan_28",
    "dcgan_32",
    "dcgan_64",
    "gan_mnist",
    "gpt1",
    "gpt2_large",
    "gpt2_medium",
    "gpt2_small",
    "gpt2_xl",
    "gpt3_2_7b",
    "gpt3_6_7b",
    "gpt3_13b",
    "gpt3_175b",
    "gpt3_large",
    "gpt3_medium",
    "gpt3_small",
    "gpt3_xl",
    "gpt_mini",
    "gpt_tiny",
    "lenet5",
    "pokemon_cnn",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet101",
    "resnet110",
    "resnet110_v2",
    "resnet152",
    "scaled_tanh",
    "transformer_base",
    "transformer_big",
    "vit_base",
    "vit_huge",
    "vit_large",
    "vit_small",
    "vit_tiny",
]
