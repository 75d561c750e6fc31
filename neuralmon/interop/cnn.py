"""The weights of a `CNN` from and to Keras' HDF5 files.

Convolutions, normalisations and dense layers are matched by their order. Both sides flatten images with the channels
last, so the first dense layer's rows agree.
"""

import contextlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import jax
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.interop.weights import Arrays, Entry, Variables, load, same, shapes_of, to_ours, to_theirs
from neuralmon.models import CNN

# What Keras 3 numbers in its files, Keras 2 names. Keras 1 has W and b.
_WEIGHTS = ("kernel", "bias")
_STATISTICS = ("gamma", "beta", "moving_mean", "moving_variance")
_KERAS1 = {"W": "kernel", "b": "bias"}
_IN_ARCHIVE = "model.weights.h5"


def from_keras(model: CNN, source: Any, image_shape: tuple[int, int, int]) -> Variables:
    """Returns the variables of `model` made of a Keras network's weights.

    A file has one of four layouts: Keras 3's `save_weights("name.weights.h5")` and `save("name.keras")`, and Keras 1's
    and 2's `save_weights` and `save`. The optimizer is passed over.

    Args:
      model: a CNN of the same structure.
      source: an HDF5 or .keras file; or a mapping of names in such a file, such as "layers/conv2d/vars/0", to arrays.
      image_shape: height, width and channels of the images, on which the first dense layer's size depends.

    Raises:
      RequestError: weights are missing, left over or of another shape, or the file cannot be read.
    """
    weights = _by_layer(load(source) if isinstance(source, Mapping) else _read(Path(source)))
    for key, array in weights.items():
        if array.ndim == 4 and array.shape[2:] == model.kernel_size != array.shape[:2]:
            raise RequestError(
                f"{key} {array.shape} is in Theano's order (outputs, inputs, rows, columns): load the file into the "
                "Keras that wrote it, with dim_ordering='tf', and save it from there"
            )
    kinds: dict[str, list[str]] = {"conv2d": [], "dense": [], "normalization": []}
    for layer in dict.fromkeys(key.rpartition("/")[0] for key in weights):
        kernel = weights.get(f"{layer}/kernel")
        kinds["normalization" if kernel is None else "conv2d" if kernel.ndim == 4 else "dense"].append(layer)
    shapes = shapes_of(model.init, jax.ShapeDtypeStruct((1, *image_shape), jnp.float32))
    return to_ours(_entries(model, kinds), weights, shapes)


def to_keras(model: CNN, variables: Variables) -> Arrays:
    """Returns the weights under the names they have in Keras 3's files, such as "layers/conv2d/vars/0"."""
    norm = f"{model.norm}_normalization"
    entries = _entries(model, {"conv2d": ["conv2d"], "dense": ["dense"], "normalization": [norm]})
    result = {}
    for key, array in to_theirs(entries, variables).items():
        layer, _, part = key.rpartition("/")
        number = (_WEIGHTS if part in _WEIGHTS else _STATISTICS).index(part)
        result[f"layers/{layer}/vars/{number}"] = array
    return result


def save_keras(model: CNN, variables: Variables, path: str | Path) -> None:
    """Writes a file for `load_weights` of a Keras 3 model with the same layers; its name has to end in .weights.h5."""
    with _h5py().File(path, "w") as file:
        for name, array in to_keras(model, variables).items():
            file[name] = array


