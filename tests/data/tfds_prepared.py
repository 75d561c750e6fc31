"""Prepares small data sets with a TensorFlow that cannot be imported: arguments FOLDER URL FILE=SIZE:SHA256 ...

Run as a program by test_tfds.py. What tensorflow-datasets reads by itself of what was prepared goes to FOLDER/read.npz.
"""

import importlib.machinery
import io
import sys
from pathlib import Path

import numpy as np


class Forbidden:
    """TensorFlow, which seems to be installed."""

    asked = 0

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name.partition(".")[0] == "tensorflow" else None

    def create_module(self, spec):
        Forbidden.asked += 1
        raise ImportError("TensorFlow is forbidden here")

    def exec_module(self, module):
        raise AssertionError


def build_my_dataset(folder):
    import tensorflow_datasets as tfds
    from PIL import Image

    features = tfds.features

    class MyDataset(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="config"),)

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=features.FeaturesDict(
                    {
                        "image": features.Image(shape=(None, None, 3)),
                        "depth": features.Image(shape=(4, 4, 1), dtype=np.uint16),
                        "label": features.ClassLabel(names=["cat", "dog"]),
                        "vector": features.Tensor(shape=(3,), dtype=np.float64),
                        "bytes": features.Tensor(shape=(2,), dtype=np.uint8),
                        "number": features.Scalar(dtype=np.int64),
                        "flag": features.Scalar(dtype=np.bool_),
                        "ragged": features.Sequence(features.Scalar(dtype=np.int64)),
                        "zipped": features.Tensor(shape=(2,), dtype=np.float32, encoding="zlib"),
                        "text": features.Text(),
                        "nested": {"number": features.Scalar(dtype=np.int64)},
                    }
                ),
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(24),
                "validation": self._generate_examples(6),
                "test": self._last(),
            }

        def _last(self):
            for index, example in self._generate_examples(3):
                yield index, {**example, "label": -1}

        def _generate_examples(self, count):
            for index in range(count):
                # A quarter of the images is grey, and all have another size.
                image = Image.new(
                    "L" if index % 4 == 0 else "RGB", (8 + index, 6), 10 * index if index % 4 == 0 else (9, 5, index)
                )
                file = io.BytesIO()
                image.save(file, "PNG")
                yield (
                    index,
                    {
                        "image": io.BytesIO(file.getvalue()),
                        "depth": Image.new("I;16", (4, 4), index),
                        "label": index % 3 % 2,
                        "vector": np.array([index, 2.0 * index, 1.0]),
                        "bytes": np.array([index, 255], np.uint8),
                        "number": 7 * index,
                        "flag": index % 2 == 0,
                        "ragged": list(range(index)),
                        "zipped": np.zeros(2, np.float32),
                        "text": f"example {index}",
                        "nested": {"number": index},
                    },
                )

    MyDataset(data_dir=folder, file_format="array_record").download_and_prepare()


def main(folder, url, *files):
    sys.meta_path.insert(0, Forbidden())
    import neuralmon.data.tfds.dataset  # noqa: F401

    assert not {"tensorflow_datasets", "array_record", "PIL"} & set(sys.modules), "imported before they are needed"
    import tensorflow_datasets as tfds

    from neuralmon.data.tfds.download import RemoteFile
    from neuralmon.data.tfds.prepare import prepare

    remote = {}
    for file in files:
        path, _, facts = file.partition("=")
        size, _, digest = facts.partition(":")
        remote.setdefault(path.partition("/")[0], []).append(RemoteFile(f"{url}/{path}", int(size), digest))
    for name, wanted in remote.items():
        prepare(name, Path(folder), wanted)
    build_my_dataset(folder)
    read = {}
    for name in remote:
        for split, source in tfds.data_source(name, data_dir=folder).items():
            examples = [source[index] for index in range(len(source))]
            for key in examples[0]:
                read[f"{name}/{split}/{key}"] = np.stack([np.asarray(example[key]) for example in examples])
    np.savez(Path(folder) / "read.npz", **read)
    assert Forbidden.asked == 0 and "torch" not in sys.modules


if __name__ == "__main__":
    main(*sys.argv[1:])
