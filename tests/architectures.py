"""A tiny network of every architecture, with inputs: what is exported, and looked into, in tests."""

from collections.abc import Callable

import flax.linen as nn
import jax
import numpy as np

from neuralmon import layers, models

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def tokens(*shape):
    return RNG.integers(1, 7, shape).astype(np.int32)


def small_sequential():
    parts = (layers.Conv(4, (3, 3)), nn.relu, layers.MaxPool((2, 2)), layers.Flatten(), layers.Output(num_classes=3))
    return models.Sequential(parts), numbers(2, 8, 8, 1)


GENERATOR = models.MLPGenerator(sample_shape=(2, 2, 1), latent_dim=3, hidden=(5,))


SMALL = {"num_layers": 2, "num_heads": 2, "width": 8}
BLOCK = {**SMALL, "feedforward_dim": 16}

# Each is made when it is asked for, so that one that fails is one failed test.
ARCHITECTURES: dict[str, Callable[[], tuple[nn.Module, object]]] = {
    "Perceptron": lambda: (models.Perceptron(num_classes=3), numbers(2, 5)),
    "MLP": lambda: (models.MLP((4,), num_classes=3), numbers(2, 5)),
    "MLP, batch normalisation": lambda: (models.MLP((4,), num_classes=3, norm="batch"), numbers(2, 5)),
    "CNN": lambda: (models.CNN((4, 6), 8, num_classes=3), numbers(2, 9, 8, 1)),
    "LeNet-5": lambda: (models.LeNet5(num_classes=3), numbers(2, 32, 32, 1)),
    "Sequential": small_sequential,
    "ResNet, CIFAR": lambda: (models.ResNet((1, 1), 4, num_classes=3), numbers(2, 8, 8, 3)),
    "ResNet, ImageNet": lambda: (
        models.ResNet((1, 1), 4, num_classes=3, block="bottleneck", stem="imagenet", shortcut="projection"),
        numbers(2, 32, 32, 3),
    ),
    "RNN": lambda: (models.RNN((4,), num_classes=3), numbers(2, 5, 3)),
    "GRU, both directions": lambda: (models.GRU((4,), num_classes=3, bidirectional=True), numbers(2, 5, 3)),
    "GRU": lambda: (models.GRU((4,), num_classes=3), numbers(2, 5, 3)),
    "LSTM": lambda: (models.LSTM((4, 4), num_classes=3, peepholes=True), numbers(2, 5, 3)),
    "LSTM, tokens": lambda: (models.LSTM((4,), num_classes=3, vocab_size=7), tokens(2, 5)),
    "Skip-gram": lambda: (
        models.SkipGram(vocab_size=7, embedding_dim=4),
        {"center": tokens(2), "contexts": tokens(2, 3)},
    ),
    "CRNN": lambda: (models.CRNN(hidden=(4,), num_classes=3), numbers(2, 8, 8, 1)),
    "GAN": lambda: (models.GAN(GENERATOR, models.MLPDiscriminator(hidden=(5,), pieces=(2,))), numbers(2, 3)),
    "GAN, MLP generator": lambda: (GENERATOR, numbers(2, 3)),
    "GAN, MLP discriminator": lambda: (models.MLPDiscriminator(hidden=(5,), pieces=(2,)), numbers(2, 2, 2, 1)),
    "GAN, DCGAN generator": lambda: (
        models.DCGANGenerator(sample_shape=(8, 8, 1), latent_dim=3, features=(4,)),
        numbers(2, 3),
    ),
    "GAN, DCGAN discriminator": lambda: (models.DCGANDiscriminator(features=(4,)), numbers(2, 8, 8, 1)),
    "Transformer": lambda: (
        models.Transformer(vocab_size=7, **BLOCK),
        {"source": tokens(2, 5), "target": tokens(2, 4)},
    ),
    "BERT": lambda: (models.BERT(num_classes=3, vocab_size=7, max_length=8, **BLOCK), tokens(2, 5)),
    "ViT": lambda: (models.ViT(num_classes=3, patch_size=4, **BLOCK), numbers(2, 8, 8, 3)),
    "GPT": lambda: (models.GPT(vocab_size=7, context_length=8, **SMALL), tokens(2, 5)),
    "GPT, banded attention": lambda: (
        models.GPT(vocab_size=7, context_length=8, attention="alternating", band=2, **SMALL),
        tokens(2, 5),
    ),
    "GPT, classifier": lambda: (
        models.GPTClassifier(vocab_size=7, context_length=8, num_classes=3, **SMALL),
        {"sequence": tokens(2, 5), "lengths": np.array([5, 3], np.int32)},
    ),
    "TextCNN": lambda: (
        models.TextCNN((2, 3), 4, num_classes=3, vocab_size=7, embedding_dim=4),
        {"sequence": tokens(2, 5), "lengths": np.array([5, 3], np.int32)},
    ),
    "Captioner": lambda: (
        models.Captioner(vocab_size=7, **BLOCK),
        {"images": numbers(2, 8, 8, 1), "target": tokens(2, 4)},
    ),
}


def drawn(model, inputs):
    """Returns variables of a model, none of them zero, without compiling its initialisation."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)

    def draw(path, leaf):
        name = path[-1].key
        if name in ("var", "scale"):
            return RNG.uniform(0.5, 1.5, leaf.shape).astype(leaf.dtype)
        fan_in = np.prod(leaf.shape[-4:-1]) if len(leaf.shape) == 4 else leaf.shape[-2] if len(leaf.shape) > 1 else 4
        return (RNG.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)
