"""Transformer beside `torch.nn.Transformer`, and the captioner beside PyTorch's convolutions and decoder."""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop.transformer import from_torch, to_torch
from neuralmon.interop.weights import shapes_of
from neuralmon.layers import Conv, MaxPool, Sequential, gelu_exact
from neuralmon.models.captioner import Captioner
from neuralmon.models.transformer import Transformer

VOCABULARY, BATCH = 11, 3


def tokens(lengths, longest, seed):
    """Returns tokens 1, 2, ..., and padding 0 behind each example's length."""
    drawn = np.random.default_rng(seed).integers(1, VOCABULARY, (len(lengths), longest), dtype=np.int32)
    return np.where(np.arange(longest) < np.array(lengths)[:, None], drawn, 0)


def sines(length, width):
    """Section 3.5, place by place."""
    angle = [[place / 10000 ** (2 * (i // 2) / width) for i in range(width)] for place in range(length)]
    return np.array([[(math.cos if i % 2 else math.sin)(a) for i, a in enumerate(row)] for row in angle])


def transformer(options, source_lengths, target_lengths, dtype):
    import torch

    model = Transformer(
        vocab_size=VOCABULARY, num_layers=2, num_heads=3, width=12, feedforward_dim=20, max_length=9, **options
    ).clone(dtype=jnp.dtype(dtype))
    inputs = {"source": tokens(source_lengths, 7, 1), "target": tokens(target_lengths, max(target_lengths), 2)}
    variables = random_variables(shapes_of(model.init, inputs), dtype)
    real = inputs["target"] != 0
    weights = cotangent((*real.shape, VOCABULARY), dtype)

    net = torch.nn.Transformer(
        12,
        3,
        2,
        2,
        20,
        dropout=0.0,
        activation="gelu" if model.activation is gelu_exact else "relu",
        batch_first=True,
        norm_first=model.pre_norm,
        dtype=getattr(torch, dtype),
    )
    if not model.pre_norm and not model.final_norm:
        net.encoder.norm = net.decoder.norm = None
    state = to_torch(model, variables)
    around = {key: torch.tensor(state.pop(key), requires_grad=True) for key in [*state] if key not in net.state_dict()}
    net.load_state_dict({key: torch.tensor(array) for key, array in state.items()}, strict=True)

    def embedded(part, ids):
        prefix = "" if model.share_embeddings == "all" else f"{part}_"
        scaled = around[f"{prefix}embedding.weight"][torch.tensor(ids).long()] * math.sqrt(12)
        if model.positions == "learned":
            return scaled + around[f"{prefix}position.weight"][: ids.shape[1]]
        return scaled + torch.tensor(sines(ids.shape[1], 12), dtype=scaled.dtype)

    hidden = torch.tensor(inputs["source"] == 0)
    length = inputs["target"].shape[1]
    outputs = net(
        embedded("source", inputs["source"]),
        embedded("target", inputs["target"]),
        tgt_mask=torch.ones(length, length).triu(1).bool(),
        src_key_padding_mask=hidden,
        memory_key_padding_mask=hidden,
        tgt_key_padding_mask=torch.tensor(~real),
    )
    table = {"all": "embedding.weight", "target": "target_embedding.weight", "none": "output.weight"}
    logits = outputs @ around[table[model.share_embeddings]].T
    logits = torch.where(torch.tensor(real)[..., None], logits, 0)
    (logits * torch.tensor(weights)).sum().backward()
    gradients = {key: leaf.grad for key, leaf in [*net.named_parameters(), *around.items()]}
    theirs = Result(logits.detach().numpy(), from_torch(model, gradients)["params"])
    return ours(model.apply, variables, inputs, weights, mask=real[..., None]), theirs


def captioner(options, shape, lengths, dtype):
    import torch

    functional = torch.nn.functional
    kind = jnp.dtype(dtype)
    encoder = Sequential((Conv(5, (3, 3), dtype=kind), nn.relu, MaxPool(), Conv(6, (3, 3), dtype=kind)))
    model = Captioner(
        VOCABULARY, encoder, num_layers=2, num_heads=2, width=8, feedforward_dim=12, dtype=kind, **options
    )
    images = np.random.default_rng(4).normal(size=(len(lengths), *shape)).astype(dtype)
    inputs = {"images": images, "target": tokens(lengths, max(lengths), 2)}
    variables = random_variables(shapes_of(model.init, inputs), dtype)
    real = inputs["target"] != 0
    weights = cotangent((*real.shape, VOCABULARY), dtype)

    leaves = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), variables["params"])

    def linear(params):
        return params["kernel"].T, params["bias"]

    def convolved(x, params):
        return functional.conv2d(x, params["kernel"].permute(3, 2, 0, 1), params["bias"], padding=1)

    x = functional.relu(convolved(torch.tensor(images).permute(0, 3, 1, 2), leaves["encoder"]["layers_0"]))
    x = convolved(functional.max_pool2d(x, 2), leaves["encoder"]["layers_3"]).permute(0, 2, 3, 1)
    rows, columns = x.shape[1:3]
    places = [[[*sines(rows, 4)[row], *sines(columns, 4)[column]] for column in range(columns)] for row in range(rows)]
    memory = functional.linear(x, *linear(leaves["connector"])) + torch.tensor(places, dtype=x.dtype)

    layer = torch.nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True, norm_first=model.pre_norm, dtype=x.dtype)
    norm = torch.nn.LayerNorm(8, dtype=x.dtype) if model.pre_norm else None
    state = {}
    for index in range(2):
        ours_here, there = leaves["decoder"][f"layers_{index}"], f"layers.{index}"
        for part, name in {"attention": "self_attn", "cross_attention": "multihead_attn"}.items():
            projections = [linear(ours_here[part][which]) for which in ("query", "key", "value")]
            state[f"{there}.{name}.in_proj_weight"] = torch.cat([kernel for kernel, _ in projections])
            state[f"{there}.{name}.in_proj_bias"] = torch.cat([bias for _, bias in projections])
            kernel, bias = linear(ours_here[part]["out"])
            state |= {f"{there}.{name}.out_proj.weight": kernel, f"{there}.{name}.out_proj.bias": bias}
        for number, name in enumerate(("hidden", "out"), start=1):
            kernel, bias = linear(ours_here["feedforward"][name])
            state |= {f"{there}.linear{number}.weight": kernel, f"{there}.linear{number}.bias": bias}
        for number, name in enumerate(("attention", "cross_attention", "feedforward"), start=1):
            norms = ours_here[f"{name}_norm"]
            state |= {f"{there}.norm{number}.weight": norms["scale"], f"{there}.norm{number}.bias": norms["bias"]}
    if norm is not None:
        last = leaves["decoder"]["norm"]
        state |= {"norm.weight": last["scale"], "norm.bias": last["bias"]}
    net = torch.nn.TransformerDecoder(layer, 2, norm)
    assert state.keys() == net.state_dict().keys()

    table = leaves["embedding"]["token"]["embedding"]
    length = real.shape[1]
    target = table[torch.tensor(inputs["target"]).long()] * math.sqrt(8) + torch.tensor(sines(length, 8), dtype=x.dtype)
    masks = {"tgt_mask": torch.ones(length, length).triu(1).bool(), "tgt_key_padding_mask": torch.tensor(~real)}
    logits = torch.func.functional_call(net, state, (target, memory.flatten(1, 2)), masks) @ table.T
    logits = torch.where(torch.tensor(real)[..., None], logits, 0)
    (logits * torch.tensor(weights)).sum().backward()
    theirs = Result(logits.detach().numpy(), jax.tree.map(lambda leaf: leaf.grad.numpy(), leaves))
    return ours(model.apply, variables, inputs, weights, mask=real[..., None]), theirs


def case(name, options, source_lengths=(7, 4, 1), target_lengths=(5, 2, 4)):
    run = partial(transformer, options, source_lengths, target_lengths)
    return Case("Transformer", name, "torch.nn.Transformer", "torch", run)


def captions(name, options, shape, lengths):
    run = partial(captioner, options, shape, lengths)
    return Case("CNN + Transformer", name, "torch.nn.TransformerDecoder behind Conv2d", "torch", run)


CASES = [
    case("post-norm, as published", {}),
    case("post-norm, one token", {}, (1, 7), (1, 1)),
    case("post-norm with final norms, embeddings apart", {"final_norm": True, "share_embeddings": "none"}),
    case("pre-norm", {"pre_norm": True}, (3, 7, 6), (9, 1, 2)),
    case("pre-norm, learned positions", {"pre_norm": True, "positions": "learned"}),
    case(
        "pre-norm, GELU, the source has its own embedding",
        {"pre_norm": True, "share_embeddings": "target", "positions": "learned", "activation": gelu_exact},
        (2, 2),
        (8, 3),
    ),
    captions("pre-norm", {}, (8, 6, 3), (5, 2, 4)),
    captions("post-norm", {"pre_norm": False}, (5, 9, 1), (1, 7)),
]


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_transformer(case, dtype):
    case.check(dtype)
