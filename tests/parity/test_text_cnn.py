"""TextCNN beside torch's convolutions of one dimension, one text at a time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop.weights import shapes_of
from neuralmon.models import TextCNN

VOCABULARY, CLASSES = 13, 3


def text_cnn(lengths, options, dtype):
    import torch
    from torch.nn import functional

    options = {"kernel_sizes": (2, 3), "features": 5, "embedding_dim": 4} | options
    model = TextCNN(num_classes=CLASSES, vocab_size=VOCABULARY, **options, dtype=jnp.dtype(dtype))
    tokens = np.random.default_rng(3).integers(0, VOCABULARY, (len(lengths), max(lengths)), dtype=np.int32)
    inputs = {"sequence": tokens, "lengths": np.array(lengths, np.int32)}
    variables = random_variables(shapes_of(model.init, inputs), dtype)
    weights = cotangent((len(lengths), CLASSES), dtype)

    params = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), variables["params"])
    rows = []
    for text, length in zip(tokens, lengths, strict=True):
        vectors = params["embedding"]["embedding"][torch.tensor(text[:length]).long()].T[None]
        found = []
        for size in model.kernel_sizes:
            layer = params[f"conv_{size}"]
            padded = functional.pad(vectors, (0, size - 1))
            excitement = torch.relu(functional.conv1d(padded, layer["kernel"].permute(2, 1, 0), layer["bias"]))
            found.append(excitement.amax(dim=2) if model.pool == "max" else excitement.mean(dim=2))
        rows.append(torch.cat(found, dim=1) @ params["output"]["kernel"] + params["output"]["bias"])
    logits = torch.cat(rows)
    (logits * torch.tensor(weights)).sum().backward()
    theirs = Result(logits.detach().numpy(), jax.tree.map(lambda leaf: leaf.grad.numpy(), params))
    return ours(model.apply, variables, inputs, weights), theirs


def case(name, lengths, **options):
    return Case("TextCNN", name, "torch.nn.functional.conv1d", "torch", partial(text_cnn, lengths, options))


CASES = [
    case("one length", (6, 6)),
    case("texts shorter than a detector", (9, 1, 4, 2), kernel_sizes=(3, 4, 5)),
    case("the mean", (7, 3, 5), pool="mean"),
    case("a bag of words", (4, 8), kernel_sizes=(1,), features=11, pool="mean"),
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_text_cnn(case, dtype):
    case.check(dtype)
