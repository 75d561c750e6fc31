"""Your own images: one folder per class."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.data.images.class_folders import ClassFolders
from neuralmon.data.images.decoding import Resize, native_channels, native_size
from neuralmon.data.images.files import ImageFiles, Paths, expanded, read_images
from neuralmon.data.labelled import Facts, LabelledDataset
from neuralmon.data.splits import RandomSplit, Split
from neuralmon.errors import RequestError, RunError
from neuralmon.fields import PositiveInt, Range

_CHANNELS = {"grey": 1, "rgb": 3, "rgba": 4}
# Headers that are read to find out what channels there are, beside the first one of each class.
_SAMPLE = 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageFolder(LabelledDataset):
    """PNG, JPEG, GIF, BMP or WebP images of any size, grey or in colour, in one folder per class.

    The folder is laid out as `path/<class>/image.png`, and `split` cuts it; or as published splits,
    `path/train/<class>/image.png` and likewise `validation` (or `val`, `valid`) and `test`. Published splits are kept
    as they are; if there is no validation folder, `split` cuts the validation share off the training images, and the
    test share too if there is no test folder either. Folders within a class belong to it. Links are followed; hidden
    files are left out, and files of another kind too, with a warning.

    Images are decoded when they are needed, as `neuralmon.data.images.decoding` says: turned as their EXIF data asks,
    transparent ones laid on white unless `channels` is rgba. Only the headers of a sample are looked at beforehand.

    Attributes:
      path: the folder; `~` is the home folder.
      size: (height, width) of the images as the model sees them; one number for both; None: those of the first
        training image in the order of names.
      resize: what becomes of images of another aspect ratio: "stretch" scales their sides apart, "crop" cuts the
        middle out, "pad" shows all of the image between black borders.
      channels: "grey" (1), "rgb" (3) or "rgba" (4), to which all images are converted; "auto": the most that any image
        of a sample needs, so that grey images among colour ones become rgb, and a transparent one makes all rgba.
      mean: what is subtracted from values of 0 to 1: one number, or one for each channel.
      stddev: what they are divided by afterwards: one number, or one for each channel.
      split: how images that are not in published splits are cut.
    """

    path: str
    size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    resize: Resize = "stretch"
    channels: Literal["auto", "grey", "rgb", "rgba"] = "auto"
    mean: tuple[float, ...] = (0.5,)
    stddev: tuple[Annotated[float, Range(0, above=True)], ...] = (0.25,)
    split: Split = dataclasses.field(default_factory=RandomSplit)

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        parts = ClassFolders(str(expanded(self.path)))
        splits = self._cut(parts)
        counts = np.bincount(parts.labels(splits["train"]), minlength=len(parts.classes))
        if counts.min() < 1:
            name = parts.classes[int(counts.argmin())]
            advice = "add some, or change dataset.split or its seed"
            raise RequestError(f"all images of class {name} fell to the validation or test split: {advice}")
        if parts.left_out:
            warnings.warn(f"{parts.where}: not all files are images{parts.left_out}", stacklevel=2)
        try:
            height, width = self._size(parts)
            channels = self._channels(parts)
        except RunError as error:
            raise RequestError(str(error)) from error
        for field, values in (("mean", self.mean), ("stddev", self.stddev)):
            if len(values) not in (1, channels) or (field == "stddev" and min(values) <= 0):
                above = ", or one is not above 0" if field == "stddev" else ""
                raise RequestError(f"dataset.{field}: {values} is not one number or {channels}, one a channel{above}")
        return Facts(
            sizes={name: len(files) for name, files in splits.items()},
            shape=(height, width, channels),
            class_names=parts.classes,
            class_counts=tuple(counts.tolist()),
            fingerprint=parts.fingerprint,
        )

    def read(self) -> Mapping[str, Mapping[str, Any]]:
        """See `LabelledDataset.read`; RunError if the files are not those that the facts were found in."""
        facts = self._facts()
        try:
            parts = ClassFolders(str(expanded(self.path)))
            splits = self._cut(parts)
        except RequestError as error:
            raise RunError(f"the images of this run are no longer there: {error}") from error
        sizes = {name: len(files) for name, files in splits.items()}
        if parts.fingerprint != facts.fingerprint or sizes != dict(facts.sizes):
            changes = [
                f"{name} had {facts.sizes.get(name, 0):,} images and has {sizes.get(name, 0):,}"
                for name in dict.fromkeys((*facts.sizes, *sizes))
                if facts.sizes.get(name) != sizes.get(name)
            ]
            what = ", ".join(changes) or "as many images as before, but some of another name or size in bytes"
            raise RunError(f"{parts.where} has changed since the run began: {what}; restore it, or start a new run")
        height, width, channels = facts.shape
        return {
            name: {
                "inputs": ImageFiles(Paths.of(parts.folder, files), (height, width, channels), self.resize),
                "targets": parts.labels(files),
            }
            for name, files in splits.items()
        }

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns (names, images as stored) of an image, a folder of images or a .npy file (see `read_images`)."""
        return read_images(path, self._facts().shape, self.resize)

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs less `mean`, divided by `stddev`."""
        return (inputs - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.stddev, jnp.float32)

    def _cut(self, parts: ClassFolders) -> dict[str, list[str]]:
        """Returns the files of each split."""
        if "validation" in parts.files:
            return parts.files
        train = parts.files["train"]
        try:
            rows = self.split.rows(len(train), test="test" not in parts.files)
        except RequestError as error:
            raise RequestError(f"{parts.where}: {error}") from error
        cut = {name: [train[row] for row in numbers] for name, numbers in rows.items()}
        return {**cut, **{name: files for name, files in parts.files.items() if name not in cut}}

    def _size(self, parts: ClassFolders) -> tuple[int, int]:
        first = native_size(parts.path(parts.files["train"][0]))
        if self.size is None:
            return first
        return self.size if isinstance(self.size, tuple) else (self.size, self.size)

    def _channels(self, parts: ClassFolders) -> int:
        train = parts.files["train"]
        files = [file for split in parts.files.values() for file in split]
        firsts = np.unique(parts.labels(train), return_index=True)[1]
        sample = {train[row] for row in firsts} | set(files[:: -(-len(files) // _SAMPLE)])
        needed = max(native_channels(parts.path(file)) for file in sorted(sample))
        return _CHANNELS.get(self.channels, needed)
