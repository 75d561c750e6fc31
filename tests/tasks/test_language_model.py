import jax
import numpy as np
import pytest
from scipy.special import log_softmax

import neuralmon as nm

SPEC = nm.data.Spec(
    {"inputs": jax.ShapeDtypeStruct((4,), np.int32), "targets": jax.ShapeDtypeStruct((4,), np.int32)},
    {"train": 3},
    vocab_size=5,
)
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 4, 5)).astype(np.float32)
TARGETS = np.array([[1, 2, 3, 4], [1, 2, 0, 0], [4, 4, 4, 4]], np.int32)
BATCH = {"targets": TARGETS, "weights": np.array([1, 1, 0], np.float32)}  # the last text is padding as a whole


def report(task):
    sums = jax.tree.map(np.asarray, task.metrics(LOGITS, BATCH))
    return task.report(sums, SPEC)


def by_hand(counted, smoothing=0.0):
    log_probabilities = log_softmax(LOGITS.astype(np.float64), axis=-1)
    true = np.take_along_axis(log_probabilities, TARGETS[..., None], axis=-1)[..., 0]
    losses = -(1 - smoothing) * true - smoothing * log_probabilities.mean(axis=-1)
    return (losses * counted).sum() / counted.sum()


@pytest.mark.parametrize("pad_id", [None, 0])
def test_every_token_counts_once_and_padding_not_at_all(pad_id):
    counted = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], float)
    if pad_id is not None:
        counted[1, 2:] = 0
    got = report(nm.tasks.LanguageModel(pad_id=pad_id))
    assert got["loss"] == pytest.approx(by_hand(counted), rel=1e-6)
    assert got["perplexity"] == pytest.approx(np.exp(by_hand(counted)), rel=1e-6)
    assert got["bits_per_token"] == pytest.approx(by_hand(counted) / np.log(2), rel=1e-6)
    right = (LOGITS.argmax(axis=-1) == TARGETS) * counted
    assert got["accuracy"] == pytest.approx(right.sum() / counted.sum())


def test_smoothing_is_in_the_loss_and_not_in_the_perplexity():
    counted = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], float)
    got = report(nm.tasks.LanguageModel(label_smoothing=0.1))
    assert got["loss"] == pytest.approx(by_hand(counted, 0.1), rel=1e-6)
    assert got["perplexity"] == pytest.approx(np.exp(by_hand(counted)), rel=1e-6)


def test_predictions_are_the_likeliest_tokens():
    said = nm.tasks.LanguageModel().predict(LOGITS, SPEC)
    np.testing.assert_array_equal(said["token"], LOGITS.argmax(axis=-1))
    np.testing.assert_allclose(said["probability"], np.exp(log_softmax(LOGITS, axis=-1)).max(axis=-1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 6), (3, 3, 5)])
def test_outputs_that_do_not_fit_are_refused(shape):
    task = nm.tasks.LanguageModel()
    assert task.check(jax.ShapeDtypeStruct((3, 4, 5), np.float32), SPEC) is None
    assert "needs outputs of shape (batch, 4, 5)" in task.check(jax.ShapeDtypeStruct(shape, np.float32), SPEC)


def test_data_without_tokens_is_refused():
    spec = nm.data.Spec(SPEC.features, SPEC.sizes)
    assert "made of tokens" in nm.tasks.LanguageModel().check(jax.ShapeDtypeStruct((3, 4, 5), np.float32), spec)


def test_targets_below_zero_do_not_count():
    task = nm.tasks.LanguageModel()
    targets = np.where(np.arange(4) < 2, TARGETS, -1)
    part = {"targets": targets, "weights": BATCH["weights"]}
    got = task.report(jax.tree.map(np.asarray, task.metrics(LOGITS, part)), SPEC)
    counted = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], float)
    assert got["loss"] == pytest.approx(by_hand(counted), rel=1e-6)
    assert "bits_per_character" not in got


def test_bits_a_character_are_those_of_all_tokens_over_all_characters():
    task = nm.tasks.LanguageModel()
    characters = np.array([[1, 2, 0, 3], [1, 1, 1, 5], [9, 9, 9, 9]], np.float32)
    got = task.report(jax.tree.map(np.asarray, task.metrics(LOGITS, {**BATCH, "characters": characters})), SPEC)
    counted = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]], float)
    assert got["bits_per_character"] == pytest.approx(by_hand(counted) * 8 / 14 / np.log(2), rel=1e-6)
