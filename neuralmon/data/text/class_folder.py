"""Texts in files: one folder per class."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.tables.csv_text import read_text
from neuralmon.data.text.labelled import LabelledText, Source
from neuralmon.errors import RequestError

_SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextClassFolder(LabelledText):
    """Text files in one folder per class: `path/<class>/text.txt`, which `split` cuts; or as published splits.

    Published splits are `path/train/<class>/text.txt` and likewise `validation` and `test`. They are kept as they are;
    if there is no validation folder, `split` cuts the validation share off the training texts, and the test share too
    if there is no test folder either. Files in folders within a class belong to it.

    Attributes:
      path: the folder; `~` is the home folder.
      ignore: folders of classes that are left out, such as texts without a class.
      split: how texts that are not in published splits are cut.
    """

    path: str
    ignore: tuple[str, ...] = ()
    split: Split = dataclasses.field(default_factory=RandomSplit)

    def source(self) -> Source:
        """See `LabelledText.source`."""
        root = Path(self.path).expanduser()
        if not root.is_dir():
            what = "is a file" if root.exists() else "does not exist"
            raise RequestError(f"dataset.path: {root} {what}; give a folder with one folder per class")
        published = (
            {name: root / name for name in _SPLITS if (root / name).is_dir()} if (root / "train").is_dir() else {}
        )
        folders = published or {"train": root}
        classes = _folders(folders["train"], self.ignore)
        if len(classes) < 2:
            found = f"one class only, {classes[0]}" if classes else "no folders of classes"
            raise RequestError(f"{folders['train']} has {found}: it takes two")
        files: dict[str, list[Path]] = {}
        labels: dict[str, np.ndarray] = {}
        for split, folder in folders.items():
            if unknown := [name for name in _folders(folder, self.ignore) if name not in classes]:
                known = ", ".join(classes)
                raise RequestError(f"{folder}: the class {unknown[0]} is not one of training, which are {known}")
            listed = [sorted(file for file in (folder / name).rglob("*.txt") if file.is_file()) for name in classes]
            if split == "train" and (empty := [name for name, some in zip(classes, listed, strict=True) if not some]):
                raise RequestError(f"{folder / empty[0]} holds no .txt files: add some, or give dataset.ignore")
            files[split] = [file for some in listed for file in some]
            labels[split] = np.repeat(np.arange(len(classes), dtype=np.int32), [len(some) for some in listed])
        if "validation" not in files:
            try:
                rows = self.split.rows(len(files["train"]), test="test" not in files)
            except RequestError as error:
                raise RequestError(f"{root}: {error}") from None
            train, targets = files["train"], labels["train"]
            files |= {name: [train[row] for row in part] for name, part in rows.items()}
            labels |= {name: targets[part] for name, part in rows.items()}
        digest, texts = hashlib.sha256(), dict[str, list[str]]()
        for split, paths in files.items():
            read = [read_text(str(file)) for file in paths]
            for file, (_, sha256) in zip(paths, read, strict=True):
                digest.update(f"{split} {file.relative_to(root)} {sha256}\n".encode())
            texts[split] = [text for text, _ in read]
        order = [name for name in _SPLITS if name in files]
        return Source(
            texts={name: texts[name] for name in order},
            targets={name: labels[name] for name in order},
            class_names=tuple(classes),
            names={name: [str(file) for file in files[name]] for name in order},
            fingerprint=digest.hexdigest(),
        )


def _folders(folder: Path, ignore: tuple[str, ...]) -> list[str]:
    """Returns the names of the folders in a folder, sorted, without hidden ones and those that are left out."""
    names = (entry.name for entry in folder.iterdir() if entry.is_dir())
    return sorted(name for name in names if not name.startswith(".") and name not in ignore)
