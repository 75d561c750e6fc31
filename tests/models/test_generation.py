"""Writing: the same tokens whether a cache is used or not, in one piece or streamed, by whatever model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.models import GPT, GRU, LSTM, RNN
from neuralmon.models.generation import choice_logits, generate, sample_token, stream

VOCAB = 11
MODELS = {
    "GPT": GPT(vocab_size=VOCAB, context_length=48, num_layers=2, num_heads=2, width=8),
    **{
        kind.__name__: kind(hidden=(7, 5), output="all", vocab_size=VOCAB, num_classes=VOCAB, embedding_dim=4)
        for kind in (RNN, LSTM, GRU)
    },
}


@functools.cache
def variables_of(model):
    """Far from the initial values, with which one token would win again and again."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 3), int))
    random = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: random.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize(
    "name", ["GPT", "LSTM", *(pytest.param(name, marks=pytest.mark.slow) for name in ("RNN", "GRU"))]
)
def test_greedy_writing_with_a_cache_is_that_without(name):
    model = MODELS[name]
    variables, apply = variables_of(model), jax.jit(model.apply)
    prompts, lengths, count = np.array([[1, 2, 3], [4, 0, 0]]), np.array([3, 1]), 5
    texts = np.pad(prompts, ((0, 0), (0, count)))
    for step in range(count):
        logits = np.asarray(apply(variables, texts))
        for row, length in enumerate(lengths + step):
            texts[row, length] = logits[row, length - 1].argmax()
    expected = [text[length : length + count] for text, length in zip(texts, lengths, strict=True)]
    tokens = generate(model, variables, prompts, count, jax.random.key(0), lengths, temperature=0.0)
    np.testing.assert_array_equal(tokens, expected)


@pytest.mark.parametrize("name", ["GPT", pytest.param("LSTM", marks=pytest.mark.slow)])
def test_a_stream_writes_what_generate_writes(name):
    model, key = MODELS[name], jax.random.key(3)
    variables = variables_of(model)
    prompts = [np.array([1, 2, 3]), np.array([4])]
    options = {"temperature": 1.3, "top_k": 8, "top_p": 0.95, "repetition_penalty": 1.2}
    padded, lengths = np.array([[1, 2, 3], [4, 0, 0]]), np.array([3, 1])
    expected = generate(model, variables, padded, 37, key, lengths, **options)
    parts = list(stream(model, variables, prompts, 37, key, **options))
    assert [part.shape for part in parts] == [(2, 16), (2, 16), (2, 5)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


def test_beyond_the_context_the_latest_half_is_read_anew():
    model = MODELS["GPT"].clone(context_length=8)
    variables, apply = variables_of(model), jax.jit(model.apply)
    for length in (3, 8, 20):
        prompt = np.arange(length) % VOCAB
        text, window = list(prompt), list(prompt) if length < 8 else list(prompt[-4:])
        for _ in range(15):
            if len(window) == 8:
                window = text[-4:]
            logits = np.asarray(apply(variables, np.pad(window, (0, 8 - len(window)))[None]))
            token = int(logits[0, len(window) - 1].argmax())
            text.append(token)
            window.append(token)
        parts = list(stream(model, variables, [prompt], 15, jax.random.key(0), temperature=0.0))
        np.testing.assert_array_equal(np.concatenate(parts, axis=1)[0], text[length:])


def test_what_a_stream_compiles_does_not_depend_on_how_much_is_written():
    from neuralmon.models import generation

    model = MODELS["RNN"]
    variables = variables_of(model)
    list(stream(model, variables, [np.array([1])], 3, jax.random.key(0)))
    compiled = generation._begin._cache_size(), generation._write._cache_size()
    for length, temperature in ((40, 1.0), (1, 0.5), (17, 0.0)):
        list(stream(model, variables, [np.arange(5)], length, jax.random.key(1), temperature=temperature))
    assert (generation._begin._cache_size(), generation._write._cache_size()) == compiled


def test_top_p_keeps_the_fewest_likeliest_tokens():
    probabilities = np.array([[0.05, 0.4, 0.3, 0.2, 0.05]])
    for top_p, kept in ((0.01, [1]), (0.39, [1]), (0.41, [1, 2]), (0.69, [1, 2]), (0.71, [1, 2, 3]), (1.0, range(5))):
        found = np.isfinite(choice_logits(jnp.log(probabilities), top_p=top_p)[0])
        np.testing.assert_array_equal(np.flatnonzero(found), list(kept), err_msg=f"{top_p}")
    # The temperature acts first: at 0.2 the likeliest has 0.8 of the probability.
    assert np.isfinite(choice_logits(jnp.log(probabilities), temperature=0.2, top_p=0.75)).sum() == 1


def test_what_was_said_is_less_likely():
    logits, seen = jnp.array([[2.0, -2.0, 1.9, 0.0]]), jnp.array([[True, True, False, False]])
    np.testing.assert_allclose(choice_logits(logits, repetition_penalty=2.0, seen=seen), [[1.0, -4.0, 1.9, 0.0]])
    assert sample_token(jax.random.key(0), logits, 0.0, repetition_penalty=2.0, seen=seen) == 2


def test_what_reads_backwards_cannot_write():
    model = MODELS["LSTM"].clone(bidirectional=True)
    with pytest.raises(ValueError, match="it cannot write"):
        jax.eval_shape(
            lambda key: model.init(key, jnp.zeros((1, 2), int), model.empty_cache(1), method="decode"),
            jax.random.key(0),
        )
