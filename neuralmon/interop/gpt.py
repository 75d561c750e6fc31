"""GPT's weights from and to Hugging Face transformers: `OpenAIGPTLMHeadModel` (GPT-1) and `GPT2LMHeadModel` (GPT-2).

There a `Conv1D` has its kernel as (in, out), queries, keys and values are one projection, and each layer has arrays of
its own. GPT-3 was not released; a model with `attention="alternating"` is written and read like GPT-2.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.interop import weights as w
from neuralmon.models.gpt import GPT

_PREFIX, _TIED = "transformer.", "lm_head.weight"
# The causal mask and the places' numbers, which old files hold.
_IGNORED = ("*.attn.bias", "*.attn.masked_bias", "position_ids")
# config.json's names of what is gelu's tanh approximation; GPT-1's "gelu" is that too, GPT-2's is not.
_ACTIVATIONS = {"gelu_new": jax.nn.gelu, "gelu_pytorch_tanh": jax.nn.gelu, "relu": jax.nn.relu, "silu": jax.nn.silu}


def from_huggingface(model: GPT, weights: Any) -> w.Variables:
    """Returns the model's variables, made of weights of transformers.

    Args:
      model: of the weights' sizes; `pre_norm` says whether they are GPT-2's or GPT-1's.
      weights: a state dict with or without the prefix "transformer.", a .safetensors file or the folder of one.

    Raises:
      RequestError: a key is missing or left over, or a shape differs; or the output layer's weights are not those of
        the token embedding.
    """
    tensors = {key.removeprefix(_PREFIX): tensor for key, tensor in w.load(weights).items()}
    tied = tensors.pop(_TIED, None)
    table = tensors.get(_embeddings(model)[0])
    if tied is not None and table is not None and not np.array_equal(tied, table):
        raise RequestError(f"{_TIED} is not {_embeddings(model)[0]}: GPT has one table for embedding and output")
    shapes = w.shapes_of(model.init, jax.ShapeDtypeStruct((1, 1), jnp.int32))
    return w.to_ours(_entries(model), tensors, shapes, _IGNORED)


def to_huggingface(model: GPT, variables: w.Variables) -> w.Arrays:
    """Returns the state dict of transformers' `GPT2LMHeadModel`, or `OpenAIGPTLMHeadModel` if not `pre_norm`."""
    tensors = {_PREFIX + key: tensor for key, tensor in w.to_theirs(_entries(model), variables).items()}
    return tensors | {_TIED: tensors[_PREFIX + _embeddings(model)[0]]}


def model_from_huggingface(folder: str | Path) -> GPT:
    """Returns the model that the config.json of a folder describes, without its weights.

    Raises:
      RequestError: there is no such file, or it describes something that `GPT` is not.
    """
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise RequestError(f"{path} describes no model: it is no JSON object")
    kind = config.get("model_type")
    if kind not in ("gpt2", "openai-gpt"):
        raise RequestError(f"{path} is of a model of type {kind!r}; GPT is gpt2 or openai-gpt")
    pre_norm = kind == "gpt2"
    name = "activation_function" if pre_norm else "afn"
    activations = _ACTIVATIONS | ({} if pre_norm else {"gelu": jax.nn.gelu})
    if (found := config.get(name, "gelu_new")) not in activations:
        raise RequestError(f"{path}: {name} {found!r} is not known; known are {', '.join(activations)}")
    _refuse(path, config, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    _refuse(path, config, tie_word_embeddings=True)
    sizes = ("vocab_size", "n_positions", "n_layer", "n_head", "n_embd")
    if missing := [size for size in sizes if size not in config]:
        raise RequestError(f"{path} does not say {', '.join(missing)}")
    if wrong := [size for size in sizes if type(config[size]) is not int or config[size] < 1]:
        raise RequestError(f"{path}: {wrong[0]} {config[wrong[0]]!r} is no number of 1 or more")
    vocab_size, context_length, num_layers, num_heads, width = (config[size] for size in sizes)
    return GPT(
        vocab_size=vocab_size,
        context_length=context_length,
        num_layers=num_layers,
        num_heads=num_heads,
        width=width,
        feedforward_dim=config.get("n_inner"),
        pre_norm=pre_norm,
        activation=activations[found],
        dropout=config.get("resid_pdrop", 0.1) or None,
        embedding_dropout=config.get("embd_pdrop", 0.1) or None,
        attention_dropout=config.get("attn_pdrop", 0.1) or None,
        norm_epsilon=config.get("layer_norm_epsilon", 1e-5),
    )


def _refuse(path: Path, config: Mapping[str, Any], **only: Any) -> None:
    for name, value in only.items():
        if config.get(name, value) != value:
            raise RequestError(f"{path}: GPT has no {name}={config[name]}, only {value}")


def _embeddings(model: GPT) -> tuple[str, str]:
    """Returns the keys of the embeddings of tokens and positions."""
    return ("wte.weight", "wpe.weight") if model.pre_norm else ("tokens_embed.weight", "positions_embed.weight")


def _entries(model: GPT) -> list[w.Entry]:
    names = ("token_embedding", "position_embedding")
    entries = [
        w.same(f"params/{name}/embedding", key) for name, key in zip(names, _embeddings(model), strict=True)
    ] + w.stacked([_layer(f"h.{index}") for index in range(model.num_layers)])
    return entries + (w.normalization("params/final_norm", "ln_f") if model.pre_norm else [])


def _layer(theirs: str) -> list[w.Entry]:
    ours = "params/layers"
    entries = [_projections(f"{ours}/attention", f"{theirs}.attn.c_attn", kind) for kind in ("kernel", "bias")]
    entries += w.normalization(f"{ours}/attention_norm", f"{theirs}.ln_1")
    entries += w.normalization(f"{ours}/feedforward_norm", f"{theirs}.ln_2")
    dense = {"attention/out": "attn.c_proj", "feedforward/hidden": "mlp.c_fc", "feedforward/out": "mlp.c_proj"}
    for one, other in dense.items():
        entries += [w.same(f"{ours}/{one}/{a}", f"{theirs}.{other}.{b}") for a, b in _KINDS.items()]
    return entries


_KINDS = {"kernel": "weight", "bias": "bias"}


def _projections(ours: str, theirs: str, kind: str) -> w.Entry:
    """Returns the entry of the projection that is cut into those of queries, keys and values."""

    def read(joint: np.ndarray) -> Sequence[np.ndarray]:
        return np.split(joint, 3, axis=-1)

    def write(*parts: np.ndarray) -> Sequence[np.ndarray]:
        return (np.concatenate(parts, axis=-1),)

    paths = tuple(f"{ours}/{part}/{kind}" for part in ("query", "key", "value"))
    return w.Entry(paths, (f"{theirs}.{_KINDS[kind]}",), read, write)
