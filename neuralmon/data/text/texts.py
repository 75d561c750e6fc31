"""Texts that a language model learns from: the embedded plays, a file, a folder of files."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from neuralmon.data.text import shakespeare
from neuralmon.data.text.language_data import TextDataset
from neuralmon.data.text.reading import check_file, read_pieces
from neuralmon.data.text.vocabularies import pieces
from neuralmon.errors import RequestError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shakespeare(TextDataset):
    """The plays of Shakespeare, which are shipped with the package: 38 plays by title, 5,000,582 characters."""

    @property
    def source(self) -> str:
        """See `TextDataset.source`."""
        return "Shakespeare's plays"

    def documents(self) -> Iterator[Iterator[str]]:
        """See `TextDataset.documents`: all of them are one, in which each begins with its title."""
        yield pieces(shakespeare.read(), 2**20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFile(TextDataset):
    """Any text file in UTF-8: `TextFile(path="novel.txt")`. It may be larger than memory.

    Attributes:
      path: the file.
    """

    path: str

    @property
    def source(self) -> str:
        """See `TextDataset.source`."""
        return self.path

    def documents(self) -> Iterator[Iterator[str]]:
        """See `TextDataset.documents`: the file is one."""
        yield read_pieces(check_file(self.path, "dataset.path"), "dataset.path")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFolder(TextDataset):
    """All text files of a folder and the folders in it, in the order of their paths, a token "<end>" behind each.

    The files are packed: windows reach across their ends, and no place in a batch is empty.

    Attributes:
      path: the folder.
      pattern: what the files' names are like.
    """

    path: str
    pattern: str = "*.txt"

    @property
    def source(self) -> str:
        """See `TextDataset.source`."""
        return self.path

    @property
    def separated(self) -> bool:
        """See `TextDataset.separated`."""
        return True

    def documents(self) -> Iterator[Iterator[str]]:
        """See `TextDataset.documents`: each file is one."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            what = f"{folder} is a file: use TextFile(path=...)" if folder.exists() else f"there is no folder {folder}"
            raise RequestError(f"dataset.path: {what}")
        files = sorted(file for file in folder.rglob(self.pattern) if file.is_file())
        if not files:
            raise RequestError(f"dataset.path: {folder} has no files {self.pattern} (see dataset.pattern)")
        for file in files:
            yield read_pieces(check_file(str(file), "dataset.path"), "dataset.path")
