"""Beam search against every sequence there is, greedy search, and what a cache's examples are."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from neuralmon.layers import KeyValueCache, select_examples
from neuralmon.models import GPT, Captioner, Transformer, beam_search, translate

RNG = np.random.default_rng(0)
BEGIN, END, VOCAB, LONGEST = 3, 1, 4, 4
QUICK = {"xla_backend_optimization_level": 0}  # these programs are compiled for longer than they run
# Logits of the next token for each example and everything that can have been written: a tree in an array.
TREE = 2 * RNG.normal(size=(5, VOCAB**LONGEST, VOCAB)).astype(np.float32)


def decode(tokens, cache):
    """Reads a token: the place in the tree of what was written is that of before, and one digit more."""
    place = jnp.where(cache["length"] == 0, 0, cache["place"] * VOCAB + tokens + 1)
    logits = jnp.asarray(TREE)[cache["example"], place]
    return logits, {**cache, "place": place, "length": cache["length"] + 1}


def search(beam_size, length_penalty, max_length=LONGEST):
    zeros = jnp.zeros(len(TREE), jnp.int32)
    cache = {"example": jnp.arange(len(TREE)), "place": zeros, "length": zeros}
    start = jnp.full(len(TREE), BEGIN)
    fixed = functools.partial(beam_search, decode, beam_size=beam_size, max_length=max_length)
    run = jax.jit(fixed, compiler_options=QUICK)
    return jax.device_get(run(cache, start, END, length_penalty=length_penalty))


def sequences(max_length):
    """Yields everything that can be written: what ends, and what is as long as may be."""
    for length in range(1, max_length + 1):
        for tokens in itertools.product([token for token in range(VOCAB) if token != END], repeat=length - 1):
            yield (*tokens, END)
            if length == max_length:
                yield from ((*tokens, last) for last in range(VOCAB) if last != END)


def score_of(example, tokens, length_penalty):
    place, total = 0, 0.0
    for token in tokens:
        total += log_softmax(TREE[example, place].astype(np.float64))[token]
        place = place * VOCAB + token + 1
    return total / ((5 + len(tokens)) ** length_penalty / 6**length_penalty)


def cut(row):
    row = row.tolist()
    return tuple(row[: row.index(END) + 1]) if END in row else tuple(row)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 3.0])
def test_as_many_beams_as_sequences_find_the_best_of_all(length_penalty):
    found, scores = search(VOCAB**LONGEST, length_penalty)
    lengths = set()
    for example, row in enumerate(found):
        best = max(sequences(LONGEST), key=lambda tokens: score_of(example, tokens, length_penalty))
        assert cut(row) == best
        assert scores[example] == pytest.approx(score_of(example, best, length_penalty), rel=1e-5)
        assert (row[len(best) :] == END).all()
        lengths.add(len(best))
    assert {1, LONGEST} <= lengths


@pytest.mark.parametrize("max_length", [1, LONGEST])
def test_one_beam_is_greedy_whatever_the_length_penalty(max_length):
    for length_penalty in (0.0, 3.0):
        found, scores = search(1, length_penalty, max_length)
        for example, row in enumerate(found):
            place, tokens = 0, []
            while len(tokens) < max_length and END not in tokens:
                tokens.append(int(TREE[example, place].argmax()))
                place = place * VOCAB + tokens[-1] + 1
            assert cut(row) == tuple(tokens)
            assert scores[example] == pytest.approx(score_of(example, tokens, length_penalty), rel=1e-5)


def test_scores_are_those_of_the_sequences_and_more_beams_find_more():
    totals = []
    for beam_size in (1, 9):
        found, scores = search(beam_size, 0.6)
        expected = [score_of(example, cut(row), 0.6) for example, row in enumerate(found)]
        np.testing.assert_allclose(scores, expected, rtol=1e-5)
        totals.append(scores.sum())
    assert totals[-1] > totals[0]


SIZES = {"vocab_size": VOCAB, "num_layers": 1, "num_heads": 2, "width": 8, "feedforward_dim": 8}
SOURCE = np.array([[3, 2, 3, 0, 0], [2, 2, 3, 2, 1]])
IMAGES = RNG.normal(size=(2, 8, 4, 1)).astype(np.float32)
MODELS = [("source", Transformer(**SIZES), SOURCE), ("images", Captioner(**SIZES), IMAGES)]


@pytest.mark.parametrize(("name", "model", "source"), MODELS[:1])
def test_translations_are_the_best_by_the_models_own_logits(name, model, source):
    shapes = jax.eval_shape(model.init, jax.random.key(0), {name: source, "target": np.zeros((2, 2), np.int32)})
    variables = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)
    longest, everything = 3, list(sequences(3))
    rows = np.array([(*tokens, *[0] * (longest - len(tokens))) for tokens in everything])
    targets = np.concatenate([np.full((len(rows), 1), BEGIN), rows[:, :-1]], axis=1)
    inputs = {name: np.repeat(source, len(rows), axis=0), "target": np.tile(targets, (2, 1))}
    logits = jax.jit(model.apply, compiler_options=QUICK)(variables, inputs)
    log_probability = log_softmax(np.float64(logits), axis=-1).reshape(2, len(rows), longest, VOCAB)
    taken = np.take_along_axis(log_probability, np.stack([rows, rows])[..., None], axis=-1)[..., 0]
    run = jax.jit(translate.__wrapped__, static_argnums=(0, 5, 6), compiler_options=QUICK)
    for beam_size in (1, VOCAB**longest):
        found, scores = jax.device_get(run(model, variables, source, BEGIN, END, longest, beam_size, 1.0))
        for row, score, own in zip(found, scores, taken, strict=True):
            total = {
                tokens: one[: len(tokens)].sum() / ((5 + len(tokens)) / 6)
                for tokens, one in zip(everything, own, strict=True)
            }
            assert score == pytest.approx(total[cut(row)], rel=1e-4)
            if beam_size > 1:
                assert cut(row) == max(total, key=total.get)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "model", "source"), MODELS[1:])
def test_captions_are_the_best_by_the_models_own_logits(name, model, source):
    test_translations_are_the_best_by_the_models_own_logits(name, model, source)


def test_examples_are_selected_from_single_and_stacked_caches():
    one = KeyValueCache.empty(3, 2, 1, 1).append(*(np.arange(6.0).reshape(3, 2, 1, 1) for _ in range(2)))
    stacked = GPT(vocab_size=3, num_layers=2, num_heads=1, width=4).empty_cache(3, 5)
    stacked = stacked.replace(lengths=jnp.array([[1, 2, 3]] * 2))
    rows = jnp.array([2, 2, 0, 1])
    single, many, array, nothing = select_examples((one, stacked, np.arange(3), None), rows)
    assert single.key[:, 0, :, 0].tolist() == [[4, 5], [4, 5], [0, 1], [2, 3]]
    assert many.key.shape == (2, 4, 1, 5, 4) and many.lengths.tolist() == [[3, 3, 1, 2]] * 2
    assert array.tolist() == rows.tolist() and nothing is None
