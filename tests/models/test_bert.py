"""BERT: who sees whom, weights across, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.bert import from_huggingface, to_huggingface
from neuralmon.models import BERT

RNG = np.random.default_rng(0)
MODEL = BERT(3, 7, num_layers=1, num_heads=2, width=8, feedforward_dim=8, max_length=6)
TOKENS = np.array([[3, 1, 5, 0], [2, 2, 6, 4]])
SHAPES = jax.eval_shape(MODEL.init, jax.random.key(0), TOKENS)
VARIABLES = jax.tree.map(lambda leaf: 0.5 * RNG.normal(size=leaf.shape).astype(np.float32), SHAPES)
QUICK = {"xla_backend_optimization_level": 0}  # these programs are compiled for longer than they run
apply = jax.jit(MODEL.apply, compiler_options=QUICK)


PADDED = np.pad(TOKENS, ((0, 0), (0, 2)))


def test_every_token_counts_and_padding_does_not():
    """Nor does saying that there is one segment."""

    @functools.partial(jax.jit, compiler_options=QUICK)
    @functools.partial(jax.grad, has_aux=True)
    def by_position(table):
        params = {**VARIABLES["params"], "position_embedding": {"embedding": table}}
        logits = MODEL.apply({"params": params}, TOKENS)
        return logits[0].var(), logits

    gradient, logits = by_position(VARIABLES["params"]["position_embedding"]["embedding"])
    assert logits.shape == (2, 3) and logits.dtype == jnp.float32
    np.testing.assert_array_equal(np.abs(gradient).max(axis=-1) > 0, [True, True, True, False, False, False])
    padded = apply(VARIABLES, {"tokens": PADDED, "segments": np.zeros_like(PADDED)})
    np.testing.assert_allclose(padded, logits, atol=1e-5)


def test_segments():
    first = apply(VARIABLES, {"tokens": PADDED, "segments": np.zeros_like(PADDED)})
    second = apply(VARIABLES, {"tokens": PADDED, "segments": np.where([[False], [True]], np.arange(6) // 2 % 2, 0)})
    np.testing.assert_allclose(second[0], first[0], atol=1e-6)
    assert np.abs(second[1] - first[1]).max() > 1e-3


def test_what_is_inside():
    def look(variables):
        return MODEL.apply(variables, TOKENS, mutable="intermediates"), MODEL.apply(variables, TOKENS, method="encode")

    (_, seen), (states, mask) = jax.eval_shape(look, VARIABLES)
    seen = seen["intermediates"]
    assert seen["pooled"][0].shape == (2, 8)
    assert [state.shape for state in seen["encoder"]["hidden_states"]] == [(2, 4, 8)] * 2
    assert seen["encoder"]["layers_0"]["attention"]["attention_weights"][0].shape == (2, 2, 4, 4)
    assert states.shape == (2, 4, 8) and mask.shape == (2, 1, 1, 4)


def test_weights_go_to_transformers_and_back():
    state = to_huggingface(MODEL, VARIABLES)
    jax.tree.map(np.testing.assert_array_equal, from_huggingface(MODEL, state), VARIABLES)
    # A file of the first releases: other names, the heads of pre-training, no classifier.
    old = {
        key.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): one for key, one in state.items()
    }
    old = {key: one for key, one in old.items() if not key.startswith("classifier.")}
    old |= {"cls.predictions.bias": np.zeros(7), "bert.embeddings.position_ids": np.arange(6)}
    message = "classifier.weight is missing; classifier.bias is missing; cls.predictions.bias is left over"
    with pytest.raises(RequestError, match=message):
        from_huggingface(MODEL, old)
    again = from_huggingface(MODEL, old, key=jax.random.key(1))
    output = again["params"].pop("output")
    expected = {name: leaf for name, leaf in VARIABLES["params"].items() if name != "output"}
    jax.tree.map(np.testing.assert_array_equal, again["params"], expected)
    assert 0.01 < output["kernel"].std() < 0.03 and not output["bias"].any()
    with pytest.raises(RequestError, match="give the number of classes"):
        from_huggingface(MODEL.clone(num_classes=None), state)


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({"num_classes": None}, TOKENS, r"BERT\(num_classes=None\)"),
        ({"vocab_size": None}, TOKENS, r"BERT\(vocab_size=None\)"),
        ({"num_heads": 3}, TOKENS, "width of 8 into 3 heads"),
        ({}, np.ones((1, 7), int), "texts of 1 to max_length=6 tokens, not of 7"),
        ({}, np.ones((1, 0), int), "there is no token"),
        ({}, np.ones((1, 4)), r"takes integer tokens \(batch, time\), not float"),
        ({}, {"text": TOKENS}, r"not \['text'\]"),
        ({}, {"tokens": TOKENS, "segments": TOKENS[:, :2]}, r"segments of shape \(2, 2\) do not fit tokens"),
    ],
)
def test_errors(options, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(MODEL.clone(**options).init, jax.random.key(0), inputs)
