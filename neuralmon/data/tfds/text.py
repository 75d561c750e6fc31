"""Texts of tensorflow-datasets, read without TensorFlow."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from neuralmon.data.splits import ChronologicalSplit, Split
from neuralmon.data.text.labelled import LabelledText, Source
from neuralmon.data.tfds.records import builder_for, describe, raw_records
from neuralmon.errors import RequestError, RunError


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsText(LabelledText):
    """Texts with classes of tensorflow-datasets: `TfdsText("imdb_reviews")`; needs `pip install 'neuralmon[tfds]'`.

    It has to be prepared, which takes TensorFlow once; the error says how. All texts are read into memory. Of the
    splits, train, validation and test are used.

    Source: https://www.tensorflow.org/datasets

    Attributes:
      name: as tensorflow-datasets spells it: imdb_reviews, ag_news_subset, my_dataset/config:1.0.0.
      data_dir: the folder with all its data sets; None: $TFDS_DATA_DIR, or ~/tensorflow_datasets.
      text: the feature that holds the text; None: the first of the data set's supervised keys, or text.
      target: the feature that is the class; None: the second supervised key, or label.
      split: how training texts are cut if there is no validation split: the validation share is taken off them, and
        the test share too if there is no test split; by default the last ones, of an order that was drawn at random
        when the data set was prepared.
    """

    name: str = dataclasses.field(kw_only=False)
    data_dir: str | None = None
    text: str | None = None
    target: str | None = None
    split: Split = dataclasses.field(default_factory=ChronologicalSplit)

    def source(self) -> Source:
        """See `LabelledText.source`."""
        import tensorflow_datasets as tfds

        builder = builder_for(self.name, self.data_dir)
        info = builder.info
        keys = info.supervised_keys or ("text", "label")
        text, target = self.text or keys[0], self.target or keys[1]
        for role, key, kind in (("text", text, tfds.features.Text), ("target", target, tfds.features.ClassLabel)):
            if not isinstance(key, str) or not (key in info.features and isinstance(info.features[key], kind)):
                what = f"{info.full_name}: {key!r} is no feature of the kind {kind.__name__}"
                raise RequestError(f"dataset.{role}: {what}; {describe(info)}")
        names = [
            name for name in ("train", "validation", "test") if name in info.splits and info.splits[name].num_examples
        ]
        if "train" not in names:
            raise RequestError(f"dataset: {info.full_name} has no split train; {describe(info)}")
        texts, targets, where = dict[str, list[str]](), dict[str, np.ndarray](), dict[str, list[str]]()
        for name in names:
            rows = [_read(record, text, target) for record in raw_records(str(builder.data_path), name)]
            texts[name] = [row[0] for row in rows]
            targets[name] = np.array([row[1] for row in rows], np.int32)
            where[name] = [f"{info.full_name}, {name}, example {row + 1}" for row in range(len(rows))]
        if (targets["train"] < 0).any():
            raise RequestError(f"dataset: some training examples of {info.full_name} are of no class (-1)")
        if "validation" not in names:
            own = texts["train"], targets["train"], where["train"]
            for name, part in self.split.rows(len(own[0]), test="test" not in names).items():
                texts[name], targets[name] = [own[0][row] for row in part], own[1][part]
                where[name] = [own[2][row] for row in part]
        order = [name for name in ("train", "validation", "test") if name in texts]
        digest = hashlib.sha256()
        for name in order:
            digest.update("\0".join([name, *texts[name]]).encode() + targets[name].tobytes())
        return Source(
            texts={name: texts[name] for name in order},
            targets={name: targets[name] for name in order},
            class_names=tuple(info.features[target].names),
            names={name: where[name] for name in order},
            fingerprint=digest.hexdigest(),
        )


def _read(record: Any, text: str, target: str) -> tuple[str, int]:
    feature = record.features.feature
    try:
        return feature[text].bytes_list.value[0].decode("utf-8"), int(feature[target].int64_list.value[0])
    except (IndexError, UnicodeDecodeError) as error:
        raise RunError(f"a record cannot be read: {type(error).__name__}: {error}") from None
