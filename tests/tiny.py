"""A small experiment: 600 noisy 8 x 8 images of 6 classes, with dropout and augmentation; a second's training.

python launch.py --experiment=tests/tiny.py
"""

import dataclasses

import jax
import numpy as np

import neuralmon as nm
from neuralmon.data import augment


@dataclasses.dataclass(frozen=True)
class Blobs:
    """Each class has one bright 4 x 4 square on noise.

    Attributes:
      shift: largest shift of training images in pixels; None: no shift.
      train_size: number of training examples.
      pipeline: "device", "stream" or "auto".
    """

    shift: nm.fields.NonNegativeNumber | None = 1
    train_size: int = 600
    pipeline: str = "auto"

    def spec(self) -> nm.data.Spec:
        features = {"inputs": jax.ShapeDtypeStruct((8, 8, 1), np.uint8), "targets": jax.ShapeDtypeStruct((), np.int32)}
        sizes = {"train": self.train_size, "validation": 101, "test": 53}
        return nm.data.Spec(features, sizes, class_names=tuple("abcdef"))

    def load(self) -> dict[str, dict[str, np.ndarray]]:
        return {name: self._split(size, seed) for seed, (name, size) in enumerate(self.spec().sizes.items())}

    def _split(self, size: int, seed: int) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(seed)
        targets = rng.integers(0, 6, size).astype(np.int32)
        images = rng.integers(0, 160, (size, 8, 8, 1)).astype(np.uint8)
        for image, target in zip(images, targets, strict=True):
            row, column = divmod(int(target), 3)
            image[row * 4 : row * 4 + 4, column * 2 : column * 2 + 4] += 90
        return {"inputs": images, "targets": targets}

    def prepare(self, key: jax.Array, batch: nm.data.Batch, train: bool) -> nm.data.Batch:
        images = batch["inputs"]
        if train and self.shift is not None:
            images = augment.shift(key, images, self.shift)
        return {**batch, "inputs": images / 128.0 - 1.0}


def experiment() -> nm.Experiment:
    return nm.Experiment(
        dataset=Blobs(),
        model=nm.models.CNN(features=(4, 8), hidden=16, dropout=0.25),
        task=nm.tasks.Classification(label_smoothing=0.05),
        optimizer=nm.optim.AdamW(learning_rate=nm.optim.Cosine(peak=1e-2, warmup=0.1), clip_norm=1.0),
        training=nm.Training(batch_size=32, epochs=4, steps_per_chunk=7),
    )
