"""Every published size of an architecture by name, with the inputs it was made for.

The models themselves stand in their architecture's file (`nm.models.resnet50`); this table adds what a preset is
measured by: `--mode=summary --model=resnet50` takes the inputs from here, and the tests count the parameters.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from neuralmon.models import bert, cnn, crnn, dcgan, gan, gpt, lenet, resnet, transformer, vit


@dataclasses.dataclass(frozen=True)
class Preset:
    """A published network.

    Attributes:
      model: the network.
      inputs: shape and type of one example's inputs, without a batch axis; a dict where there are several.
      num_parameters: how many parameters it has, exactly.
      published: the count as its source gives it, such as "25.6M", or "" where it gives none.
      source: paper and table.
    """

    model: nn.Module
    inputs: Any
    num_parameters: int
    published: str
    source: str


def image(height: int, width: int, channels: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of an image."""
    return jax.ShapeDtypeStruct((height, width, channels), jnp.float32)


def tokens(length: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of a text of so many tokens."""
    return jax.ShapeDtypeStruct((length,), jnp.int32)


def noise(size: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of the noise that a generator makes a sample of."""
    return jax.ShapeDtypeStruct((size,), jnp.float32)


# What the data decides, the number of classes or of tokens, is filled in here as it was published.
_CIFAR, _IMAGENET = image(32, 32, 3), image(224, 224, 3)
_PAIR = {"source": tokens(128), "target": tokens(128)}
_RESNET_CIFAR, _RESNET_IMAGENET = "arXiv:1512.03385, table 6", "arXiv:1512.03385, table 1; counts as torchvision's"
_TRANSFORMER = "arXiv:1706.03762, table 3; 37,000 tokens of both languages (section 5.1)"
_BERT = "arXiv:1810.04805, section 3; with pooler and two classes"
_GPT1 = "Radford et al. 2018, section 4.1; count as Radford et al. 2019, table 2, for a model of that size"
_GPT2 = "Radford et al. 2019, table 2; counts as corrected with the released code"
_GPT3 = "arXiv:2005.14165, table 2.1"
_LEARNING = "for learning; 65 characters, as many as a well-known extract of Shakespeare has"

PRESETS: Mapping[str, Preset] = {
    "lenet5": Preset(
        lenet.lenet5.clone(num_classes=10), image(28, 28, 1), 60_000, "60,000", "LeCun et al. 1998, section II.B"
    ),
    "pokemon_cnn": Preset(cnn.pokemon_cnn.clone(num_classes=18), image(64, 64, 3), 747_154, "", "Soares 2017"),
    "crnn_vgg": Preset(
        crnn.crnn_vgg, image(32, 100, 1), 8_326_693, "8.3M", "Shi, Bai & Yao, arXiv:1507.05717, table 1 and sec. 3.2"
    ),
    "resnet20": Preset(resnet.resnet20.clone(num_classes=10), _CIFAR, 269_722, "0.27M", _RESNET_CIFAR),
    "resnet32": Preset(resnet.resnet32.clone(num_classes=10), _CIFAR, 464_154, "0.46M", _RESNET_CIFAR),
    "resnet44": Preset(resnet.resnet44.clone(num_classes=10), _CIFAR, 658_586, "0.66M", _RESNET_CIFAR),
    "resnet56": Preset(resnet.resnet56.clone(num_classes=10), _CIFAR, 853_018, "0.85M", _RESNET_CIFAR),
    "resnet110": Preset(resnet.resnet110.clone(num_classes=10), _CIFAR, 1_727_962, "1.7M", _RESNET_CIFAR),
    "resnet110_v2": Preset(
        resnet.resnet110_v2.clone(num_classes=10), _CIFAR, 1_727_962, "", "arXiv:1603.05027, table 3"
    ),
    "resnet18": Preset(resnet.resnet18.clone(num_classes=1000), _IMAGENET, 11_689_512, "11.7M", _RESNET_IMAGENET),
    "resnet34": Preset(resnet.resnet34.clone(num_classes=1000), _IMAGENET, 21_797_672, "21.8M", _RESNET_IMAGENET),
    "resnet50": Preset(resnet.resnet50.clone(num_classes=1000), _IMAGENET, 25_557_032, "25.6M", _RESNET_IMAGENET),
    "resnet101": Preset(resnet.resnet101.clone(num_classes=1000), _IMAGENET, 44_549_160, "44.5M", _RESNET_IMAGENET),
    "resnet152": Preset(resnet.resnet152.clone(num_classes=1000), _IMAGENET, 60_192_808, "60.2M", _RESNET_IMAGENET),
    "transformer_base": Preset(
        transformer.transformer_base.clone(vocab_size=37_000), _PAIR, 63_082_496, "65M", _TRANSFORMER
    ),
    "transformer_big": Preset(
        transformer.transformer_big.clone(vocab_size=37_000), _PAIR, 214_245_376, "213M", _TRANSFORMER
    ),
    "bert_base": Preset(bert.bert_base.clone(num_classes=2), tokens(512), 109_483_778, "110M", _BERT),
    "bert_large": Preset(bert.bert_large.clone(num_classes=2), tokens(512), 335_143_938, "340M", _BERT),
    "vit_tiny": Preset(vit.vit_tiny.clone(num_classes=1000), _IMAGENET, 5_717_416, "5M", "arXiv:2012.12877, table 1"),
    "vit_small": Preset(
        vit.vit_small.clone(num_classes=1000), _IMAGENET, 22_050_664, "22M", "arXiv:2012.12877, table 1"
    ),
    "vit_base": Preset(vit.vit_base.clone(num_classes=1000), _IMAGENET, 86_567_656, "86M", "arXiv:2010.11929, table 1"),
    "vit_large": Preset(
        vit.vit_large.clone(num_classes=1000), _IMAGENET, 304_326_632, "307M", "arXiv:2010.11929, table 1"
    ),
    "vit_huge": Preset(
        vit.vit_huge.clone(num_classes=1000), _IMAGENET, 632_045_800, "632M", "arXiv:2010.11929, table 1"
    ),
    "gan_mnist": Preset(gan.gan_mnist, noise(100), 3_735_425, "", "Goodfellow et al. 2014, sec. 5, and its code"),
    "conditional_gan_mnist": Preset(
        gan.conditional_gan_mnist,
        {"noise": noise(100), "labels": jax.ShapeDtypeStruct((), jnp.int32)},
        3_638_335,
        "",
        "Mirza & Osindero 2014, sec. 4.1",
    ),
    "dcgan_64": Preset(dcgan.dcgan_64, noise(100), 36_087_940, "", "arXiv:1511.06434, figure 1"),
    "dcgan_32": Preset(dcgan.dcgan_32, noise(100), 9_042_052, "", "arXiv:1511.06434, one layer less"),
    "dcgan_28": Preset(dcgan.dcgan_28, noise(100), 1_046_978, "", "arXiv:1511.06434, two layers less"),
    "gpt_tiny": Preset(gpt.gpt_tiny.clone(vocab_size=65), tokens(64), 108_352, "", _LEARNING),
    "gpt_mini": Preset(gpt.gpt_mini.clone(vocab_size=65), tokens(256), 10_770_816, "", _LEARNING),
    "gpt1": Preset(gpt.gpt1.clone(vocab_size=40_478), tokens(512), 116_534_784, "117M", _GPT1),
    "gpt2_small": Preset(gpt.gpt2_small.clone(vocab_size=50_257), tokens(1024), 124_439_808, "124M", _GPT2),
    "gpt2_medium": Preset(gpt.gpt2_medium.clone(vocab_size=50_257), tokens(1024), 354_823_168, "355M", _GPT2),
    "gpt2_large": Preset(gpt.gpt2_large.clone(vocab_size=50_257), tokens(1024), 774_030_080, "774M", _GPT2),
    "gpt2_xl": Preset(gpt.gpt2_xl.clone(vocab_size=50_257), tokens(1024), 1_557_611_200, "1558M", _GPT2),
    "gpt3_small": Preset(gpt.gpt3_small.clone(vocab_size=50_257), tokens(2048), 125_226_240, "125M", _GPT3),
    "gpt3_medium": Preset(gpt.gpt3_medium.clone(vocab_size=50_257), tokens(2048), 355_871_744, "350M", _GPT3),
    "gpt3_large": Preset(gpt.gpt3_large.clone(vocab_size=50_257), tokens(2048), 760_300_032, "760M", _GPT3),
    "gpt3_xl": Preset(
        gpt.gpt3_xl.clone(vocab_size=50_257), tokens(2048), 1_315_723_264, "1.3B", _GPT3 + "; 16 heads for 24"
    ),
    "gpt3_2_7b": Preset(gpt.gpt3_2_7b.clone(vocab_size=50_257), tokens(2048), 2_651_553_280, "2.7B", _GPT3),
    "gpt3_6_7b": Preset(gpt.gpt3_6_7b.clone(vocab_size=50_257), tokens(2048), 6_658_404_352, "6.7B", _GPT3),
    "gpt3_13b": Preset(
        gpt.gpt3_13b.clone(vocab_size=50_257), tokens(2048), 12_853_386_240, "13.0B", _GPT3 + "; width 5120 for 5140"
    ),
    "gpt3_175b": Preset(gpt.gpt3_175b.clone(vocab_size=50_257), tokens(2048), 174_604_259_328, "175.0B", _GPT3),
}
