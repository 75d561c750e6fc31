"""Which types the species of Pokémon have: the table that comes with the package."""

import functools
from collections.abc import Mapping
from importlib import resources

# In the order of the games' own numbers; fairy came last.
TYPES = (
    "normal", "fighting", "flying", "poison", "ground", "rock", "bug", "ghost", "steel",
    "fire", "water", "grass", "electric", "psychic", "ice", "dragon", "dark", "fairy",
)  # fmt: skip


@functools.cache
def types_of_species() -> Mapping[int, tuple[int, ...]]:
    """Returns the numbers of the types, one or two, the primary one first, of each national number from 1 to 649.

    They are the types that these species have since generation VI, the first with fairy among them: so the primary type
    of Clefairy is fairy, although the older games' sprites show one of type normal.
    """
    text = (resources.files("neuralmon.data") / "embedded" / "pokemon_types.txt").read_text(encoding="utf-8")
    table = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        species, *names = line.split()
        first, _, last = species.partition("-")
        for number in range(int(first), int(last or first) + 1):
            table[number] = tuple(TYPES.index(name) for name in names)
    return table
