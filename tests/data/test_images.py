"""Decoded images against PIL and NumPy by hand."""

import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from neuralmon.data import Column, Mnist
from neuralmon.data.images.decoding import native_channels, native_size, printable, read_image
from neuralmon.data.images.files import ImageFiles, Paths, find_images, read_images
from neuralmon.errors import RequestError, RunError

RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
GREYS = RNG.integers(0, 256, (12, 20), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (12, 20, 4), dtype=np.uint8)
GREY_ALPHA = ALPHA[..., 2:]
SMOOTH = np.asarray(Image.fromarray(COLOURS).resize((200, 120), Image.Resampling.BICUBIC))


def saved(folder, name, image, **options):
    image.save(folder / name, **options)
    return str(folder / name)


def on_white(rgba):
    alpha = rgba[..., 3:].astype(float) / 255
    return rgba[..., :3] * alpha + 255 * (1 - alpha)


def luma(rgb):
    return rgb @ np.array([0.299, 0.587, 0.114])


def palette_image():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    return image


def animation():
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


# The image, how it is saved, the channels it needs, and by channels what is decoded: written without loss.
LOSSLESS = {
    "rgb": (Image.fromarray(COLOURS), {}, 3, {3: COLOURS, 1: luma(COLOURS)[..., None]}),
    "grey": (Image.fromarray(GREYS), {}, 1, {1: GREYS[..., None], 3: np.stack([GREYS] * 3, -1)}),
    "bits": (Image.fromarray(GREYS > 99), {}, 1, {1: np.where(GREYS > 99, 255, 0)[..., None]}),
    "rgba": (Image.fromarray(ALPHA), {}, 4, {4: ALPHA, 3: on_white(ALPHA), 1: luma(on_white(ALPHA))[..., None]}),
    "grey and alpha": (Image.fromarray(GREY_ALPHA), {}, 4, {3: on_white(GREY_ALPHA[..., [0, 0, 0, 1]])}),
    "palette": (palette_image(), {}, 3, {3: [[[255, 0, 0], [0, 0, 255]]], 4: [[[255, 0, 0, 255], [0, 0, 255, 255]]]}),
    "transparent palette": (
        palette_image(),
        {"transparency": 1},
        4,
        {3: [[[255, 0, 0], [255, 255, 255]]], 4: [[[255, 0, 0, 255], [0, 0, 255, 0]]]},
    ),
    "transparent rgb": (
        Image.fromarray(np.array([[[1, 2, 3], [9, 8, 7]]], np.uint8)),
        {"transparency": (9, 8, 7)},
        4,
        {3: [[[1, 2, 3], [255, 255, 255]]]},
    ),
    "16 bits": (
        Image.fromarray(np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)),
        {},
        1,
        {1: np.array([[0, 0, 1, 1, 128, 255]])[..., None]},
    ),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_pixels_are_those_by_hand(tmp_path, kind):
    image, options, channels, expected = LOSSLESS[kind]
    path = saved(tmp_path, "image.png", image, **options)
    assert native_channels(path) == channels
    for wanted, pixels in expected.items():
        pixels = np.asarray(pixels)
        decoded = read_image(path, (image.height, image.width, wanted))
        assert decoded.dtype == np.uint8 and decoded.shape == pixels.shape
        exact = np.issubdtype(pixels.dtype, np.integer)
        np.testing.assert_allclose(decoded, pixels, rtol=0, atol=0 if exact else 1.01)


