"""BERT beside Hugging Face's `BertForSequenceClassification`."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop.bert import from_huggingface, to_huggingface
from neuralmon.interop.weights import shapes_of
from neuralmon.models.bert import BERT

VOCABULARY, CLASSES = 13, 3


def bert(lengths, segments, options, dtype):
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    sizes = {"num_layers": 2, "num_heads": 2, "width": 8, "feedforward_dim": 20, "max_length": 9} | options
    model = BERT(CLASSES, VOCABULARY, **sizes, dtype=jnp.dtype(dtype))
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=model.width,
        num_hidden_layers=model.num_layers,
        num_attention_heads=model.num_heads,
        intermediate_size=model.feedforward_dim,
        max_position_embeddings=model.max_length,
        num_labels=CLASSES,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, VOCABULARY, (len(lengths), max(lengths)), dtype=np.int32)
    tokens = np.where(np.arange(max(lengths)) < np.array(lengths)[:, None], tokens, 0)
    inputs = {"tokens": tokens, "segments": rng.integers(0, 2, tokens.shape, dtype=np.int32)} if segments else tokens
    variables = random_variables(shapes_of(model.init, inputs), dtype)
    weights = cotangent((len(lengths), CLASSES), dtype)

    net = BertForSequenceClassification(config).to(getattr(torch, dtype)).eval()
    state = {key: torch.tensor(array) for key, array in to_huggingface(model, variables).items()}
    net.load_state_dict(state, strict=True)
    kinds = torch.tensor(inputs["segments"]).long() if segments else None
    logits = net(torch.tensor(tokens).long(), torch.tensor(tokens != 0).long(), token_type_ids=kinds).logits
    (logits * torch.tensor(weights)).sum().backward()
    gradients = {key: leaf.grad for key, leaf in net.named_parameters()}
    # Padding's own embedding gets no gradient: there by `padding_idx`, here since nothing looks at it.
    theirs = Result(logits.detach().numpy(), from_huggingface(model, gradients)["params"])
    return ours(model.apply, variables, inputs, weights), theirs


def case(name, lengths, segments=False, **options):
    return Case(
        "BERT", name, "BertForSequenceClassification", "transformers", partial(bert, lengths, segments, options)
    )


CASES = [
    case("one length", (6, 6)),
    case("padding", (9, 1, 4)),
    case("padding and segments", (5, 7, 2), segments=True),
    case("another size", (3, 2), num_layers=3, num_heads=5, width=15, feedforward_dim=7),
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_bert(case, dtype):
    case.check(dtype)
