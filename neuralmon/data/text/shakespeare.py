"""The plays of Shakespeare, shipped with the package."""

import lzma
from importlib import resources


def read() -> str:
    """Returns the 38 plays one after the other, by title: 5,000,582 characters, 83 different ones.

    A play is its title, acts and scenes with stage directions in [brackets], and speeches: `NAME:`, the lines, an empty
    line.

    Source: public domain (see `embedded/README.md`).
    """
    path = resources.files("neuralmon.data") / "embedded" / "shakespeare.txt.xz"
    return lzma.decompress(path.read_bytes()).decode()
