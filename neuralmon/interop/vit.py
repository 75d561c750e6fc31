"""ViT and Hugging Face transformers' `ViTForImageClassification`.

    model = nm.models.vit_base.clone(num_classes=1000, norm_epsilon=1e-12)
    variables = nm.interop.vit.from_huggingface(model, "vit-base-patch16-224/")

There `layer_norm_eps` is 1e-12, where the published code has 1e-6.
"""

import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.interop import weights as w
from neuralmon.interop.new_output import new_output
from neuralmon.models.vit import ViT

_DENSE = {
    "attention/query": "attention.q_proj",
    "attention/key": "attention.k_proj",
    "attention/value": "attention.v_proj",
    "attention/out": "attention.o_proj",
    "feedforward/hidden": "mlp.fc1",
    "feedforward/out": "mlp.fc2",
}
_NORMS = {"attention_norm": "layernorm_before", "feedforward_norm": "layernorm_after"}
# What files, and transformers before release 5, call it.
_OLD_NAMES = {
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
# Of a model without a classifier.
_POOLER = ("vit.pooler.*",)


def from_huggingface(model: ViT, weights: Any, key: jax.Array | None = None) -> w.Variables:
    """Returns the variables of `model`, made of weights of transformers.

    Args:
      model: of the same sizes, with the number of classes.
      weights: a state dict, a .safetensors file or the folder of one; with the names of any release.
      key: makes a new output layer by the model's initialisers, whatever the weights have; None: theirs.

    Raises:
      RequestError: keys are missing or left over, or shapes differ, and all of them are listed.
    """
    tensors = {_new_name(name): tensor for name, tensor in w.load(weights).items()}
    tensors |= new_output(model, key)
    return w.to_ours(_entries(model), tensors, _shapes(model, tensors), () if key is None else _POOLER)


def to_huggingface(model: ViT, variables: w.Variables, release: Literal[4, 5] = 5) -> w.Arrays:
    """Returns the state dict of `ViTForImageClassification`, as NumPy arrays.

    Args:
      model: the model.
      variables: its variables.
      release: of transformers, whose names differ; files have those of 4, and both releases read such files.
    """
    tensors = w.to_theirs(_entries(model), variables)
    return tensors if release == 5 else {_old_name(name): tensor for name, tensor in tensors.items()}


def _new_name(name: str) -> str:
    name = re.sub(r"^vit\.encoder\.layer\.", "vit.layers.", name)
    # "attention.output.dense" ends in what the last layer is called: it comes first.
    for new, old in _OLD_NAMES.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _old_name(name: str) -> str:
    for new, old in _OLD_NAMES.items():
        name = name.replace(f".{new}.", f".{old}.")
    return re.sub(r"^vit\.layers\.", "vit.encoder.layer.", name)


def _shapes(model: ViT, tensors: w.Arrays) -> Any:
    """Returns the shapes for images of the size that the weights are for: they have a position for each patch."""
    positions = tensors.get("vit.embeddings.position_embeddings", np.zeros((1, 2, 1)))
    patches = tensors.get("vit.embeddings.patch_embeddings.projection.weight", np.zeros((1, 3, 1, 1)))
    if positions.ndim != 3 or patches.ndim != 4 or positions.shape[1] < 2:
        raise RequestError(f"these weights are not a ViT's: positions {positions.shape}, patches {patches.shape}")
    size = model.patch_size
    image = (1, size, (positions.shape[1] - 1) * size, patches.shape[1])  # as many patches, whatever their rows
    return w.shapes_of(model.init, jax.ShapeDtypeStruct(image, jnp.float32))


def _entries(model: ViT) -> list[w.Entry]:
    entries = [
        w.same("params/class_token", "vit.embeddings.cls_token"),
        w.same("params/position_embedding", "vit.embeddings.position_embeddings"),
        *w.convolution("params/patch_embedding", "vit.embeddings.patch_embeddings.projection"),
        *w.normalization("params/encoder/norm", "vit.layernorm"),
        *w.dense("params/output", "classifier"),
    ]
    for index in range(model.num_layers):
        ours, theirs = f"params/encoder/layers_{index}", f"vit.layers.{index}"
        entries += [one for a, b in _DENSE.items() for one in w.dense(f"{ours}/{a}", f"{theirs}.{b}")]
        entries += [one for a, b in _NORMS.items() for one in w.normalization(f"{ours}/{a}", f"{theirs}.{b}")]
    return entries
