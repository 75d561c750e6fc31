"""ResNet and torchvision.

    variables = nm.interop.resnet.from_torchvision(nm.models.resnet50.clone(num_classes=1000), "resnet50.safetensors")

torchvision has the ImageNet networks, v1 only, with bottlenecks of v1.5; v1 and v1.5 have the same weights. What it has
not, CIFAR's networks and v2, goes by its names too: `bn2` belongs to `conv2` whether it comes after or before it, and
the normalisation that ends a v2 network is `norm`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from neuralmon.errors import RequestError
from neuralmon.interop import weights
from neuralmon.models import ResNet


def from_torchvision(model: ResNet, source: Any) -> weights.Variables:
    """Returns the variables {"params": ..., "batch_stats": ...} of `model`, made of torchvision's weights.

    PyTorch's running variance is that of batches with n / (n - 1) in front, n the number of their pixels; it is taken
    as it is, and in evaluation it makes the outputs it makes there.

    Args:
      model: with the number of classes that the weights are for.
      source: a state dict, or the path of a .safetensors file (see `weights.load`).

    Raises:
      RequestError: keys are missing or left over, or shapes differ, and all of them are listed; or the model's number
        of classes is None.
    """
    if model.num_classes is None:
        raise RequestError("ResNet(num_classes=None): give the number of classes that the weights are for")
    tensors = weights.load(source)
    stem = tensors.get("conv1.weight")
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 3
    shapes = weights.shapes_of(model.init, jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32))
    return weights.to_ours(_entries(model, shapes), tensors, shapes, ignored=("*.num_batches_tracked",))


def to_torchvision(model: ResNet, variables: weights.Variables) -> weights.Arrays:
    """Returns a state dict of NumPy arrays with torchvision's names, made of our variables.

    `load_state_dict(strict=True)` takes it once its arrays are tensors; `num_batches_tracked`, which is not among them,
    is a count that PyTorch sets to 0 by itself.
    """
    return weights.to_theirs(_entries(model, variables), variables)


def _entries(model: ResNet, variables: Any) -> list[weights.Entry]:
    """Returns which is which; `variables`, or their shapes, say which layers a block has."""
    entries = _convolution("conv_stem", "conv1") + _normalization("norm_stem", "bn1")
    for stage, num_blocks in enumerate(model.stage_sizes):
        for index in range(num_blocks):
            block, there = f"stage_{stage}_block_{index}", f"layer{stage + 1}.{index}"
            if block not in variables["params"]:
                raise RequestError(f"these variables are not this model's: params/{block} is missing")
            for layer in variables["params"][block]:
                kind, _, place = layer.partition("_")
                if kind == "conv":
                    theirs = "downsample.0" if place == "shortcut" else f"conv{int(place) + 1}"
                    entries += _convolution(f"{block}/{layer}", f"{there}.{theirs}")
                else:
                    theirs = "downsample.1" if place == "shortcut" else f"bn{int(place) + 1}"
                    entries += _normalization(f"{block}/{layer}", f"{there}.{theirs}")
    if model.pre_activation:
        entries += _normalization("norm_output", "norm")
    return entries + weights.dense("params/output", "fc")


def _convolution(ours: str, theirs: str) -> list[weights.Entry]:
    return weights.convolution(f"params/{ours}", theirs, bias=False)


def _normalization(ours: str, theirs: str) -> list[weights.Entry]:
    statistics = [weights.same(f"batch_stats/{ours}/{name}", f"{theirs}.running_{name}") for name in ("mean", "var")]
    return weights.normalization(f"params/{ours}", theirs) + statistics
