"""Finding the sprites of games in a folder or a zip: `<game>/<national dex number>.png`."""

import dataclasses
import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from neuralmon.data.images.decoding import printable
from neuralmon.data.images.files import expanded, find_images, is_hidden
from neuralmon.data.images.pokemon_types import types_of_species
from neuralmon.errors import RequestError, RunError

_LAYOUT = "<game>/<national dex number>.png, such as gen01_yellow/25.png"
_SPRITE = re.compile(r"([^/]+)/([0-9]+)\.png", re.IGNORECASE)
# From here on collections number the other forms of species, which have types of their own.
_FORMS = 10_001


@dataclasses.dataclass(frozen=True)
class Sprite:
    """One sprite.

    Attributes:
      name: path within the folder or the zip.
      game: where it is from.
      species: its national number.
      size: of the file, in bytes.
    """

    name: str
    game: str
    species: int
    size: int


@dataclasses.dataclass(frozen=True)
class SpriteFiles:
    """The sprites in a folder or a zip.

    Attributes:
      path: of the folder or the zip.
      sprites: of the games asked for, sorted by name.
      left_out: images that were passed over, because they have another place or name; "" if there are none.
      fingerprint: a hash over names and sizes in bytes.
    """

    path: Path
    sprites: tuple[Sprite, ...]
    left_out: str
    fingerprint: str

    @classmethod
    def find(cls, path: str, games: Sequence[str] | None) -> "SpriteFiles":
        """Looks what is there.

        Raises:
          RequestError: there is no such folder or zip, it is laid out in another way, a game is not in it, or a species
            has no known type.
        """
        source = expanded(path)
        where, listed = printable(str(source)), _listed(source)
        matches = [(_SPRITE.fullmatch(name), name, size) for name, size in listed]
        sprites = [Sprite(name, match[1], int(match[2]), size) for match, name, size in matches if match]
        sprites = [sprite for sprite in sprites if sprite.species < _FORMS]
        others = _some(sorted({name for name, _ in listed} - {sprite.name for sprite in sprites}))
        if not sprites:
            found = f"; what is there is {others}" if others else ""
            raise RequestError(f"{where} holds no sprites laid out as {_LAYOUT}{found}")
        known = sorted({sprite.game for sprite in sprites})
        if unknown := [game for game in games or () if game not in known]:
            there = ", ".join(map(printable, known))
            raise RequestError(f"dataset.games: there is no {unknown[0]!r} in {where}; its games are {there}")
        chosen = tuple(sprite for sprite in sprites if not games or sprite.game in games)
        table = types_of_species()
        if untyped := [sprite for sprite in chosen if sprite.species not in table]:
            raise RequestError(
                f"{where}: the types of species {untyped[0].species} are not known ({printable(untyped[0].name)}): "
                f"the table is of 1 to {max(table)}; remove its sprites, or choose other games by dataset.games"
            )
        names = "\0".join(f"{sprite.name}\0{sprite.size}" for sprite in chosen)
        return cls(source, chosen, others, hashlib.sha256(os.fsencode(names)).hexdigest())

    def contents(self, sprites: Sequence[Sprite]) -> Iterator[tuple[str, bytes]]:
        """Yields, of each sprite, what an error calls it and what its file holds; RunError if it cannot be read."""
        try:
            if self.path.is_dir():
                for sprite in sprites:
                    file = self.path / sprite.name
                    yield str(file), file.read_bytes()
            else:
                with zipfile.ZipFile(self.path) as archive:
                    for sprite in sprites:
                        yield f"{self.path}/{sprite.name}", _member(archive, sprite.name)
        except OSError as error:
            where = printable(str(error.filename or self.path))
            raise RunError(f"{where} cannot be read: {error.strerror or error}") from error


def _listed(source: Path) -> list[tuple[str, int]]:
    """Returns (name, size in bytes) of all images in a folder or a zip, sorted."""
    where = printable(str(source))
    if source.is_dir():
        return find_images(str(source)).files
    if not source.exists():
        raise RequestError(f"dataset.path: {where} does not exist; give a folder or a zip with {_LAYOUT}")
    try:
        with zipfile.ZipFile(source) as archive:
            return sorted(
                (info.filename, info.file_size)
                for info in archive.infolist()
                if info.filename.lower().endswith(".png")
                and not any(map(is_hidden, PurePosixPath(info.filename).parts))
            )
    except (zipfile.BadZipFile, OSError) as error:
        raise RequestError(f"dataset.path: {where} is neither a folder nor a sound zip: {error}") from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # RuntimeError: with a password
        raise RunError(f"{archive.filename}/{name} cannot be unpacked: {error}; replace or remove it") from error


def _some(names: Sequence[str], count: int = 3) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(map(printable, names[:count])) + more
