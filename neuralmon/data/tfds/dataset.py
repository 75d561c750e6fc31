"""Data sets of tensorflow-datasets, read without TensorFlow."""

import dataclasses
import hashlib
import json
from typing import Annotated, Any, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.data.dataset import Rows, whole
from neuralmon.data.images.files import read_images
from neuralmon.data.labelled import Facts, LabelledDataset
from neuralmon.data.splits import ChronologicalSplit, Split
from neuralmon.data.tfds.records import Feature, FeatureColumn, builder_for, describe
from neuralmon.errors import RequestError, RunError
from neuralmon.fields import PositiveInt, Range

# Of larger data, the numbers that only reading finds out are estimated from some examples, or left out if not needed.
_QUICK_BYTES = 2**28
_SAMPLE, _TARGET_SAMPLE = 1_000, 100_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tfds(LabelledDataset):
    """A data set of tensorflow-datasets: `Tfds("cifar10")`; needs `pip install 'neuralmon[tfds]'`.

    It is read with random access, from the array_record format, and never with TensorFlow. mnist, fashion_mnist,
    cifar10 and cifar100 are downloaded and prepared if they are not there; for any other one the error says how that is
    done. Their published files are kept in `<data_dir>/downloads/<name>`, and taken if they were put there by hand. Of
    the splits, train, validation and test are used. One whose first example has the class -1, such as the test
    split of imagenet2012, has no targets and is left out.

    Source: https://www.tensorflow.org/datasets

    Attributes:
      name: as tensorflow-datasets spells it: cifar10, imagenet_resized/32x32, my_dataset/config:1.0.0.
      data_dir: the folder with all its data sets; None: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
      inputs: the feature that is put into the model; None: the first of the data set's supervised keys, or image.
      targets: the feature that is to be predicted, a class or numbers; None: the second supervised key, or label.
      split: how training examples are cut if there is no validation split: the validation share is taken off them, and
        the test share too if there is no test split. By default these are the last ones, which are a random draw, since
        tensorflow-datasets shuffles when it prepares.
      size: (height, width) to which images are scaled; one number for both; None: all have one size already.
      mean: of the inputs, for each channel or number, bytes taken as 0 to 1: it is subtracted; None: that of 1,000
        training examples.
      stddev: by which inputs are divided then; None: that of 1,000 training examples.
    """

    name: str = dataclasses.field(kw_only=False)
    data_dir: str | None = None
    inputs: str | None = None
    targets: str | None = None
    split: Split = dataclasses.field(default_factory=ChronologicalSplit)
    size: tuple[PositiveInt, PositiveInt] | PositiveInt | None = None
    mean: tuple[float, ...] | None = None
    stddev: tuple[Annotated[float, Range(0, above=True)], ...] | None = None

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        builder = builder_for(self.name, self.data_dir)
        columns = self._columns(builder)
        inputs, targets = columns["train"]["inputs"], columns["train"]["targets"]
        for split in columns.values():
            for column in split.values():
                column[np.zeros(1, np.int64)]  # what cannot be read is told now
        counts: tuple[int, ...] = ()
        mean = stddev = np.zeros(0)
        if not (class_names := _class_names(builder, targets)):
            sample = _some(targets, _TARGET_SAMPLE).astype(np.float64).reshape(-1, int(np.prod(targets.shape[1:])))
            mean, stddev = sample.mean(0), sample.std(0)
        elif self._counts_wanted() or builder.info.splits["train"].num_bytes <= _QUICK_BYTES:
            labels = whole(targets)
            if labels.min() < 0 or labels.max() >= len(class_names):
                raise RequestError(f"dataset: some training examples of {builder.info.full_name} are of no class (-1)")
            counts = tuple(np.bincount(labels, minlength=len(class_names)).tolist())
        return Facts(
            sizes={name: split["inputs"].shape[0] for name, split in columns.items()},
            shape=inputs.shape[1:],
            dtype=str(inputs.dtype),
            target_shape=targets.shape[1:],
            target_dtype=str(targets.dtype),
            class_names=class_names,
            class_counts=counts,
            target_mean=tuple(mean.tolist()),
            target_stddev=tuple(np.where(stddev > 0, stddev, 1.0).tolist()),
            fingerprint=_fingerprint(builder, targets),
        )

    def read(self) -> dict[str, dict[str, Any]]:
        """See `LabelledDataset.read`."""
        builder = builder_for(self.name, self.data_dir)
        columns = self._columns(builder)
        if self.facts and self.facts.fingerprint != _fingerprint(builder, columns["train"]["targets"]):
            raise RunError(f"{builder.data_path} has changed since the run began; restore it, or start a new run")
        return columns

    def resolve(self) -> "Tfds":
        """See `Dataset`: beside the facts, mean and standard deviation of the inputs are filled in."""
        resolved = cast(Tfds, super().resolve())
        if self.mean is None or self.stddev is None:
            sample = _some(resolved.read()["train"]["inputs"], _SAMPLE)
            scaled = sample.astype(np.float64) / (255.0 if sample.dtype == np.uint8 else 1.0)
            mean, stddev = scaled.mean(axes := tuple(range(sample.ndim - 1))), scaled.std(axes)
            # More digits than a sample of this size knows would only make the record of a run hard to read.
            filled = {
                name: tuple(float(f"{value:.5g}") for value in values.tolist())
                for name, values in {"mean": mean, "stddev": np.where(stddev > 0, stddev, 1.0)}.items()
            }
            missing = {name: value for name, value in filled.items() if getattr(self, name) is None}
            resolved = dataclasses.replace(resolved, **cast(Any, missing))
        channels = resolved._facts().shape[-1]
        for name in ("mean", "stddev"):
            values = getattr(resolved, name)
            if len(values) not in (1, channels) or (name == "stddev" and min(values) <= 0):
                above = ", or one is not above 0" if name == "stddev" else ""
                raise RequestError(f"dataset.{name}: {values} is not one number or {channels}, one a channel{above}")
        return resolved

    def normalize(self, inputs: Array) -> Array:
        """Returns inputs with the training examples' mean 0 and variance 1, for each channel or number."""
        if self.mean is None or self.stddev is None:
            return self.resolve().normalize(inputs)
        return (inputs - jnp.asarray(self.mean, jnp.float32)) / jnp.asarray(self.stddev, jnp.float32)

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns (names, images as stored) of an image, a folder of images or a .npy file (see `read_images`)."""
        if len(shape := self._facts().shape) != 3:
            raise RequestError(f"only images are read from files, and the inputs of {self.name} are numbers")
        return read_images(path, shape)

    def _counts_wanted(self) -> bool:
        return self.balanced_sampling or self.class_weights is not None

    def _columns(self, builder: Any) -> dict[str, dict[str, Any]]:
        """Returns the columns of every split that has targets, training examples cut as `split` says."""
        info = builder.info
        keys = info.supervised_keys or ("image", "label")
        size = (self.size, self.size) if isinstance(self.size, int) else self.size
        inputs = Feature.of(info, self.inputs or keys[0], "inputs", size)
        targets = Feature.of(info, self.targets or keys[1], "targets", None)
        splits: dict[str, dict[str, Any]] = {
            name: {
                "inputs": FeatureColumn(str(builder.data_path), name, info.splits[name].num_examples, inputs),
                "targets": FeatureColumn(str(builder.data_path), name, info.splits[name].num_examples, targets),
            }
            for name in ("train", "validation", "test")
            if name in info.splits and info.splits[name].num_examples
        }
        if targets.dtype == "int32":
            splits = {name: split for name, split in splits.items() if split["targets"][np.zeros(1, np.int64)][0] >= 0}
        if "train" not in splits:
            raise RequestError(f"dataset: {info.full_name} has no split train with targets: {describe(info)}")
        if "validation" not in splits:
            train = splits["train"]
            rows = self.split.rows(train["inputs"].shape[0], test="test" not in splits)
            parts = {name: {key: Rows(x, part) for key, x in train.items()} for name, part in rows.items()}
            splits = {**splits, **parts}
        return {name: splits[name] for name in ("train", "validation", "test") if name in splits}


def _some(column: Any, count: int) -> np.ndarray:
    """Returns examples spread evenly over a column, all of a short one."""
    size = column.shape[0]
    return np.asarray(column[np.arange(size) if size <= count else np.linspace(0, size - 1, count).astype(np.int64)])


def _class_names(builder: Any, targets: Any) -> tuple[str, ...]:
    column = targets.column if isinstance(targets, Rows) else targets
    feature = builder.info.features[column.feature.key]
    return tuple(feature.names) if column.feature.dtype == "int32" else ()


def _fingerprint(builder: Any, targets: Any) -> str:
    """Hashes what is the same wherever a version was prepared: not the bytes, since images are encoded in many ways."""
    info = builder.info
    sizes = {name: split.num_examples for name, split in info.splits.items()}
    content = [info.full_name, sizes, info.features.to_json(), _some(targets, 256).tolist()]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
