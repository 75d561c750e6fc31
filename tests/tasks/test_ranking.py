"""Ranking scores from histograms against scikit-learn, which sorts."""

import jax
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from neuralmon.tasks import ranking

histograms = jax.jit(ranking.histograms)


def draw(seed, examples, scale=2.0, rate=0.5, signal=1.0):
    generator = np.random.default_rng(seed)
    truth = generator.random(examples) < rate
    return (scale * (generator.normal(size=examples) + signal * truth)).astype(np.float32), truth


def scores(logits, truth, labels=1):
    """Returns both scores of the first of so many equal labels, which have the fewer bins the more they are."""
    logits, truth = (np.repeat(column[:, None], labels, axis=1) for column in (logits, truth))
    counts = histograms(logits, truth, np.ones(len(logits), np.int32))[:1]
    return float(ranking.roc_auc(counts)[0]), float(ranking.average_precision(counts)[0])


def expected(logits, truth):
    return sklearn_metrics.roc_auc_score(truth, logits), sklearn_metrics.average_precision_score(truth, logits)


LOGITS, TRUTH = draw(0, 5_000)
CASES = {
    "overlapping": (LOGITS, TRUTH),
    "no better than chance": draw(1, 5_000, signal=0.0),
    "worse than chance": draw(2, 3_000, signal=-2.0),
    "separable": draw(3, 500, scale=0.5, signal=40.0),
    "rare positives": draw(4, 20_000, rate=0.005),
    "many ties": (np.round(LOGITS), TRUTH),
    "constant logits": (np.full_like(LOGITS, 0.7), TRUTH),
    "all zero": (np.zeros_like(LOGITS), TRUTH),
    "signs of zero": (np.where(TRUTH, 0.0, -0.0).astype(np.float32), TRUTH),
    "small": draw(5, 2_000, scale=0.05),
    "large": draw(6, 2_000, scale=20.0),
    "four examples": (np.float32([-3, -1, 2, 1.5]), np.array([False, True, True, False])),
    "saturated": (np.float32([-1e30, -50, -1, 1, 60, 1e30]), np.array([0, 1, 0, 0, 1, 1], bool)),
    "infinite": (np.float32([-np.inf, -1, 3, np.inf]), np.array([0, 1, 0, 1], bool)),
}


@pytest.mark.parametrize("case", CASES)
def test_scores_are_sklearns(case):
    logits, truth = CASES[case]
    auc, average = expected(np.clip(logits, -1e38, 1e38), truth)
    assert scores(logits, truth) == (pytest.approx(auc, abs=5e-6), pytest.approx(average, abs=1e-5))


@pytest.mark.parametrize(("labels", "bins"), [(1, 2**18), (2, 2**18), (8, 2**16), (100, 5_242), (600, 1_024)])
def test_logits_further_apart_than_the_stated_width_are_ranked_exactly(labels, bins):
    """Neighbours are 2 (1 + |x|)^2 / bins apart, which is what the documentation promises to tell apart."""
    assert ranking.num_bins(labels) == bins
    positions = np.arange(-0.95, 0.95, 2.1 / bins)[::7]
    logits = (positions / (1 - np.abs(positions))).astype(np.float32)
    logits = np.random.default_rng(bins).permutation(logits)
    truth = np.random.default_rng(bins + 1).random(len(logits)) < 0.4
    assert scores(logits, truth, labels) == pytest.approx(expected(logits, truth), abs=1e-12)


def test_more_labels_are_coarser():
    exact = np.array(expected(LOGITS, TRUTH))
    errors = [np.abs(scores(LOGITS, TRUTH, labels) - exact).max() for labels in (600, 16, 1)]
    assert 2e-3 > errors[0] > 3 * errors[1] > 9 * errors[2]


def test_histograms_count_each_example_once_and_padding_never():
    examples = (np.arange(5_000) % 3 > 0).astype(np.int32)
    fine = np.asarray(histograms(LOGITS[:, None], TRUTH[:, None], examples))[0]
    counts = fine.reshape(2, 64, -1).sum(axis=-1)
    position = (LOGITS / (1 + np.abs(LOGITS))).astype(np.float64)
    for value in (0, 1):
        chosen = position[(examples == 1) & (value == TRUTH)]
        np.testing.assert_array_equal(counts[value], np.histogram(chosen, 64, (-1, 1))[0])
    assert fine.dtype == np.int32


def test_each_label_has_its_own_histogram():
    logits = np.stack([LOGITS, -LOGITS, np.round(LOGITS)], axis=1)
    truth = np.stack([TRUTH, TRUTH, ~TRUTH], axis=1)
    counts = histograms(logits, truth, np.ones(5_000, np.int32))
    got = np.stack([ranking.roc_auc(counts), ranking.average_precision(counts)], axis=1)
    np.testing.assert_allclose(got, [expected(logits[:, i], truth[:, i]) for i in range(3)], atol=2e-5)


@pytest.mark.parametrize("value", [False, True])
def test_one_class_only_has_no_area_under_the_curve(value):
    auc, average = scores(LOGITS, np.full_like(TRUTH, value))
    assert np.isnan(auc)
    assert average == 1 if value else np.isnan(average)


def test_nan_has_the_worst_scores():
    auc, average = scores(np.full_like(LOGITS, np.nan), TRUTH)
    assert auc == 0
    assert average == pytest.approx(expected(-TRUTH.astype(float), TRUTH)[1])
    some = np.where(np.arange(5_000) % 10 == 0, np.float32(np.nan), LOGITS)
    assert scores(some, TRUTH)[0] < scores(LOGITS, TRUTH)[0] - 0.05
