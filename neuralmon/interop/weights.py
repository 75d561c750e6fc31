"""Parameters of ours and tensors of theirs: one table says which is which, for reading, checking and writing.

A table is a sequence of `Entry`s. `to_ours` reads a state dict by it and `to_theirs` writes one; what is missing, left
over or of another shape is one error that lists all of it.
"""

import dataclasses
import fnmatch
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import flax
import jax
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError, first_line

Arrays: TypeAlias = dict[str, np.ndarray]
Variables: TypeAlias = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Entry:
    """Which of our variables hold what some of their tensors hold.

    Attributes:
      ours: paths of our variables, such as "params/hidden_0/kernel".
      theirs: keys of their tensors, such as "fc1.weight".
      read: (their tensors) -> our arrays; linear, so that it takes gradients across as well.
      write: (our arrays) -> their tensors; the inverse of `read`.
    """

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[..., Sequence[np.ndarray]]
    write: Callable[..., Sequence[np.ndarray]]


def same(ours: str, theirs: str) -> Entry:
    """Returns the entry of an array that is laid out alike."""
    return transposed(ours, theirs, None)


def transposed(ours: str, theirs: str, axes: Sequence[int] | None = (1, 0)) -> Entry:
    """Returns the entry of an array whose axes stand in another order: ours = theirs.transpose(axes)."""
    if axes is None:
        return Entry((ours,), (theirs,), lambda tensor: (tensor,), lambda array: (array,))
    back = tuple(int(axis) for axis in np.argsort(axes))
    return Entry((ours,), (theirs,), lambda tensor: (tensor.transpose(axes),), lambda array: (array.transpose(back),))


def dense(ours: str, theirs: str, bias: bool = True) -> list[Entry]:
    """Returns the entries of `nn.Dense` (inputs, outputs) and PyTorch's `Linear` (outputs, inputs)."""
    entries = [transposed(f"{ours}/kernel", f"{theirs}.weight")]
    return entries + ([same(f"{ours}/bias", f"{theirs}.bias")] if bias else [])


def convolution(ours: str, theirs: str, bias: bool = True) -> list[Entry]:
    """Returns the entries of `nn.Conv` (height, width, in, out) and PyTorch's `Conv2d` (out, in, height, width)."""
    entries = [transposed(f"{ours}/kernel", f"{theirs}.weight", (2, 3, 1, 0))]
    return entries + ([same(f"{ours}/bias", f"{theirs}.bias")] if bias else [])


def normalization(ours: str, theirs: str) -> list[Entry]:
    """Returns the entries of a layer's or a batch's normalisation: scale and bias, there `weight` and `bias`."""
    return [same(f"{ours}/scale", f"{theirs}.weight"), same(f"{ours}/bias", f"{theirs}.bias")]


def stacked(layers: Sequence[Iterable[Entry]]) -> list[Entry]:
    """Returns the entries of layers that are separate there and one array with a leading axis (`nn.scan`) here.

    `layers` has the entries of each layer, with the same `ours` in all of them.
    """

    def stack(entries: tuple[Entry, ...]) -> Entry:
        starts = np.cumsum([len(entry.theirs) for entry in entries])[:-1]

        def read(*tensors: np.ndarray) -> Sequence[np.ndarray]:
            cuts = np.split(np.arange(len(tensors)), starts)
            parts = [entry.read(*(tensors[i] for i in cut)) for entry, cut in zip(entries, cuts, strict=True)]
            return [np.stack(arrays) for arrays in zip(*parts, strict=True)]

        def write(*arrays: np.ndarray) -> Sequence[np.ndarray]:
            if {array.shape[:1] for array in arrays} != {(len(entries),)}:
                raise ValueError(f"the model has {len(entries)} layers")
            return [
                tensor for index, entry in enumerate(entries) for tensor in entry.write(*(a[index] for a in arrays))
            ]

        return Entry(entries[0].ours, tuple(key for entry in entries for key in entry.theirs), read, write)

    return [stack(entries) for entries in zip(*layers, strict=True)]


