"""Sprites of Pokémon and their types."""

import dataclasses
import functools
import warnings
from typing import Literal

import numpy as np

from neuralmon.data.images.files import read_images
from neuralmon.data.images.pokemon_types import TYPES, types_of_species
from neuralmon.data.images.sprite_files import Sprite, SpriteFiles
from neuralmon.data.images.sprites import Colour, read_sprite
from neuralmon.data.labelled import Facts, LabelledDataset
from neuralmon.data.splits import RandomSplit, Split
from neuralmon.errors import RequestError, RunError

_SIZE = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pokemon(LabelledDataset):
    """Which type a Pokémon has, by its sprites in the games: (64, 64, 3) uint8; 18 classes.

    The sprites are the user's own: a folder or a zip with `<game>/<national dex number>.png`; docs/data.md says where
    there are some. Each is found on its background, which is what is transparent or else has the border's colour, and
    its bounding box, made square, fills the picture; the background is 0. Types are those since generation VI.

    What is split is the species, so that none is in training in one game and in the test in another. All seeds of
    training share the split; without a validation share the test species stay the same.

    Source: H. M. Soares, "Who is that Neural Network?", Journal of Geek Studies 4(1): 24-38, 2017.

    Attributes:
      path: the folder or the zip.
      colour: the channels: "hsv", hue, saturation and value as published, or "rgb".
      targets: "primary": the first of a species' types, one of 18 classes; "both": one or two labels, for `MultiLabel`.
      games: folders whose sprites are taken; None: all.
      split: how the species, not the sprites, are cut.
    """

    path: str | None = None
    colour: Colour = "hsv"
    targets: Literal["primary", "both"] = "primary"
    games: tuple[str, ...] | None = None
    split: Split = dataclasses.field(default_factory=lambda: RandomSplit(validation=0.1, test=0.3))

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        files = self._find()
        if files.left_out:
            warnings.warn(
                f"{files.path}: not all images are sprites of a species; left out: {files.left_out}", stacklevel=2
            )
        splits = self._cut(files)
        counts = np.bincount([_types(sprite)[0] for sprite in splits["train"]], minlength=len(TYPES))
        primary = self.targets == "primary"
        return Facts(
            sizes={name: len(sprites) for name, sprites in splits.items()},
            shape=(_SIZE, _SIZE, 3),
            target_shape=() if primary else (len(TYPES),),
            class_names=TYPES,
            class_counts=tuple(counts.tolist()) if primary else (),
            fingerprint=files.fingerprint,
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`; RunError if a sprite is damaged, or they are not those of the facts."""
        try:
            files = self._find()
        except RequestError as error:
            raise RunError(f"the sprites of this run are no longer there: {error}") from error
        if files.fingerprint != self._facts().fingerprint:
            raise RunError(f"{files.path} has changed since the run began: restore it, or start a new run")
        splits = {}
        for name, sprites in self._cut(files).items():
            images = [read_sprite(path, _SIZE, self.colour, content) for path, content in files.contents(sprites)]
            splits[name] = {"inputs": np.stack(images), "targets": self._targets(sprites)}
        return splits

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns (names, prepared sprites) of an image, a folder of images or a .npy file of prepared ones."""
        decode = functools.partial(read_sprite, size=_SIZE, colour=self.colour)
        return read_images(path, (_SIZE, _SIZE, 3), decode=decode)

    def _find(self) -> SpriteFiles:
        if not self.path:
            raise RequestError(
                "dataset.path: give a folder or a zip with your sprites, <game>/<national dex number>.png; they do not "
                "come with neuralmon, and docs/data.md (Pokémon) says where there are some"
            )
        return SpriteFiles.find(self.path, self.games)

    def _cut(self, files: SpriteFiles) -> dict[str, list[Sprite]]:
        """Returns the sprites of each split."""
        species = np.unique([sprite.species for sprite in files.sprites])
        try:
            rows = self.split.rows(len(species))
        except RequestError as error:
            raise RequestError(f"{files.path}, whose species are the rows: {error}") from error
        parts = {name: set(species[numbers].tolist()) for name, numbers in rows.items()}
        return {name: [one for one in files.sprites if one.species in part] for name, part in parts.items()}

    def _targets(self, sprites: list[Sprite]) -> np.ndarray:
        """Returns the primary type's number of each sprite, or 1 at each of its types; int32."""
        if self.targets == "primary":
            return np.array([_types(sprite)[0] for sprite in sprites], np.int32)
        labels = np.zeros((len(sprites), len(TYPES)), np.int32)
        for row, sprite in zip(labels, sprites, strict=True):
            row[list(_types(sprite))] = 1
        return labels


def _types(sprite: Sprite) -> tuple[int, ...]:
    return types_of_species()[sprite.species]
