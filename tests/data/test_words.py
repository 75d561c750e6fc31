"""The words of the plays: published text, honest vocabulary, contexts and noise drawn as said."""

import collections
import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.data import ShakespeareWords
from neuralmon.data.dataset import Dataset, load_checked
from neuralmon.data.text import shakespeare
from neuralmon.data.text.words import tokenize
from neuralmon.errors import RequestError

ALL = ShakespeareWords(subsample=None, min_count=100, window=3, negatives=4)
PREPARE = jax.jit(ALL.prepare, static_argnums=2)


@pytest.fixture(scope="module")
def text():
    return shakespeare.read()


def batch(dataset, size, split="train"):
    windows = dataset.load()[split]["inputs"][:size]
    return {"inputs": jnp.asarray(windows), "weights": jnp.ones(len(windows))}


def test_the_text_is_what_its_readme_says(text):
    assert (len(text), len(set(text))) == (5_000_582, 83)
    assert text.startswith("A Midsummer Night's Dream\n\nACT I\n")
    assert text.count("\nACT I\n") == 38


def test_words_are_lower_case_and_keep_inner_apostrophes():
    assert tokenize("O'er the KING's 2 hills,--'tis th' end!") == ["o'er", "the", "king's", "hills", "tis", "th", "end"]


def test_it_is_a_dataset_as_its_spec_says():
    assert isinstance(ALL, Dataset)
    load_checked(ALL)
    assert set(ALL.spec().sizes) == {"train", "validation", "test"}


def test_windows_are_pieces_of_the_text_and_each_place_is_in_one_split(text):
    known = set(ALL.words)
    rest = [word for word in tokenize(text) if word in known]
    pieces = collections.Counter(tuple(rest[i : i + 7]) for i in range(len(rest) - 6))
    found = collections.Counter()
    for features in ALL.load().values():
        for row in features["inputs"][::97]:
            window = tuple(ALL.words[number] for number in row)
            found[window] += 1
            # Only a passage's ends may be joined otherwise, and no window reaches across them.
            assert found[window] <= pieces[window]
    assert sum(ALL.spec().sizes.values()) == pytest.approx(len(rest), rel=0.02)


def test_the_vocabulary_is_ordered_by_frequency_and_knows_the_training_passages_only(text):
    counts = collections.Counter(tokenize(text))
    assert ALL.words[:3] == ("the", "and", "i")
    assert all(counts[word] >= 100 for word in ALL.words)
    # Some that are frequent enough only with the other splits' occurrences are left out.
    assert len(ALL.words) < sum(count >= 100 for count in counts.values())


def test_frequent_words_are_left_out_by_eq_5():
    thin = ShakespeareWords(subsample=1e-3, min_count=100, window=3)
    before, after = (np.bincount(d.load()["train"]["inputs"][:, 3], minlength=len(d.words)) for d in (ALL, thin))
    # About: the passages' ends are in no window's middle.
    total = before.sum() / 0.75  # the share of all words that is in this vocabulary
    for row in (0, 1, 10, 50):
        keep = min(1, np.sqrt(1e-3 * total / before[row]))
        assert after[row] / before[row] == pytest.approx(keep, rel=0.08)
    assert thin.words == ALL.words


def test_contexts_are_near_and_nearer_ones_more_often():
    one = {"inputs": jnp.tile(jnp.arange(7), (30_000, 1)), "weights": jnp.ones(30_000)}
    prepared = PREPARE(jax.random.key(0), one, True)
    assert (prepared["inputs"]["center"] == 3).all()
    shares = np.bincount(prepared["inputs"]["contexts"][:, 0], minlength=7) / 30_000
    np.testing.assert_allclose(shares, np.array([1, 2, 3, 0, 3, 2, 1]) / 12, atol=0.01)


def test_noise_is_drawn_by_the_power_three_quarters_of_frequency():
    prepared = PREPARE(jax.random.key(0), batch(ALL, 30_000), True)
    noise = np.asarray(prepared["inputs"]["contexts"][:, 1:]).ravel()
    centres = np.bincount(ALL.load()["train"]["inputs"][:, 3], minlength=len(ALL.words)) ** 0.75
    shares = np.bincount(noise, minlength=len(ALL.words)) / len(noise)
    np.testing.assert_allclose(shares[:20], (centres / centres.sum())[:20], rtol=0.1)
    assert noise.min() >= 0
    assert noise.max() < len(ALL.words)


def test_evaluation_draws_depend_on_the_example_alone():
    part = batch(ALL, 64, "validation")
    first, other = (PREPARE(jax.random.key(seed), part, False)["inputs"]["contexts"] for seed in (0, 1))
    np.testing.assert_array_equal(first, other)
    backwards = PREPARE(jax.random.key(0), {name: leaf[::-1] for name, leaf in part.items()}, False)
    np.testing.assert_array_equal(backwards["inputs"]["contexts"][::-1], first)
    assert len({tuple(row) for row in np.asarray(first)[:, 1:].tolist()}) == 64
    trained = [PREPARE(jax.random.key(seed), part, True)["inputs"]["contexts"] for seed in (0, 1)]
    assert (trained[0] != trained[1]).any()


def test_the_examples_are_the_same_on_every_machine():
    windows = ShakespeareWords().load()["train"]["inputs"]
    digest = hashlib.sha256(np.ascontiguousarray(windows, "<i4").tobytes()).hexdigest()
    assert (windows.shape, digest[:16]) == ((509_781, 11), "6ace17740ffedb8a")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_count": 40_000}, "no word occurs 40000 times"),
        ({"window": 900}, "no passage of the split 'train' has as many as 1801 words"),
    ],
    ids=str,
)
def test_what_leaves_nothing_is_refused(fields, message):
    with pytest.raises(RequestError, match=message):
        ShakespeareWords(**{"subsample": 1e-5, **fields}).spec()
