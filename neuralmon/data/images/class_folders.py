"""Finding the images of folders that are laid out by class, published splits or not."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neuralmon.data.images.decoding import SUFFIXES, printable
from neuralmon.data.images.files import Found, find_images, is_hidden
from neuralmon.errors import RequestError

# What folders of published splits are called.
_SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "val", "valid"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


class ClassFolders:
    """What lies in an image folder.

    Attributes:
      folder: its path.
      files: for "train", which is everything where splits are not published, and for each other published split: the
        images, sorted paths relative to `folder`.
      classes: names of the classes of the training images.
      left_out: what was passed over, if it was more than hidden files; else "".

    Raises:
      RequestError: that is no image folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder, self.where = folder, printable(folder)
        self._prefixes = _split_folders(folder)
        found = {split: find_images(f"{folder}/{prefix}") for split, prefix in self._prefixes.items()}
        if not found["train"].files:
            kinds, beside = ", ".join(SUFFIXES), found["train"].left_out()
            raise RequestError(f"{self._at('train')} holds no images ({kinds}){beside}")
        self.files = {
            split: [f"{self._prefixes[split]}{name}" for name, _ in images.files] for split, images in found.items()
        }
        self.classes, self._numbers = self._find_classes()
        ignored = sum((images.ignored for images in found.values()), Counter())
        self.left_out = Found([], ignored).left_out() if set(ignored) - {"hidden"} else ""
        sizes = np.array([size for images in found.values() for _, size in images.files], np.int64)
        names = "\0".join(name for files in self.files.values() for name in files)
        self.fingerprint = hashlib.sha256(os.fsencode(names) + sizes.astype("<i8").tobytes()).hexdigest()

    def path(self, name: str) -> str:
        """Returns the path of a file."""
        return f"{self.folder}/{name}"

    def labels(self, files: Sequence[str]) -> np.ndarray:
        """Returns the class numbers of files, int32."""
        depth = 1 if self._prefixes["train"] else 0
        return np.fromiter((self._numbers[file.split("/", depth + 1)[depth]] for file in files), np.int32, len(files))

    def _at(self, split: str) -> str:
        return printable(f"{self.folder}/{self._prefixes[split]}".rstrip("/"))

    def _find_classes(self) -> tuple[tuple[str, ...], dict[str, int]]:
        """Returns the classes' names, and their numbers by folder, after a check of all splits."""
        folders: list[str] = []
        for split, prefix in self._prefixes.items():
            where = self._at(split)
            within, stray = _content(f"{self.folder}/{prefix}")
            if stray:
                advice = "put each into the folder of its class (images without a class are for predictions)"
                raise RequestError(f"{where} holds {stray:,} images outside the folders of classes: {advice}")
            occurring = {name[len(prefix) :].partition("/")[0] for name in self.files[split]}
            if split == "train":
                folders = within
                if empty := [printable(name) for name in folders if name not in occurring]:
                    raise RequestError(f"{where}: the class {_some(empty)} has no images; add some or remove it")
                if len(folders) < 2:
                    inner = len(_content(f"{self.folder}/{prefix}{folders[0]}")[0]) > 1
                    hint = f"; did you mean {where}/{printable(folders[0])}?" if inner else ""
                    raise RequestError(f"{where} has one class only, {printable(folders[0])}: it takes two{hint}")
            elif not occurring:
                raise RequestError(f"{where} holds no images: add some or remove it")
            elif unknown := [printable(name) for name in sorted(occurring) if name not in folders]:
                known = _some([printable(name) for name in folders])
                raise RequestError(f"{where}: the class {_some(unknown)} is not one of training, which are {known}")
        return tuple(map(printable, folders)), {name: number for number, name in enumerate(folders)}


def _split_folders(folder: str) -> dict[str, str]:
    """Returns the folder of each published split as "name/"; {"train": ""} where folders are classes."""
    if not Path(folder).is_dir():
        what = "is a file" if Path(folder).exists() else "does not exist"
        raise RequestError(f"dataset.path: {printable(folder)} {what}; give a folder with one folder per class")
    where, (folders, stray) = printable(folder), _content(folder)
    named = [name for name in folders if name.casefold() in _SPLIT_NAMES]
    others = [name for name in folders if name not in named]
    # Beside "car", a folder "train" with images is the class of trains.
    nested = [name for name in named if not _content(f"{folder}/{name}")[1]]
    if not named or (others and not nested):
        return {"train": ""}
    if classes := [printable(name) for name in others if find_images(f"{folder}/{name}").files]:
        what = f"folders of splits ({_some(named)}) and others ({_some(classes)})"
        raise RequestError(f"{where} has {what}: remove either, or put the others into a split")
    if stray:
        raise RequestError(f"{where} holds {stray:,} images beside the folders of splits ({_some(named)}): move them")
    splits: dict[str, str] = {}
    for name in named:
        split = _SPLIT_NAMES[name.casefold()]
        if split in splits:
            raise RequestError(f"{where}: both {splits[split]} and {name}/ are the {split} split; remove one")
        splits[split] = f"{name}/"
    if "train" not in splits:
        raise RequestError(f"{where} has {_some(named)} but no train folder")
    return {name: splits[name] for name in ("train", "validation", "test") if name in splits}


def _content(folder: str) -> tuple[list[str], int]:
    """Returns the folders in a folder, sorted, and how many images lie beside them; nothing that is hidden."""
    folders, images = [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                else:
                    images += entry.name.lower().endswith(SUFFIXES)
    except OSError as error:
        raise RequestError(f"{printable(folder)} cannot be read: {error.strerror}") from None
    return sorted(folders), images


def _some(names: Sequence[str], count: int = 8) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more
