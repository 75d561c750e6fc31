"""Transformer and PyTorch's `torch.nn.Transformer`.

    variables = nm.interop.transformer.from_torch(model, {**net.state_dict(), "embedding.weight": table})

PyTorch's module has no embeddings and no logits: everybody writes those around it, under names of their own, which
`names` says. It normalises each stack's outputs, also where the blocks are post-norm: `Transformer(final_norm=True)`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.interop import weights as w
from neuralmon.models.transformer import Transformer

# What `names` may say, and what things are called where it does not.
NAMES: Mapping[str, str] = {
    "transformer": "",
    "embedding": "embedding.weight",
    "source_embedding": "source_embedding.weight",
    "target_embedding": "target_embedding.weight",
    "position": "position.weight",
    "source_position": "source_position.weight",
    "target_position": "target_position.weight",
    "output": "output.weight",
}


def from_torch(model: Transformer, weights: Any, names: Mapping[str, str] | None = None) -> w.Variables:
    """Returns the variables of `model`, made of a `torch.nn.Transformer`'s weights and of those around it.

    Args:
      model: of the same sizes; with `share_embeddings` as it was there, and `final_norm=True` unless the stacks were
        built without.
      weights: a state dict, or the path of a .safetensors file (see `weights.load`).
      names: what is called otherwise than in `NAMES`: keys, and the prefix "transformer" such as "net.transformer.".

    Raises:
      RequestError: keys are missing or left over, or shapes differ, and all of them are listed; or `names` names
        something unknown.
    """
    return w.to_ours(_entries(model, names), w.load(weights), _shapes(model))


def to_torch(model: Transformer, variables: w.Variables, names: Mapping[str, str] | None = None) -> w.Arrays:
    """Returns a state dict of NumPy arrays, the inverse of `from_torch`."""
    return w.to_theirs(_entries(model, names), variables)


def _shapes(model: Transformer) -> Any:
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return w.shapes_of(model.init, {"source": tokens, "target": tokens})


def _entries(model: Transformer, names: Mapping[str, str] | None) -> list[w.Entry]:
    names = names or {}
    if unknown := sorted(names.keys() - NAMES.keys()):
        raise RequestError(f"names: there is no {', '.join(unknown)}; there are {', '.join(NAMES)}")
    names = {**NAMES, **names}
    shared = model.share_embeddings == "all"
    entries = []
    for part in ("",) if shared else ("source_", "target_"):
        entries.append(w.same(f"params/{part}embedding/token/embedding", names[f"{part}embedding"]))
        if model.positions == "learned":
            entries.append(w.same(f"params/{part}embedding/position/embedding", names[f"{part}position"]))
    if model.share_embeddings == "none":
        entries.append(w.transposed("params/output/kernel", names["output"]))

    normalised = model.pre_norm if model.final_norm is None else model.final_norm
    for stack, attentions in {"encoder": ("self_attn",), "decoder": ("self_attn", "multihead_attn")}.items():
        there = f"{names['transformer']}{stack}"
        for index in range(model.num_layers):
            entries += _block(f"params/{stack}/layers_{index}", f"{there}.layers.{index}", attentions)
        if normalised:
            entries += w.normalization(f"params/{stack}/norm", f"{there}.norm")
    return entries


def _block(ours: str, theirs: str, attentions: tuple[str, ...]) -> list[w.Entry]:
    entries = w.dense(f"{ours}/feedforward/hidden", f"{theirs}.linear1")
    entries += w.dense(f"{ours}/feedforward/out", f"{theirs}.linear2")
    parts = ("attention", "cross_attention")[: len(attentions)]
    for part, attention in zip(parts, attentions, strict=True):
        entries += _attention(f"{ours}/{part}", f"{theirs}.{attention}")
    for number, part in enumerate((*parts, "feedforward"), start=1):
        entries += w.normalization(f"{ours}/{part}_norm", f"{theirs}.norm{number}")
    return entries


def _attention(ours: str, theirs: str) -> list[w.Entry]:
    """There, the projections of queries, keys and values stand in one array, one below the other."""
    kernels, biases = (
        tuple(f"{ours}/{name}/{kind}" for name in ("query", "key", "value")) for kind in ("kernel", "bias")
    )
    return [
        w.Entry(
            kernels,
            (f"{theirs}.in_proj_weight",),
            lambda rows: [part.T for part in np.split(rows, 3)],
            lambda *parts: [np.concatenate([part.T for part in parts])],
        ),
        w.Entry(
            biases, (f"{theirs}.in_proj_bias",), lambda rows: np.split(rows, 3), lambda *parts: [np.concatenate(parts)]
        ),
        *w.dense(f"{ours}/out", f"{theirs}.out_proj"),
    ]