def _entries(model: CNN, names: Mapping[str, list[str]]) -> list[Entry]:
    """Returns the table; layers of which there are fewer `names` than the model has are called as Keras would."""

    def layer(kind: str, index: int) -> str:
        known = names[kind]
        if index < len(known):
            return known[index]
        first = known[0].rpartition("/")[2] if known else kind
        return f"{re.sub(r'_[0-9]+$', '', first)}_{index}"

    entries: list[Entry] = []
    for index in range(len(model.features) * model.convolutions):
        conv = layer("conv2d", index)
        entries.append(same(f"params/conv_{index}/kernel", f"{conv}/kernel"))
        if model.norm is None:
            entries.append(same(f"params/conv_{index}/bias", f"{conv}/bias"))
            continue
        ours, theirs = f"norm_{index}", layer("normalization", index)
        entries += [same(f"params/{ours}/scale", f"{theirs}/gamma"), same(f"params/{ours}/bias", f"{theirs}/beta")]
        if model.norm == "batch":
            entries.append(same(f"batch_stats/{ours}/mean", f"{theirs}/moving_mean"))
            entries.append(same(f"batch_stats/{ours}/var", f"{theirs}/moving_variance"))
    for index, name in enumerate(("hidden", "output")):
        entries += [same(f"params/{name}/{part}", f"{layer('dense', index)}/{part}") for part in _WEIGHTS]
    return entries


def _by_layer(arrays: Arrays) -> Arrays:
    """Returns the arrays as "<layer>/kernel", "<layer>/gamma" and so on, in their order.

    Their names in files are, by the version of Keras, "layers/conv2d_1/vars/0", "conv2d_1/conv2d_1/kernel:0" (with the
    model's name between the two, if it was saved in another one) or "convolution2d_1/convolution2d_1_W".
    """
    result: Arrays = {}
    kernels = {name.rpartition("/")[0] for name, array in arrays.items() if array.ndim > 1}
    for name, array in arrays.items():
        group, _, last = name.rpartition("/")
        layer = group.removesuffix("/vars").removeprefix("layers/").partition("/")[0]
        part = last.partition(":")[0].removeprefix(f"{layer}_")
        if part.isdecimal():
            numbered = _WEIGHTS if group in kernels else _STATISTICS
            part = numbered[int(part)] if int(part) < len(numbered) else part
        result[f"{layer}/{_KERAS1.get(part, part)}"] = array
    return result


def _natural(name: str) -> list[Any]:
    """Returns a key that sorts conv2d before conv2d_1, and conv2d_2 before conv2d_10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", name.replace("/", " "))]


def _read(path: Path) -> Arrays:
    """Returns every array of a file by its name, in the order of the layers."""
    h5py = _h5py()
    if not path.is_file():
        raise RequestError(f"{path}: there is no such file; give Keras' HDF5 or .keras file of weights")
    arrays: Arrays = {}
    order: list[str] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith(("optimizer", "top_level_model_weights")):
            arrays[name] = np.asarray(item)

    try:
        with _hdf5(path) as content, h5py.File(content, "r") as file:
            root = file.get("model_weights", file)
            root.visititems(visit)
            order = [name.decode() if isinstance(name, bytes) else name for name in root.attrs.get("layer_names", ())]
    except OSError as error:
        raise RequestError(f"{path} cannot be read as HDF5: {error}") from None
    # HDF5 sorts by name. Keras 3 numbers the layers of a kind; before, their names were anything, but listed.
    listed = {layer: index for index, layer in enumerate(order)}
    names = sorted(arrays, key=lambda name: (listed.get(name.partition("/")[0], len(listed)), _natural(name)))
    return {name: arrays[name] for name in names}


@contextlib.contextmanager
def _hdf5(path: Path) -> Iterator[BinaryIO]:
    """Opens a file of weights; a .keras file is a zip with one beside the description of the model."""
    with contextlib.ExitStack() as stack:
        if not zipfile.is_zipfile(path):
            yield stack.enter_context(path.open("rb"))
            return
        archive = stack.enter_context(zipfile.ZipFile(path))
        if _IN_ARCHIVE not in archive.namelist():
            raise RequestError(f"{path} is a zip without {_IN_ARCHIVE}: not what Keras writes with save('name.keras')")
        # HDF5 is read at random, which a compressed member would answer by starting again each time.
        yield io.BytesIO(archive.read(_IN_ARCHIVE))


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise RequestError("Keras' files need a package more: pip install 'neuralmon[interop]'") from None
    return h5py
