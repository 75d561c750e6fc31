"""What a small network that has learnt to read MNIST's digits sees in pictures: a place to compare samples in.

Distances of pictures are measured in the features of a trained network, for which two sevens are near each other
whatever their pixels. Its parameters are part of the package; `embedded/README.md` has the commands that made them.
"""

import functools
from collections.abc import Mapping
from importlib import resources
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float, Int

from neuralmon.data import Mnist
from neuralmon.models import CNN

SHAPE = (28, 28, 1)
_NETWORK = CNN(features=(16, 32), hidden=64, num_classes=10)
_AT_ONCE = 1000


def look(
    images: Float[np.ndarray, "images 28 28 1"],
) -> tuple[Float[np.ndarray, "images 64"], Int[np.ndarray, " images"]]:
    """Returns the features of pictures, black 0 and white 1, and the digits they are taken for.

    The features are the 64 outputs of the hidden layer, after its ReLU.
    """
    parts = []
    for start in range(0, len(images), _AT_ONCE):
        part = images[start : start + _AT_ONCE]
        # Filled up, or another length would be compiled again.
        seen = jax.device_get(_look(_variables(), np.resize(part, (_AT_ONCE, *SHAPE)).astype(np.float32)))
        parts.append([array[: len(part)] for array in seen])
    features, digits = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return features, digits


@jax.jit
def _look(variables: Any, images: Array) -> tuple[Array, Array]:
    logits, seen = _NETWORK.apply(
        variables,
        Mnist().normalize(images),
        capture_intermediates=lambda module, _: module.name == "hidden",
        mutable=["intermediates"],
    )
    return nn.relu(seen["intermediates"]["hidden"]["__call__"][0]), logits.argmax(axis=-1)


@functools.cache
def _variables() -> dict[str, Any]:
    path = resources.files("neuralmon.tasks") / "embedded" / "digit_features.npz"
    with path.open("rb") as file, np.load(file) as arrays:
        return {"params": unflatten_dict({name: arrays[name] for name in arrays.files}, sep="/")}


def write(params: Mapping[str, Any], path: str) -> None:
    """Writes a network's parameters to the file that `look` reads.

    Raises:
      ValueError: they are not those of this network.
    """
    arrays = {name: np.asarray(array, np.float32) for name, array in flatten_dict(dict(params), sep="/").items()}
    expected = jax.eval_shape(_NETWORK.init, jax.random.key(0), np.zeros((1, *SHAPE), np.float32))["params"]
    shapes = {name: array.shape for name, array in flatten_dict(expected, sep="/").items()}
    if (given := {name: array.shape for name, array in arrays.items()}) != shapes:
        raise ValueError(f"these are the parameters of another network: {given}, not {shapes}")
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