def load(source: Any) -> Arrays:
    """Returns named arrays from a state dict, a .safetensors file, or a folder of them.

    Floats of 16 bits become float32, which holds them exactly; every other type stays.

    Args:
      source: a mapping of names to arrays or PyTorch tensors; or the path of a file or of a folder in which
        `model.safetensors`, or what `model.safetensors.index.json` lists, is looked for.

    Raises:
      RequestError: there is nothing there, it is damaged, or reading it needs a package that is not installed.
    """
    if isinstance(source, Mapping):
        return {str(key): _as_array(tensor) for key, tensor in source.items()}
    if not isinstance(source, str | os.PathLike):
        raise RequestError(f"weights are a state dict or a path, not {type(source).__name__}")
    path = Path(source)
    files = [path]
    if path.is_dir():
        index = path / "model.safetensors.index.json"
        try:
            listed = json.loads(index.read_text())["weight_map"].values() if index.exists() else ["model.safetensors"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RequestError(f"{index} does not say which files there are: {error}") from None
        files = sorted({path / name for name in listed})
    return {key: _as_array(array) for file in files for key, array in _read_safetensors(file).items()}


def _read_safetensors(file: Path) -> Arrays:
    if not file.is_file():
        raise RequestError(f"{file}: there is no such file; give a state dict, a .safetensors file or its folder")
    try:
        import safetensors.numpy
    except ImportError:
        raise RequestError("reading .safetensors needs one more package: pip install 'neuralmon[interop]'") from None
    try:
        return safetensors.numpy.load_file(file)
    except (safetensors.SafetensorError, KeyError) as error:
        raise RequestError(f"{file} is no whole .safetensors file: {error}") from None


def _as_array(tensor: Any) -> np.ndarray:
    if hasattr(tensor, "detach"):  # PyTorch's
        tensor = tensor.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":  # NumPy has no such type
            tensor = tensor.float()
        tensor = tensor.numpy()
    array = np.asarray(tensor)
    return array.astype(np.float32) if array.dtype in (np.float16, jnp.bfloat16) else array


def to_ours(
    entries: Sequence[Entry], weights: Mapping[str, np.ndarray], shapes: Any, ignored: Sequence[str] = ()
) -> Variables:
    """Returns our variables, made of their tensors.

    Args:
      entries: which is which; every one of our variables is in exactly one entry.
      weights: their tensors by key.
      shapes: our variables, or only their shapes; the types of the arrays stay theirs.
      ignored: patterns of keys that hold no weights, such as "*.num_batches_tracked".

    Raises:
      RequestError: a key is missing or left over, or a shape differs; all such keys are listed.
    """
    expected = {path: leaf.shape for path, leaf in flatten(shapes).items()}
    wanted = [key for entry in entries for key in entry.theirs]
    problems = [f"{key} is missing" for key in wanted if key not in weights]
    left_over = weights.keys() - set(wanted)
    problems += [
        f"{key} is left over" for key in sorted(left_over) if not any(fnmatch.fnmatchcase(key, one) for one in ignored)
    ]
    found: dict[str, np.ndarray] = {}
    for entry in entries:
        if not all(key in weights for key in entry.theirs):
            continue
        there = ", ".join(f"{key} {weights[key].shape}" for key in entry.theirs)
        try:
            arrays = dict(zip(entry.ours, entry.read(*(weights[key] for key in entry.theirs)), strict=True))
        except (ValueError, IndexError):  # transposed or cut as the shape does not allow
            problems.append(f"{there} does not fit {', '.join(f'{path} {expected[path]}' for path in entry.ours)}")
            continue
        for path, array in arrays.items():
            if array.shape != expected[path]:
                problems.append(f"{there} does not fit {path} {expected[path]}: it makes {array.shape}")
            found[path] = np.array(array, order="C")  # a copy: what trains on there stays there
    if problems:
        raise RequestError(f"these weights are not this model's: {_listed(problems)}")
    if found.keys() != expected.keys():  # the table's fault, not the weights'
        raise AssertionError(f"no entry for {sorted(expected.keys() ^ found.keys())}")
    return unflatten(found)


def to_theirs(entries: Sequence[Entry], variables: Variables) -> Arrays:
    """Returns their tensors by key, made of our variables.

    Raises:
      RequestError: a variable is missing or left over, or there are other numbers of stacked layers; all are listed.
    """
    arrays = {path: np.asarray(leaf) for path, leaf in flatten(variables).items()}
    wanted = [path for entry in entries for path in entry.ours]
    problems = [f"{path} is missing" for path in wanted if path not in arrays]
    problems += [f"{path} is left over" for path in sorted(arrays.keys() - set(wanted))]
    result: Arrays = {}
    for entry in entries:
        if not all(path in arrays for path in entry.ours):
            continue
        try:
            tensors = entry.write(*(arrays[path] for path in entry.ours))
        except (ValueError, IndexError) as error:  # transposed, joined or cut as the shape does not allow
            there = ", ".join(f"{path} {arrays[path].shape}" for path in entry.ours)
            problems.append(f"{there} cannot be written: {first_line(error)}")
            continue
        result |= {key: np.asarray(one, order="C") for key, one in zip(entry.theirs, tensors, strict=True)}
    if problems:
        raise RequestError(f"these variables are not this model's: {_listed(problems)}")
    return result


def _listed(problems: Sequence[str]) -> str:
    return "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")


def flatten(variables: Any) -> dict[str, Any]:
    """Returns the leaves of nested dicts by their path, such as "params/hidden_0/kernel"."""
    return dict(flax.traverse_util.flatten_dict(variables, sep="/"))


def unflatten(leaves: Mapping[str, Any]) -> Variables:
    """Returns the nested dicts of which `flatten` made `leaves`."""
    return flax.traverse_util.unflatten_dict(dict(leaves), sep="/")


def shapes_of(init: Callable[..., Any], *inputs: Any) -> Any:
    """Returns the shapes of the variables that a model's `init` makes for inputs of these shapes."""
    return jax.eval_shape(init, jax.random.key(0), *inputs)
