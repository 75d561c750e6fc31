"""Crops, flips and rotations against NumPy's slices, Pillow and SciPy."""

import itertools

import jax
import numpy as np
import pytest
from scipy import ndimage

from neuralmon.data import augment as aug
from neuralmon.data.augment import geometry

KEY = jax.random.key(3)
resized_crop, rotate = jax.jit(geometry.resized_crop), jax.jit(geometry.rotate)


def augmented(augmentation, images):
    return np.asarray(jax.jit(augmentation)(KEY, {"inputs": images})["inputs"])


def images_of(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def ramps(batch, height, width):
    """Images whose two channels say in which row and column a pixel was."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    return np.repeat(np.stack([rows, columns], -1)[None].astype(np.float32), batch, axis=0)


@pytest.mark.parametrize(("border", "mode"), [("zero", "constant"), ("reflect", "reflect")])
@pytest.mark.parametrize(("height", "width", "padding"), [(6, 9, 2), (4, 3, 5), (5, 1, 1)])
def test_crops_are_slices_of_the_padded_image(border, mode, height, width, padding):
    images = images_of((300, height, width, 2))
    results = augmented(aug.Crop(padding, border), images)
    padded = np.pad(images, ((0, 0), (padding, padding), (padding, padding), (0, 0)), mode)
    found = np.zeros((2 * padding + 1,) * 2, int)
    for image, result in zip(padded, results, strict=True):
        same = [
            (down, right)
            for down, right in itertools.product(range(2 * padding + 1), repeat=2)
            if (image[down : down + height, right : right + width] == result).all()
        ]
        assert same
        found[same[0]] += 1
    if min(height, width) > padding:
        assert (found > 0).all()


def test_a_crop_with_zeros_is_a_shift():
    images = images_of((20, 7, 8, 3))
    np.testing.assert_array_equal(augmented(aug.Crop(3), images), augmented(aug.Shift(3), images))


@pytest.mark.parametrize(("vertical", "axis"), [(False, 1), (True, 0)])
def test_flips_come_as_often_as_said(vertical, axis):
    images = images_of((2000, 3, 4, 1))
    flipped = np.stack([np.flip(image, axis) for image in images])
    flip = jax.jit(lambda probability: aug.Flip(probability, vertical)(KEY, {"inputs": images})["inputs"])
    for probability in (0.0, 0.2, 1.0):
        result = np.asarray(flip(probability))
        is_flipped = (result == flipped).all(axis=(1, 2, 3))
        assert (is_flipped | (result == images).all(axis=(1, 2, 3))).all()
        # Within 5 standard deviations.
        assert abs(is_flipped.mean() - probability) <= 5 * np.sqrt(probability * (1 - probability) / 2000)


def test_resized_crops_agree_with_pillow():
    image_module = pytest.importorskip("PIL.Image")
    rng, (height, width) = np.random.default_rng(1), (13, 10)
    images = images_of((25, height, width, 2))
    extent = rng.uniform(0.1, 1, (2, 25)).astype(np.float32)
    start = (rng.random((2, 25)) * (1 - extent)).astype(np.float32)
    results = resized_crop(images, start, extent)
    for image, (top, left), (high, wide), result in zip(images, start.T, extent.T, results, strict=True):
        box = (left * width, top * height, (left + wide) * width, (top + high) * height)
        for channel in range(2):
            picture = image_module.fromarray(image[..., channel])
            expected = picture.resize((width, height), image_module.Resampling.BILINEAR, box=box)
            np.testing.assert_allclose(result[..., channel], expected, atol=1e-5)


def test_resized_crops_have_the_area_and_the_ratio_asked_for():
    height, width = 40, 60
    result = augmented(aug.RandomResizedCrop(0.2, 0.5, 0.8, 1.5), ramps(4000, height, width))
    # From the inner pixels: at the rim values are held.
    high = (result[:, 30, 30, 0] - result[:, 10, 30, 0]) / 20
    wide = (result[:, 20, 40, 1] - result[:, 20, 20, 1]) / 20
    area, ratio = high * wide, wide / high
    assert 0.2 - 1e-4 < area.min() < 0.203 and 0.497 < area.max() < 0.5 + 1e-4
    assert 0.8 - 1e-4 < ratio.min() < 0.805 and 1.49 < ratio.max() < 1.5 + 1e-3
    np.testing.assert_allclose(area.mean(), 0.35, atol=0.01)
    np.testing.assert_allclose(np.log(ratio).mean(), np.log(0.8 * 1.5) / 2, atol=0.015)
    centres = result[:, 19:21, 30, 0].mean(axis=1) + 0.5
    assert (centres >= height * high / 2 - 0.1).all() and (centres <= height * (1 - high / 2) + 0.1).all()


def test_a_rectangle_larger_than_the_image_is_cut():
    images = images_of((4, 6, 6, 1))
    result = augmented(aug.RandomResizedCrop(1.0, 1.0, 4.0, 4.0), images)
    expected = resized_crop(images, jax.random.uniform(KEY, (4, 4))[2:] * np.float32([[0.5], [0]]),
                            np.full((2, 4), [[0.5], [1.0]], np.float32))  # fmt: skip
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(12, 12), (9, 14), (7, 1)])
def test_rotations_agree_with_scipy(height, width):
    images, angles = images_of((8, height, width, 2)), np.float32([0, 0.3, -0.7, 1.5, 2.2, 3.1, -1.2, 6])
    results = np.asarray(rotate(images, angles))
    down, right = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    for image, angle, result in zip(images, angles.astype(float), results, strict=True):
        # Where a pixel was before the image turned anticlockwise, rows being counted downwards.
        rows = np.cos(angle) * down + np.sin(angle) * right + (height - 1) / 2
        columns = np.cos(angle) * right - np.sin(angle) * down + (width - 1) / 2
        for channel in range(2):
            expected = ndimage.map_coordinates(image[..., channel], [rows, columns], order=1, mode="grid-constant")
            np.testing.assert_allclose(result[..., channel], expected, atol=2e-5)


def test_rotations_are_anticlockwise_as_pillow_s():
    image_module = pytest.importorskip("PIL.Image")
    image, angles = images_of((21, 21)), (10, 37, -80, 90)
    results = np.asarray(rotate(np.stack([image[..., None]] * 4), np.deg2rad(angles).astype(np.float32)))[..., 0]
    for degrees, result in zip(angles, results, strict=True):
        picture = image_module.fromarray(image).rotate(degrees, image_module.Resampling.BILINEAR)
        np.testing.assert_allclose(result[4:17, 4:17], np.asarray(picture)[4:17, 4:17], atol=1e-4)
    np.testing.assert_allclose(results[3], np.rot90(image), atol=1e-5)


def test_angles_are_drawn_evenly_up_to_the_largest():
    turned = augmented(aug.Rotate(50), ramps(4000, 9, 9))[:, 3:6, 3:6]
    cos, sin = turned[:, 1, 2, 1] - turned[:, 1, 1, 1], turned[:, 1, 2, 0] - turned[:, 1, 1, 0]
    degrees = np.rad2deg(np.arctan2(sin, cos))
    assert -50.01 < degrees.min() < -49.5 and 49.5 < degrees.max() < 50.01
    counts = np.histogram(degrees, bins=10, range=(-50, 50))[0]
    # Chi-square with 9 degrees of freedom, within 6 standard deviations.
    assert ((counts - 400) ** 2 / 400).sum() < 9 + 6 * np.sqrt(18)
