"""Colours against Python's colorsys and Pillow's ImageEnhance."""

import colorsys

import jax
import numpy as np
import pytest

from neuralmon.data import augment as aug
from neuralmon.data.augment import colour
from neuralmon.errors import RequestError

KEY = jax.random.key(2)


def images_of(shape, seed=0):
    return np.random.default_rng(seed).random(shape, np.float32)


def factors(*values):
    return np.reshape(np.float32(values), (-1, 1, 1, 1))


def test_hues_agree_with_colorsys():
    corners = np.float32([[r, g, b] for r in (0, 1) for g in (0, 1) for b in (0, 1)])
    pixels = np.concatenate([corners, corners / 2, np.float32([[0.3, 0.3, 0.1], [0.2, 0.7, 0.7]]), images_of((40, 3))])
    turns = [-0.5, -0.21, 0.0, 0.1, 1 / 3, 0.5]
    images = np.repeat(pixels[None, None], len(turns), axis=0)
    results = np.asarray(colour.turn_hue(images, factors(*turns)))
    for turn, result in zip(turns, results[:, 0], strict=True):
        for pixel, changed in zip(pixels.astype(float), result, strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
            np.testing.assert_allclose(changed, colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value), atol=2e-6)


def test_saturation_keeps_the_hue_and_the_brightness():
    image = images_of((1, 5, 6, 3))
    for pixel, changed in zip(
        image.reshape(-1, 3), np.asarray(colour.saturation(image, factors(0.6))).reshape(-1, 3), strict=True
    ):
        old, new = colorsys.rgb_to_hsv(*pixel.astype(float)), colorsys.rgb_to_hsv(*changed.astype(float))
        np.testing.assert_allclose(new[0], old[0], atol=1e-5)
        assert new[1] < old[1]
        np.testing.assert_allclose(changed @ [0.299, 0.587, 0.114], pixel @ [0.299, 0.587, 0.114], atol=1e-6)


@pytest.mark.parametrize(
    ("function", "name"),
    [(colour.brightness, "Brightness"), (colour.contrast, "Contrast"), (colour.saturation, "Color")],
)
@pytest.mark.parametrize("factor", [0.0, 0.4, 1.0, 1.3, 2.0])
def test_factors_agree_with_pillow(function, name, factor):
    enhance, image_module = pytest.importorskip("PIL.ImageEnhance"), pytest.importorskip("PIL.Image")
    stored = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    expected = np.asarray(getattr(enhance, name)(image_module.fromarray(stored)).enhance(factor), float)
    result = np.asarray(function(stored[None].astype(np.float32) / 255, factors(factor)))[0] * 255
    # Pillow rounds the grey, and then the result, to whole bytes.
    np.testing.assert_allclose(result, expected, atol=2.01)


@pytest.mark.parametrize(("channels", "colours"), [(2, 1), (4, 3)])
def test_alpha_stays_and_colours_change_as_without_it(channels, colours):
    images, change = images_of((6, 5, 4, channels)), aug.Colour(0.3, 0.5, 0.7, 0.2)
    result = np.asarray(change(KEY, {"inputs": images})["inputs"])
    plain = np.asarray(change(KEY, {"inputs": images[..., :colours]})["inputs"])
    np.testing.assert_array_equal(result[..., colours:], images[..., colours:])
    np.testing.assert_array_equal(result[..., :colours], plain)
    assert (plain != images[..., :colours]).any()


@pytest.mark.parametrize("channels", [1, 2])
def test_grey_images_have_no_saturation_and_no_hue(channels):
    images = images_of((6, 5, 4, channels))
    result = aug.Colour(saturation=1.0, hue=0.5)(KEY, {"inputs": images})["inputs"]
    np.testing.assert_array_equal(result, images)


def test_grey_pixels_of_rgb_images_stay_grey_of_the_same_value():
    images = np.repeat(images_of((6, 5, 4, 1)), 3, axis=-1)
    result = aug.Colour(saturation=1.0, hue=0.5)(KEY, {"inputs": images})["inputs"]
    np.testing.assert_allclose(result, images, atol=1e-6)


def test_colours_stay_within_0_and_1():
    result = np.asarray(aug.Colour(1.0, 1.0, 1.0, 0.5)(KEY, {"inputs": images_of((64, 5, 4, 3))})["inputs"])
    assert result.min() == 0 and result.max() == 1


def test_factors_are_drawn_evenly():
    images = np.full((4000, 1, 1, 1), 0.5, np.float32)
    drawn = np.asarray(aug.Colour(brightness=0.6)(KEY, {"inputs": images})["inputs"]).ravel() / 0.5
    counts = np.histogram(drawn, bins=10, range=(0.4, 1.6))[0]
    assert counts.sum() == 4000
    # Chi-square with 9 degrees of freedom, within 6 standard deviations.
    assert ((counts - 400) ** 2 / 400).sum() < 9 + 6 * np.sqrt(18)


def test_more_channels_are_refused():
    with pytest.raises(RequestError, match=r"Colour.*these have 5"):
        aug.Colour()(KEY, {"inputs": images_of((2, 3, 3, 5))})