@pytest.mark.parametrize("suffix", ["bmp", "webp", "gif", "PNG"])
def test_other_formats_are_read_too(tmp_path, suffix):
    image = Image.fromarray(COLOURS).quantize(64).convert("RGB")
    path = saved(tmp_path, f"image.{suffix}", image, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(read_image(path, (12, 20, 3)), np.asarray(image))
    assert native_size(path) == (12, 20)


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    (tmp_path / "moving.gif").write_bytes(animation())
    decoded = read_image(str(tmp_path / "moving.gif"), (3, 4, 3))
    np.testing.assert_array_equal(decoded, np.broadcast_to(np.uint8([255, 0, 0]), (3, 4, 3)))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpegs_are_decoded_as_pil_does(tmp_path, mode):
    path = saved(tmp_path, "image.jpg", Image.fromarray(SMOOTH).convert(mode), quality=95)
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(read_image(path, (120, 200, 3)), rgb)
    # Its own luminance, where there is one: the same up to rounding.
    np.testing.assert_allclose(read_image(path, (120, 200, 1))[..., 0], luma(rgb), atol=2.5)
    assert native_channels(path) == (1 if mode == "L" else 3)


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
def test_a_jpeg_decoded_small_is_close_to_one_decoded_large(tmp_path, resize):
    large = np.asarray(Image.fromarray(SMOOTH).resize((800, 480), Image.Resampling.BICUBIC))
    jpeg = saved(tmp_path, "image.jpg", Image.fromarray(large), quality=98)
    lossless = saved(tmp_path, "image.png", Image.fromarray(large))
    small, exact = (read_image(path, (30, 30, 3), resize).astype(int) for path in (jpeg, lossless))
    assert np.abs(small - exact).mean() < 1.5


# EXIF orientation and what turns the stored pixels into the seen ones.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
@pytest.mark.parametrize("orientation", TURNS)
def test_images_are_turned_as_their_exif_data_says(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(SMOOTH)
    path = saved(tmp_path, f"image.{suffix}", image, exif=exif)
    with Image.open(path) as stored:
        expected = TURNS[orientation](np.asarray(stored))
    assert native_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(read_image(path, expected.shape), expected)


def test_a_turned_jpeg_is_decoded_small_along_its_own_axes(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "turned.jpg", Image.fromarray(SMOOTH).resize((1600, 960)), exif=exif, quality=95)
    with Image.open(path) as stored:
        whole = Image.fromarray(TURNS[6](np.asarray(stored)))
    expected = np.asarray(whole.resize((96, 160), Image.Resampling.BILINEAR)).astype(int)
    assert np.abs(read_image(path, (160, 96, 3)) - expected).mean() < 1


def test_damaged_exif_data_leaves_the_image_as_it_is(tmp_path):
    path = saved(tmp_path, "image.jpg", Image.fromarray(SMOOTH), exif=b"Exif\0\0nonsense that is no TIFF header")
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_image(path, (120, 200, 3)), np.asarray(image))


# (height, width) of the image and of the result, and (top, left, bottom, right) of what is cut out.
CROPS = [
    ((10, 30), (10, 10), (0, 10, 10, 20)),
    ((30, 10), (10, 10), (10, 0, 20, 10)),
    ((12, 20), (12, 20), (0, 0, 12, 20)),
]


@pytest.mark.parametrize(("given", "target", "cut"), CROPS)
def test_crop_cuts_the_middle_out(tmp_path, given, target, cut):
    pixels = RNG.integers(0, 256, (*given, 3), dtype=np.uint8)
    path = saved(tmp_path, "image.png", Image.fromarray(pixels))
    top, left, bottom, right = cut
    np.testing.assert_array_equal(read_image(path, (*target, 3), "crop"), pixels[top:bottom, left:right])


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pad_shows_all_of_it_between_black_borders(tmp_path, channels):
    pixels = RNG.integers(1, 256, (4, 10, channels), dtype=np.uint8)
    path = saved(tmp_path, "image.png", Image.fromarray(pixels.squeeze()))
    padded = read_image(path, (10, 10, channels), "pad")
    np.testing.assert_array_equal(padded[3:7], pixels)
    assert not padded[:3].any() and not padded[7:].any()


def test_stretch_scales_each_side(tmp_path):
    path = saved(tmp_path, "image.png", Image.fromarray(COLOURS))
    expected = np.asarray(Image.fromarray(COLOURS).resize((10, 6), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read_image(path, (6, 10, 3)), expected)
    flat = saved(tmp_path, "flat.png", Image.new("RGB", (7, 5), (9, 90, 200)))
    np.testing.assert_array_equal(read_image(flat, (31, 3, 3)), np.broadcast_to(np.uint8([9, 90, 200]), (31, 3, 3)))


def encoded(kind, pixels=SMOOTH):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def png():
    return encoded("PNG", COLOURS)


DAMAGED = {
    "truncated png": (png()[:200], "truncated"),
    "truncated jpeg": (encoded("JPEG")[:900], "truncated"),
    "truncated gif": (encoded("GIF")[:3000], "truncated"),
    "damaged png": (png()[:90] + b"\0" * 40 + png()[130:], ""),
    "empty": (b"", "the file is empty"),
    "text": (b"this is a text", "it is no PNG, JPEG"),
    "header only": (png()[:20], ""),
    "without pixels": (png()[:16] + b"\0" * 8 + png()[24:], ""),
    "another format": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "it is no PNG, JPEG"),
    "gone": (None, "the file is gone"),
}


@pytest.mark.parametrize("workers", [None, 0, 2])
@pytest.mark.parametrize("kind", DAMAGED)
def test_what_cannot_be_decoded_is_named(tmp_path, kind, workers):
    content, why = DAMAGED[kind]
    for index in range(8):
        (tmp_path / f"good{index}.png").write_bytes(png())
    if content is not None:
        (tmp_path / "bad.png").write_bytes(content)
    names = [*(f"good{index}.png" for index in range(8)), "bad.png"]
    column = ImageFiles(Paths.of(str(tmp_path), names), (12, 20, 3), workers=workers)
    np.testing.assert_array_equal(column[np.array([0, 7])], [COLOURS, COLOURS])
    with pytest.raises(RunError, match=f"bad.png cannot be read as an image: .*{why}") as raised:
        column[np.arange(9)]
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Forty embedded digits as PNG and JPEG of several sizes."""
    folder = tmp_path_factory.mktemp("digits")
    for index, digit in enumerate(Mnist().load()["validation"]["inputs"][:40, ..., 0]):
        size = [(28, 28), (40, 21), (300, 250)][index % 3]
        Image.fromarray(digit).resize(size).save(folder / f"{index:02}.{'jpg' if index % 2 else 'png'}")
    return folder


@pytest.mark.parametrize("workers", [None, 0, 1, 3])
def test_any_rows_in_any_order_are_what_single_reads_give(digits, workers):
    names = [name for name, _ in find_images(str(digits)).files]
    column = ImageFiles(Paths.of(str(digits), names), (20, 24, 1), "pad", workers)
    assert isinstance(column, Column) and column.shape == (40, 20, 24, 1) and column.dtype == np.uint8
    single = np.stack([read_image(str(digits / name), (20, 24, 1), "pad") for name in names])
    assert len(np.unique(single.reshape(40, -1), axis=0)) == 40
    rng = np.random.default_rng(7)
    for size in (0, 1, 2, 5, 40, 100):
        rows = rng.integers(0, 40, size)
        np.testing.assert_array_equal(column[rows], single[rows])
    np.testing.assert_array_equal(column[np.array(3)], single[3])
    np.testing.assert_array_equal(column[5:30:4], single[5:30:4])
    for outside in (-1, 40):
        with pytest.raises(IndexError):
            column[np.array([0, outside])]


def test_a_column_is_small_and_goes_through_pickle(digits):
    names = [f"class/number{index:07}.png" for index in range(100_000)]
    column = ImageFiles(Paths.of(str(digits), names), (28, 28, 1))
    data = pickle.dumps(column)
    assert len(data) < 100_000 * (len(names[0]) + 9)
    again = pickle.loads(data)
    assert again.shape == column.shape and again.paths[99_999] == f"{digits}/{names[-1]}"


def test_names_that_are_no_utf8_are_read_and_printable(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(png())
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    names, images = read_images(str(tmp_path), (12, 20, 3))
    assert names == ["caf\\xe9.png"]
    names[0].encode()
    np.testing.assert_array_equal(images[0], COLOURS)
    assert printable("äöü/日本") == "äöü/日本"


def test_new_images_are_those_of_a_file_or_a_folder_or_an_array(tmp_path):
    (tmp_path / "b" / "deep").mkdir(parents=True)
    for name in ("b/deep/2.PNG", "b/1.png", "a.png", ".hidden.png", "b/notes.txt"):
        (tmp_path / name).write_bytes(png())
    names, images = read_images(str(tmp_path), (12, 20, 3))
    assert names == ["a.png", "b/1.png", "b/deep/2.PNG"]
    np.testing.assert_array_equal(images, [COLOURS] * 3)
    names, images = read_images(str(tmp_path / "b" / "notes.txt"), (6, 10, 1))
    assert names == ["notes.txt"] and images.shape == (1, 6, 10, 1)
    stored = RNG.integers(0, 256, (3, 6, 10, 1), dtype=np.uint8)
    for given in (stored, stored[..., 0], stored[0], stored[0, ..., 0]):
        np.save(tmp_path / "stored.npy", given)
        names, images = read_images(str(tmp_path / "stored.npy"), (6, 10, 1))
        np.testing.assert_array_equal(images, given.reshape(-1, 6, 10, 1))
        assert names == [f"stored.npy[{index}]" for index in range(len(images))]


def test_new_images_that_cannot_be_used_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_bytes(png())
    np.save(tmp_path / "floats.npy", np.zeros((2, 12, 20, 3)))
    np.save(tmp_path / "small.npy", np.zeros((2, 12, 19, 3), np.uint8))
    np.save(tmp_path / "objects.npy", np.array([None]), allow_pickle=True)
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    cases = {
        "": r"holds no images .*left out: 4 \.npy, 1 hidden, 1 \.txt",
        "absent.png": "does not exist",
        "notes.txt": "it is no PNG",
        "floats.npy": r"holds float64 \(2, 12, 20, 3\).*uint8 \(images, 12, 20, 3\)",
        "small.npy": "holds uint8",
        "objects.npy": "cannot be read as an array",
        "broken.npy": "cannot be read as an array",
    }
    for name, message in cases.items():
        with pytest.raises(RequestError, match=message):
            read_images(str(tmp_path / name), (12, 20, 3))


def test_links_are_followed_but_not_in_circles(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "1.png").write_bytes(png())
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "2.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    assert find_images(str(tmp_path / "images")).files == [("2.png", len(png())), ("linked/1.png", len(png()))]
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "images")
    with pytest.raises(RequestError, match="is a link to a folder that it lies in"):
        find_images(str(tmp_path / "images"))
    (tmp_path / "elsewhere" / "back").unlink()
    (tmp_path / "images" / "3.png").symlink_to(tmp_path / "absent")
    with pytest.raises(RequestError, match=r"3\.png cannot be read"):
        find_images(str(tmp_path / "images"))
