"""What a trained generator makes: pictures to look at, and how far they are from the data's."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float, Int

from neuralmon.errors import RequestError, did_you_mean
from neuralmon.tasks import digits
from neuralmon.tasks.adversarial_update import is_conditional
from neuralmon.tasks.frechet import frechet_distance
from neuralmon.tasks.sums import table
from neuralmon.tasks.trained import Trained

_AT_ONCE = 500


def make(
    trained: Trained, noise: Array, labels: Int[np.ndarray, " samples"] | None
) -> Float[np.ndarray, "samples ..."]:
    """Returns what the generator makes of noise and, if it is conditional, of classes."""
    parts = []
    for start in range(0, len(noise), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        inputs = noise[rows] if labels is None else {"noise": noise[rows], "labels": labels[rows]}
        parts.append(np.asarray(_made(trained.model, trained.variables, inputs)))
    return np.concatenate(parts)


@partial(jax.jit, static_argnums=0)
def _made(model: nn.Module, variables: Any, inputs: Any) -> Any:
    return model.apply(variables, inputs, method="generate")


def in_turn(trained: Trained, count: int) -> Int[np.ndarray, " samples"] | None:
    """Returns the classes in turn, as many of each; None if samples are made without."""
    if not is_conditional(trained.model):
        return None
    return np.arange(count, dtype=np.int32) % trained.model.generator.num_classes


def is_picture(trained: Trained) -> bool:
    """Returns whether samples can be looked at."""
    shape = trained.model.generator.sample_shape
    return len(shape) == 3 and shape[-1] in (1, 3, 4)


def displayed(trained: Trained, samples: Float[np.ndarray, "samples ..."]) -> Float[np.ndarray, "samples ..."]:
    """Returns samples with black 0 and white 1: what `prepare` does with black and white pictures is undone."""
    feature = trained.dataset.spec().features["inputs"]
    white = 255 if feature.dtype == np.uint8 else 1
    stored = np.stack([np.zeros(feature.shape, feature.dtype), np.full(feature.shape, white, feature.dtype)])
    batch: Any = {"inputs": stored, "targets": np.zeros(2, np.int32), "weights": np.ones(2, np.float32)}
    low, high = np.asarray(trained.dataset.prepare(jax.random.key(0), batch, False)["inputs"])
    return np.clip((samples - low) / np.where(high == low, 1, high - low), 0, 1)


def class_of(trained: Trained, name: str) -> int:
    """Returns the class that is called so.

    Raises:
      RequestError: there is none, or samples are made without classes.
    """
    if not is_conditional(trained.model):
        raise RequestError(f"--label={name}: this generator makes samples without classes (conditional=False)")
    known = list(trained.dataset.spec().class_names)
    if name not in known:
        raise RequestError(f"--label={name}{did_you_mean(name, known)}: the classes are {', '.join(known)}")
    return known.index(name)


def grid(trained: Trained, pictures: Float[np.ndarray, "samples ..."], by_class: bool) -> dict[str, Any]:
    """Returns pictures as the figure "samples" takes them: a row for each class, or as nearly square as can be."""
    if by_class:
        classes = trained.model.generator.num_classes
        names = trained.dataset.spec().class_names
        columns = [pictures[start : start + classes] for start in range(0, len(pictures), classes)]
        return {"images": np.stack(columns, axis=1), "row_names": list(names)}
    width = math.ceil(math.sqrt(len(pictures)))
    blank = np.ones((-len(pictures) % width, *pictures.shape[1:]), pictures.dtype)
    whole = np.concatenate([pictures, blank])
    return {"images": whole.reshape(-1, width, *pictures.shape[1:])}


def write(path: str, shown: dict[str, Any], samples: np.ndarray) -> None:
    """Writes pictures to a PNG file, or samples as the generator made them to a .npy file.

    Raises:
      RequestError: the file cannot be written, or is neither.
    """
    try:
        if path.endswith(".npy"):
            np.save(path, samples)
            return
        if not path.endswith(".png"):
            raise RequestError(f"--output={path}: give a .png file, or .npy for the samples as arrays")
        from PIL import Image

        from neuralmon.figures.samples import mosaic

        picture = mosaic(shown["images"], max(1, round(56 / shown["images"].shape[2])))
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(Path(path))
    except OSError as error:
        raise RequestError(f"--output={path}: it cannot be written: {error.strerror or error}") from error


def quality(trained: Trained, split: str, samples: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Returns how far samples of digits are from the training digits, and which digits they are.

    - `frechet_distance`: of the samples from the training digits, in the features of `neuralmon.tasks.digits`;
    - `frechet_distance_of_real`: the same of the split's real digits: what no generator needs to be below;
    - `total_variation`: half the sum over the digits of how far their shares are from 1/10;
    - `largest_deviation`: the largest of these, relative to 1/10;
    - `as_asked`: of conditional networks, how many samples are taken for the digit they were made for;
    - `digits`: the share of each digit among the samples, and among the training digits.
    """
    seen, taken_for = digits.look(displayed(trained, samples))
    train, split_features = (digits.look(trained.examples(name)["inputs"] / 255)[0] for name in ("train", split))
    shares = np.bincount(taken_for, minlength=10) / len(taken_for)
    real = np.bincount(trained.examples("train")["targets"], minlength=10)
    off = np.abs(shares - 0.1)
    asked = {} if labels is None else {"as_asked": float((taken_for == labels).mean())}
    return {
        "frechet_distance": frechet_distance(seen, train),
        "frechet_distance_of_real": frechet_distance(split_features, train),
        "total_variation": float(off.sum() / 2),
        "largest_deviation": float(off.max() / 0.1),
        **asked,
        "digits": table((), samples=shares, training=real / real.sum()),
    }


def are_digits(trained: Trained) -> bool:
    """Returns whether the data looks like MNIST, so that `quality` means something."""
    feature = trained.dataset.spec().features["inputs"]
    return feature.shape == digits.SHAPE and feature.dtype == np.uint8 and trained.dataset.spec().num_classes == 10
