"""Mixtures, holes and noise against loops in NumPy and the distributions of SciPy."""

import jax
import numpy as np
import pytest
from scipy import stats

from neuralmon.data import augment as aug
from neuralmon.data.augment.corruption import rectangles
from neuralmon.data.augment.mixing import beta
from neuralmon.errors import RequestError

KEY = jax.random.key(4)


def make_batch(shape, weights=None):
    return {
        "inputs": np.random.default_rng(0).random(shape, np.float32),
        "targets": np.arange(shape[0], dtype=np.int32),
        "weights": np.ones(shape[0], np.float32) if weights is None else weights,
    }


def quick(function):
    """`function`, quick to compile rather than quick to run."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})


cutmix = quick(aug.CutMix(1.0))


def numpy_of(augmentation, batch):
    return {name: np.asarray(value) for name, value in quick(augmentation)(KEY, batch).items()}


@pytest.mark.parametrize("shape", [(8, 4, 5, 3), (7, 6)])
def test_mixup_by_hand(shape):
    batch = make_batch(shape)
    result = numpy_of(aug.Mixup(1.0), batch)
    size = shape[0]
    for i in range(size):
        partner, share = size - 1 - i, result["weights"][i]
        if i != partner:
            assert 0 < share < 1 and share == result["weights"][partner]
            expected = share * batch["inputs"][i] + (1 - share) * batch["inputs"][partner]
            np.testing.assert_allclose(result["inputs"][i], expected, atol=1e-6)
        else:
            np.testing.assert_allclose(result["inputs"][i], batch["inputs"][i], atol=1e-6)
        assert result["second_targets"][i] == partner
        np.testing.assert_allclose(result["second_weights"][i], 1 - share, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_cutmix_by_hand(seed):
    height, width = 9, 12
    batch = make_batch((21, height, width, 2))
    result = {name: np.asarray(value) for name, value in cutmix(jax.random.key(seed), batch).items()}
    for i in range(21):
        partner = 20 - i
        np.testing.assert_array_equal(result["second_targets"][i], partner)
        if i == partner:
            np.testing.assert_array_equal(result["inputs"][i], batch["inputs"][i])
            continue
        foreign = (result["inputs"][i] == batch["inputs"][partner]).all(axis=-1)
        np.testing.assert_array_equal(result["inputs"][i][~foreign], batch["inputs"][i][~foreign])
        rows, columns = foreign.any(axis=1), foreign.any(axis=0)
        np.testing.assert_array_equal(foreign, rows[:, None] & columns)
        # Both sides are contiguous.
        assert (np.diff(np.flatnonzero(rows)) == 1).all() and (np.diff(np.flatnonzero(columns)) == 1).all()
        np.testing.assert_allclose(result["second_weights"][i], foreign.mean(), atol=1e-6)
        np.testing.assert_allclose(result["weights"][i], 1 - foreign.mean(), atol=1e-6)


@pytest.mark.parametrize("augmentation", [aug.Mixup(0.5), aug.CutMix(1.0)])
def test_each_target_keeps_the_weight_of_its_example(augmentation):
    weights = np.float32([0, 3, 0.5, 1, 1, 2, 10, 0, 1, 1, 3])
    size = len(weights)
    result = numpy_of(augmentation, make_batch((size, 8, 8, 1), weights))
    kept = np.bincount(result["targets"], result["weights"], size)
    kept += np.bincount(result["second_targets"], result["second_weights"], size)
    np.testing.assert_allclose(kept, weights, rtol=1e-6)
    assert result["weights"].min() >= 0 and result["second_weights"].min() >= 0


@pytest.mark.parametrize("first", [aug.Mixup(), aug.CutMix()])
@pytest.mark.parametrize("second", [aug.Mixup(), aug.CutMix()])
def test_mixing_twice_is_refused(first, second):
    with pytest.raises(RequestError, match=f"{type(second).__name__} cannot mix .* mixtures already"):
        jax.eval_shape(lambda: second(KEY, first(KEY, make_batch((4, 5, 5, 1)))))


@pytest.mark.parametrize("augmentation", [aug.Mixup(), aug.CutMix()])
def test_without_targets_there_is_nothing_to_mix(augmentation):
    batch = {name: value for name, value in make_batch((4, 5, 5, 1)).items() if name != "targets"}
    with pytest.raises(RequestError, match=f"{type(augmentation).__name__} mixes targets"):
        jax.eval_shape(lambda: augmentation(KEY, batch))


draw = quick(lambda alpha: beta(KEY, alpha, 4000))


def test_shares_are_distributed_as_beta():
    for alpha in (0.1, 0.4, 1.0, 5.0):
        drawn = np.asarray(draw(alpha), float)
        # Shares that round to 0 or 1 in float32 are ties at the ends, where the exact distribution has none.
        assert stats.kstest(np.clip(drawn, 1e-9, 1 - 1e-9), stats.beta(alpha, alpha).cdf).pvalue > 1e-3 or alpha < 0.3
        np.testing.assert_allclose(drawn.mean(), 0.5, atol=0.04)
        np.testing.assert_allclose(drawn.var(), 1 / (4 * (2 * alpha + 1)), rtol=0.08)


@pytest.mark.parametrize("alpha", [1e-30, 1e-6, 1e-3, 1e4, 1e9])
def test_extreme_alphas_are_sound(alpha):
    drawn = np.asarray(draw(alpha))
    assert np.isfinite(drawn).all() and drawn.min() >= 0 and drawn.max() <= 1
    if alpha > 1:
        np.testing.assert_allclose(drawn, 0.5, atol=0.05)
    else:
        assert np.mean((drawn < 0.01) | (drawn > 0.99)) > 0.95
        np.testing.assert_allclose(drawn.mean(), 0.5, atol=0.08)


@pytest.mark.parametrize(("height", "width"), [(6, 5), (4, 9)])
def test_rectangles_lie_about_any_pixel(height, width):
    draw = quick(lambda sides: rectangles(KEY, sides, height, width))
    for high, wide in ((1, 1), (2, 3), (3.9, 4), (20, 20), (0, 5), (0.9, 3)):
        masks = np.asarray(draw(np.full((2, 3000), [[high], [wide]], np.float32)))
        high, wide = int(high), int(wide)
        expected = set()
        for row in range(height):
            for column in range(width):
                mask = np.zeros((height, width), bool)
                top, left = row - high // 2, column - wide // 2
                mask[max(top, 0) : max(top + high, 0), max(left, 0) : max(left + wide, 0)] = True
                expected.add(mask.tobytes())
        assert {mask.tobytes() for mask in masks} == expected


def test_a_pixel_is_drawn_evenly():
    counts = np.asarray(rectangles(KEY, np.ones((2, 4000), np.float32), 4, 5)).sum(axis=0)
    assert counts.sum() == 4000
    # Chi-square with 19 degrees of freedom, within 6 standard deviations.
    assert ((counts - 200) ** 2 / 200).sum() < 19 + 6 * np.sqrt(38)


def test_cutout_paints_one_square():
    batch = make_batch((50, 12, 12, 3))
    result = numpy_of(aug.Cutout(4.7, fill=0.25), batch)["inputs"]
    for image, old in zip(result, batch["inputs"], strict=True):
        hole = (image != old).any(axis=-1)
        np.testing.assert_array_equal(hole, hole.any(axis=1)[:, None] & hole.any(axis=0))
        assert 2 <= hole.any(axis=1).sum() <= 4 and 2 <= hole.any(axis=0).sum() <= 4
        assert (image[hole] == 0.25).all() and (image[~hole] == old[~hole]).all()
    assert any((image != old).any(axis=-1).sum() == 16 for image, old in zip(result, batch["inputs"], strict=True))


def test_noise_is_normal_and_independent():
    batch = make_batch((4000, 2))
    noise = numpy_of(aug.Noise(0.3), batch)["inputs"] - batch["inputs"]
    assert stats.kstest(noise.ravel(), stats.norm(0, 0.3).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(noise.T)[0, 1]) < 5 / np.sqrt(4000)
