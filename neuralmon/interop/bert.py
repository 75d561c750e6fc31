"""BERT and Hugging Face transformers' `BertForSequenceClassification`.

variables = nm.interop.bert.from_huggingface(model, "my-classifier/")                # with its classifier
variables = nm.interop.bert.from_huggingface(model, "bert-base-uncased/", key=key)   # to fine-tune: with a new one
"""

import re
from typing import Any

import jax
import jax.numpy as jnp

from neuralmon.interop import weights as w
from neuralmon.interop.new_output import new_output
from neuralmon.models.bert import BERT

_DENSE = {
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/out": "attention.output.dense",
    "feedforward/hidden": "intermediate.dense",
    "feedforward/out": "output.dense",
}
_NORMS = {"attention_norm": "attention.output.LayerNorm", "feedforward_norm": "output.LayerNorm"}
# What files of the first releases call it.
_OLD_NAMES = {r"\.gamma$": ".weight", r"\.beta$": ".bias"}
_IGNORED = ("*.position_ids",)
# The heads of pre-training, which are no part of a classifier.
_PRETRAINING = ("cls.*",)


def from_huggingface(model: BERT, weights: Any, key: jax.Array | None = None) -> w.Variables:
    """Returns the variables of `model`, made of weights of transformers.

    Args:
      model: of the same sizes, with the number of classes.
      weights: a state dict, a .safetensors file or the folder of one.
      key: makes a new output layer by the model's initialisers, whatever the weights have; None: theirs.

    Raises:
      RequestError: keys are missing or left over, or shapes differ, and all of them are listed.
    """
    tensors = w.load(weights)
    for old, new in _OLD_NAMES.items():
        tensors = {re.sub(old, new, name): tensor for name, tensor in tensors.items()}
    tensors |= new_output(model, key)
    shapes = w.shapes_of(model.init, jax.ShapeDtypeStruct((1, 1), jnp.int32))
    return w.to_ours(_entries(model), tensors, shapes, _IGNORED + (() if key is None else _PRETRAINING))


def to_huggingface(model: BERT, variables: w.Variables) -> w.Arrays:
    """Returns the state dict of `BertForSequenceClassification`, as NumPy arrays."""
    return w.to_theirs(_entries(model), variables)


def _entries(model: BERT) -> list[w.Entry]:
    there = "bert.embeddings"
    entries = [
        w.same("params/token_embedding/embedding", f"{there}.word_embeddings.weight"),
        w.same("params/position_embedding/embedding", f"{there}.position_embeddings.weight"),
        w.same("params/segment_embedding/embedding", f"{there}.token_type_embeddings.weight"),
        *w.normalization("params/embedding_norm", f"{there}.LayerNorm"),
        *w.dense("params/pooler", "bert.pooler.dense"),
        *w.dense("params/output", "classifier"),
    ]
    for index in range(model.num_layers):
        ours, theirs = f"params/encoder/layers_{index}", f"bert.encoder.layer.{index}"
        entries += [one for a, b in _DENSE.items() for one in w.dense(f"{ours}/{a}", f"{theirs}.{b}")]
        entries += [one for a, b in _NORMS.items() for one in w.normalization(f"{ours}/{a}", f"{theirs}.{b}")]
    return entries
