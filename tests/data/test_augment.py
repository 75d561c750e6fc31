"""Augmentations against loops in NumPy."""

import itertools
import math

import jax
import numpy as np
import pytest

from neuralmon.data import augment

shift = jax.jit(augment.shift)


def moved(image, down, right):
    """`image` moved down and right, pixel by pixel."""
    result = np.zeros_like(image)
    for row, column in itertools.product(range(image.shape[0]), range(image.shape[1])):
        if 0 <= row - down < image.shape[0] and 0 <= column - right < image.shape[1]:
            result[row, column] = image[row - down, column - right]
    return result


@pytest.mark.parametrize(
    ("height", "width", "reach", "dtype"), [(6, 9, 2, np.uint8), (5, 5, 1, np.float32), (4, 6, 4, np.uint8)]
)
def test_shift_moves_by_whole_pixels_and_fills_with_zeros(height, width, reach, dtype):
    images = np.random.default_rng(0).integers(1, 250, (12, height, width, 3)).astype(dtype)
    shifted = np.asarray(shift(jax.random.key(1), images, reach))
    assert shifted.dtype == dtype
    offsets = list(itertools.product(range(-reach, reach + 1), repeat=2))
    for image, result in zip(images, shifted, strict=True):
        assert any((result == moved(image, *offset)).all() for offset in offsets)


def test_all_offsets_are_drawn_evenly():
    images = np.zeros((10_000, 9, 9, 1), np.uint8)
    images[:, 4, 4] = 1
    shifted = np.asarray(shift(jax.random.key(0), images, 2))
    counts = shifted.sum(axis=0)[2:7, 2:7, 0].astype(float)
    assert counts.sum() == 10_000
    # Chi-square with 24 degrees of freedom, within 6 standard deviations.
    assert ((counts - 400) ** 2 / 400).sum() < 24 + 6 * math.sqrt(48)


def test_by_zero_it_is_the_identity():
    images = np.random.default_rng(0).integers(0, 256, (8, 7, 5, 2), dtype=np.uint8)
    np.testing.assert_array_equal(shift(jax.random.key(0), images, 0), images)
    np.testing.assert_array_equal(shift(jax.random.key(0), images, 0.9), images)


def test_a_fraction_is_dropped():
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), dtype=np.uint8)
    key = jax.random.key(3)
    np.testing.assert_array_equal(shift(key, images, 2.9), shift(key, images, 2.0))


def test_a_traced_number_gives_the_same_and_traces_once():
    images = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1), dtype=np.uint8)
    key = jax.random.key(3)
    traces = []

    @jax.jit
    def traced(pixels):
        traces.append(pixels)
        return augment.shift(key, images, pixels)

    for pixels in (0.0, 1.0, 2.5, 3.0):
        np.testing.assert_array_equal(traced(pixels), augment.shift(key, images, pixels))
    assert len(traces) == 1
