"""Sprites drawn here: what is found on which background, which types they get, and what is said of wrong ones."""

import colorsys
import io
import json
import zipfile

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw

from neuralmon import codec
from neuralmon.data import Pokemon, RandomSplit
from neuralmon.data.images.pokemon_types import TYPES, types_of_species
from neuralmon.data.images.sprites import foreground, read_sprite
from neuralmon.errors import RequestError, RunError
from neuralmon.names import Names
from neuralmon.tasks import Classification, MultiLabel

HALVES = RandomSplit(validation=0.25, test=0.25)


def drawn(box=(4, 6, 23, 35), colour="red", ground="white", mode="RGB", size=(40, 48), hole=None):
    """A filled rectangle, both corners included, on a ground; `hole` is painted in the ground's colour."""
    image = Image.new("RGBA", size, ground)
    ImageDraw.Draw(image).rectangle(box, fill=colour)
    if hole:
        ImageDraw.Draw(image).rectangle(hole, fill=ground)
    return image.convert(mode)


def png(image=None):
    buffer = io.BytesIO()
    (image or drawn()).save(buffer, "PNG")
    return buffer.getvalue()


def lay(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return str(folder)


def archive(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content)
    return str(path)


def games(numbers=range(1, 17), names=("old", "new")):
    """A sprite of each species in each game, all of another colour."""
    return {
        f"{game}/{number}.png": png(drawn(colour=(10 + number, 90 * index, 60)))
        for index, game in enumerate(names)
        for number in numbers
    }


GROUNDS = {
    "white": drawn(),
    "another colour": drawn(ground="lime"),
    "the colour of the sprite's black neighbour": drawn(ground="black"),
    "palette": drawn(mode="P"),
    "transparent": drawn(ground="#00000000", mode="RGBA"),
    "transparent red": drawn(ground="#ff000000", mode="RGBA"),
    "nearly transparent": drawn(ground="#ffffff30", mode="RGBA"),
}


@pytest.mark.parametrize("ground", GROUNDS)
def test_the_sprite_is_found_on_any_ground(ground, tmp_path):
    """20 x 30 pixels in the middle of a square of 30, enlarged by 2: 40 x 60."""
    path = tmp_path / "sprite.png"
    GROUNDS[ground].save(path)
    image = read_sprite(str(path), 60, "rgb")
    assert image.shape == (60, 60, 3) and image.dtype == np.uint8
    red = np.zeros((60, 60), bool)
    red[:, 10:50] = True
    middle = np.ones(60, bool)
    middle[8:12] = middle[48:52] = False  # at the edge the interpolation mixes both
    expected = np.where(red[..., None], [255, 0, 0], 0)
    np.testing.assert_array_equal(image[:, middle], expected[:, middle])
    # Halfway it is red as well, only darker: nothing of the ground comes through.
    assert not image[..., 1:].any()


def test_hue_saturation_and_value_are_those_of_the_colour(tmp_path):
    path = tmp_path / "sprite.png"
    drawn(colour=(30, 200, 120)).save(path)
    image = read_sprite(str(path), 64, "hsv")
    expected = 255 * np.array(colorsys.rgb_to_hsv(30 / 255, 200 / 255, 120 / 255))
    assert np.abs(image[32, 32] - expected).max() <= 1
    np.testing.assert_array_equal(image[32, 0], 0)


def test_what_the_ground_does_not_reach_is_the_sprites():
    image = np.asarray(drawn(hole=(10, 10, 14, 14)).convert("RGBA"))
    shown = foreground(image)
    assert shown[6:36, 4:24].all() and shown.sum() == 30 * 20
    open_hole = foreground(np.asarray(drawn(hole=(10, 6, 14, 14)).convert("RGBA")))
    assert not open_hole[6:15, 10:15].any() and open_hole.sum() == 30 * 20 - 9 * 5


def test_the_table_has_every_species():
    table = types_of_species()
    assert sorted(table) == list(range(1, 650))
    assert all(len(set(types)) == len(types) in (1, 2) for types in table.values())
    named = {number: tuple(TYPES[kind] for kind in table[number]) for number in (1, 6, 25, 35, 94, 149, 183, 641, 649)}
    assert named == {
        1: ("grass", "poison"),
        6: ("fire", "flying"),
        25: ("electric",),
        35: ("fairy",),
        94: ("ghost", "poison"),
        149: ("dragon", "flying"),
        183: ("water", "fairy"),
        641: ("flying",),
        649: ("bug", "steel"),
    }
    assert np.bincount([types[0] for types in table.values()]).tolist() == (
        [89, 22, 1, 26, 30, 33, 60, 19, 18, 39, 100, 61, 33, 44, 21, 20, 25, 8]
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return lay(tmp_path_factory.mktemp("sprites"), games())


@pytest.mark.parametrize("targets", ["primary", "both"])
def test_the_spec_says_what_load_gives(folder, targets):
    dataset = Pokemon(path=folder, split=HALVES, targets=targets).resolve()
    spec, data = dataset.spec(), dataset.load()
    assert spec.sizes == {"train": 16, "validation": 8, "test": 8}
    for split, size in spec.sizes.items():
        for name, feature in spec.features.items():
            assert data[split][name].shape == (size, *feature.shape)
            assert data[split][name].dtype == feature.dtype
    assert spec.class_names == TYPES
    task = Classification() if targets == "primary" else MultiLabel()
    assert task.check(jax.ShapeDtypeStruct((4, 18), np.float32), spec) is None
    assert codec.from_json(json.loads(json.dumps(codec.to_json(dataset, Names()))), Pokemon, Names()) == dataset


def species_of(folder, dataset):
    """The species of each split, by the colours that `games` gave them."""
    images = {name: columns["inputs"] for name, columns in dataset.load().items()}
    return {name: array[:, 32, 32, 0].astype(int) - 10 for name, array in images.items()}


def test_species_are_split_and_not_sprites(folder):
    for seed in range(3):
        split = RandomSplit(validation=0.25, test=0.25, seed=seed)
        found = species_of(folder, Pokemon(path=folder, colour="rgb", split=split).resolve())
        assert sorted(np.concatenate(list(found.values()))) == sorted([*range(1, 17)] * 2)
        sets = [set(numbers.tolist()) for numbers in found.values()]
        assert all(np.bincount(numbers).max() == 2 for numbers in found.values())
        assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]


def test_the_validation_species_come_out_of_the_training_ones(folder):
    splits = (HALVES, RandomSplit(validation=0, test=0.25))
    cut, joined = (species_of(folder, Pokemon(path=folder, colour="rgb", split=split).resolve()) for split in splits)
    assert set(joined) == {"train", "test"}
    np.testing.assert_array_equal(np.sort(cut["test"]), np.sort(joined["test"]))


@pytest.mark.parametrize("targets", ["primary", "both"])
def test_targets_are_the_types_in_the_table(folder, targets):
    dataset = Pokemon(path=folder, colour="rgb", split=HALVES, targets=targets).resolve()
    species, data, table = species_of(folder, dataset), dataset.load(), types_of_species()
    for split, numbers in species.items():
        expected = [table[number] for number in numbers]
        found = data[split]["targets"]
        if targets == "primary":
            assert found.tolist() == [types[0] for types in expected]
        else:
            assert [np.flatnonzero(row).tolist() for row in found] == [sorted(types) for types in expected]
    if targets == "primary":
        counts = np.bincount(data["train"]["targets"], minlength=18)
        assert dataset.facts.class_counts == tuple(counts.tolist())


def test_a_zip_is_what_its_folder_is(folder, tmp_path):
    files = {**games(), "__MACOSX/old/._1.png": b"", "old/.DS_Store": b"", "readme.txt": b"hello"}
    path = archive(tmp_path / "sprites.zip", files)
    zipped, plain = Pokemon(path=path, split=HALVES).resolve(), Pokemon(path=folder, split=HALVES).resolve()
    assert zipped.facts == plain.facts
    for split, columns in plain.load().items():
        for name, array in columns.items():
            np.testing.assert_array_equal(zipped.load()[split][name], array)


def test_some_games_only(folder):
    dataset = Pokemon(path=folder, colour="rgb", games=("new",), split=HALVES).resolve()
    assert dataset.spec().sizes == {"train": 8, "validation": 4, "test": 4}
    assert {image[32, 32, 1] for image in dataset.load()["train"]["inputs"]} == {90}


def test_other_forms_are_left_out_and_said(tmp_path):
    more = {"old/201-b.png": png(), "old/10033.png": png(), "old/back/1.png": png(), "cover.png": png()}
    path = lay(tmp_path, {**games(), **more})
    with pytest.warns(UserWarning, match=r"left out: cover\.png, old/10033\.png, old/201-b\.png and 1 more"):
        dataset = Pokemon(path=path, split=HALVES).resolve()
    assert sum(dataset.spec().sizes.values()) == 32


# What the user's folder holds, what is said, and fields.
REFUSED = {
    "nothing": ({"readme.txt": b""}, r"holds no sprites laid out as <game>/<national dex number>\.png"),
    "one folder too high": (games(names=("all/old",)), r"holds no sprites .* what is there is all/old/1\.png"),
    "without games": ({"1.png": png(), "2.png": png()}, r"holds no sprites .* what is there is 1\.png, 2\.png"),
    "names instead of numbers": ({"old/mew.png": png()}, r"holds no sprites .* what is there is old/mew\.png"),
    "unknown game": (games(), "dataset.games: there is no 'red' in .*; its games are new, old", {"games": ("red",)}),
    "a species without a type": (
        {**games(), "old/650.png": png()},
        r"the types of species 650 are not known \(old/650\.png\): the table is of 1 to 649",
    ),
    "number 0": ({**games(), "new/0.png": png()}, "the types of species 0 are not known"),
    "too few species": (games(numbers=[4]), "whose species are the rows: 1 rows are too few"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_said(case, tmp_path):
    files, message, *fields = REFUSED[case]
    with pytest.raises(RequestError, match=message):
        Pokemon(path=lay(tmp_path, files), split=HALVES, **(fields[0] if fields else {})).resolve()


def test_paths_that_are_wrong(tmp_path):
    with pytest.raises(RequestError, match=r"dataset\.path: give a folder or a zip with your sprites.*docs/data\.md"):
        Pokemon().resolve()
    with pytest.raises(RequestError, match=r"dataset\.path: .*/nowhere does not exist"):
        Pokemon(path=str(tmp_path / "nowhere")).resolve()
    (tmp_path / "text.zip").write_text("a text")
    with pytest.raises(RequestError, match=r"text\.zip is neither a folder nor a sound zip"):
        Pokemon(path=str(tmp_path / "text.zip")).resolve()


DAMAGED = {
    "cut off": (png()[:60], r"old/3\.png cannot be read as an image: .*; replace or remove it"),
    "empty": (b"", r"old/3\.png cannot be read as an image: the file is empty"),
    "a text": (b"a text", r"old/3\.png cannot be read as an image: it is no PNG"),
    "nothing but ground": (png(Image.new("RGB", (9, 9), "white")), r"old/3\.png: there is no sprite in it"),
    "all transparent": (png(Image.new("RGBA", (9, 9), "#00ff0000")), r"old/3\.png: there is no sprite in it"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_sprite_is_named(case, packed, tmp_path):
    content, message = DAMAGED[case]
    files = {**games(), "old/3.png": content}
    path = archive(tmp_path / "sprites.zip", files) if packed else lay(tmp_path, files)
    with pytest.raises(RunError, match=message):
        Pokemon(path=path, split=HALVES).resolve().load()


def test_damage_of_the_archive_is_named(tmp_path):
    path = tmp_path / "sprites.zip"
    archive(path, games())
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        at = file.getinfo("old/3.png").header_offset + 60
    content[at : at + 8] = b"\xff" * 8
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"sprites\.zip/old/3\.png cannot be unpacked"):
        Pokemon(path=str(path), split=HALVES).resolve().load()


def test_sprites_that_have_changed_are_noticed(tmp_path):
    path = lay(tmp_path, games())
    dataset = Pokemon(path=path, split=HALVES).resolve()
    lay(tmp_path, {"old/1.png": png(drawn(colour="blue", size=(80, 80)))})
    with pytest.raises(RunError, match="has changed since the run began"):
        dataset.load()
    (tmp_path / "moved").mkdir()
    for name in ("old", "new"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    with pytest.raises(RunError, match="the sprites of this run are no longer there"):
        dataset.load()


def test_new_sprites_are_prepared_alike(folder, tmp_path):
    dataset = Pokemon(path=folder, split=HALVES).resolve()
    lay(tmp_path, {"a.png": png(drawn(ground="blue", size=(90, 60))), "b.png": png()})
    names, images = dataset.read_inputs(str(tmp_path))
    assert names == ["a.png", "b.png"] and images.shape == (2, 64, 64, 3)
    np.testing.assert_array_equal(images[0], images[1])
    lay(tmp_path, {"c.png": b"a text"})
    with pytest.raises(RequestError, match=r"c\.png cannot be read as an image"):
        dataset.read_inputs(str(tmp_path))
