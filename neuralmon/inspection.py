"""Everything that happens inside a model, by name and without editing it.

    seen = nm.inspect(model, variables, images)
    print(seen)                                  # a table of all there is
    seen["conv_0"]                               # what the module conv_0 returned
    seen["block_0/attention/attention_weights"]  # what a module has sown

A path is the names from the model down to the module, joined by '/', as `--mode=summary` prints them; the model's own
outputs go by the name of its class. What a module sows has its own name behind the module's. Where there are several
arrays, since a module is called or sows several times or returns more than one, each has its number behind the path:
'shared/0', 'shared/1'. Layers under `nn.scan` are one array with the layers as its first axis.
"""

import dataclasses
import inspect as python_inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.errors import RequestError
from neuralmon.optim.freezing import listed, matches, path_name


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Inspection(Mapping[str, Array]):
    """What was seen: a mapping of paths to arrays, in about the order in which they were computed.

    It is a pytree, so that a jitted function can return it.

    Attributes:
      outputs: the model's outputs, as `model.apply` returns them.
      arrays: what was seen.
      paths: the path of each array.
      kinds: of each array "output", what a module returned, or "sown", what it gave away with `self.sow`.
    """

    outputs: Any
    arrays: tuple[Array, ...]
    paths: tuple[str, ...]
    kinds: tuple[str, ...]

    def __getitem__(self, path: str) -> Array:
        try:
            return self.arrays[self.paths.index(path)]
        except ValueError:
            raise KeyError(f"{path!r} is not among what was seen: {listed(self.paths)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __str__(self) -> str:
        """The table: path, kind, shape, type, mean and standard deviation."""
        rows = [("path", "kind", "shape", "type", "mean", "std")]
        for path, kind, array in zip(self.paths, self.kinds, self.arrays, strict=True):
            rows.append((path, kind, str(array.shape).replace(" ", ""), str(array.dtype), *_moments(array)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        # Numbers end below each other, words begin below each other.
        cells = [[*map(str.ljust, row[:4], widths), *map(str.rjust, row[4:], widths[4:])] for row in rows]
        return "\n".join("  ".join(row).rstrip() for row in cells)

    __repr__ = __str__


jax.tree_util.register_dataclass(Inspection, data_fields=["outputs", "arrays"], meta_fields=["paths", "kinds"])


def inspect(
    model: nn.Module,
    variables: Mapping[str, Any],
    inputs: Any,
    patterns: str | Sequence[str] = "*",
    *,
    train: bool = False,
    rngs: dict[str, Array] | None = None,
    **options: Any,
) -> Inspection:
    """Returns what every module of a model returned for these inputs, and all that was sown in "intermediates".

    The model computes what it computes without it. Under `jax.jit` what nobody asks for costs nothing.

    Args:
      model: any Linen module. Its scanned layers are seen if the scan has `variable_axes={"intermediates": 0}`.
      variables: what `model.apply` takes: {"params": ...}, and the model's other collections if it has any.
      inputs: the model's inputs; a dict where there are several.
      patterns: which paths to keep: '*' stands for any characters, and a module's path means all that is in it, as in
        'block_*/attention' or 'block_*/attention/*'.
      train: whether dropout acts and batches are normalised by themselves, if the model takes `train`.
      rngs: random keys, such as {"dropout": jax.random.key(0)}, which a model with dropout needs to train.
      options: further arguments of the model's call, such as `mask`.

    Raises:
      RequestError: the variables are not this model's, a key is missing, or a pattern matches nothing.
    """
    if not isinstance(model, nn.Module):
        raise RequestError(f"nm.inspect looks into Linen modules; {type(model).__name__} is none")
    check_variables(model, variables, inputs, **with_train(model, options, False))
    # What init or an earlier call has sown would be sown upon.
    given = {name: tree for name, tree in variables.items() if name != "intermediates"}
    written = [name for name in given if name != "params"] if train else []
    try:
        outputs, changed = model.apply(
            given,
            inputs,
            rngs=rngs,
            capture_intermediates=True,
            mutable=["intermediates", *written],
            **with_train(model, options, train),
        )
    except flax.errors.InvalidRngError as error:
        raise RequestError(
            f'{type(model).__name__} draws random numbers: give nm.inspect(..., rngs={{"dropout": jax.random.key(0)}})'
        ) from error
    seen = list(_named(changed.get("intermediates", {}), type(model).__name__))
    wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    for pattern in wanted:
        if not any(matches(path, (pattern,)) for path, _, _ in seen):
            raise RequestError(f"{pattern!r} matches nothing in this model: {listed([path for path, _, _ in seen])}")
    kept = [entry for entry in seen if matches(entry[0], wanted)]
    paths, kinds, arrays = zip(*kept, strict=True) if kept else ((), (), ())
    return Inspection(outputs, arrays, paths, kinds)


def _named(tree: Any, model_name: str, above: tuple[str, ...] = ()) -> Iterator[tuple[str, str, Array]]:
    """Yields path, kind and array of what Flax collected; a tuple there has an element for each time."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _named(value, model_name, (*above, name))
            continue
        kind = "output" if name == "__call__" else "sown"
        base = above if kind == "output" else (*above, name)
        times = value if isinstance(value, tuple) else (value,)
        for number, one in enumerate(times):
            leaves = jax.tree_util.tree_leaves_with_path(one)
            for path, array in leaves:
                numbers = ([str(number)] if len(times) > 1 else []) + ([path_name(path)] if len(leaves) > 1 else [])
                yield "/".join([*(base or (model_name,)), *numbers]), kind, jnp.asarray(array)


def with_train(model: nn.Module, options: Mapping[str, Any], train: bool) -> dict[str, Any]:
    """Returns the options of a model's call, with `train` if the model has that argument."""
    takes_train = "train" in python_inspect.signature(type(model).__call__).parameters
    return {**options, "train": train} if takes_train else dict(options)


def check_variables(model: nn.Module, variables: Mapping[str, Any], *inputs: Any, **options: Any) -> None:
    """Raises RequestError unless the variables have the paths and shapes that `model.init` gives them."""
    name = type(model).__name__
    expected = jax.eval_shape(lambda *inputs: model.init(jax.random.key(0), *inputs, **options), *inputs)
    if "params" in expected and "params" not in variables:
        raise RequestError(
            f"the variables of {name} have no 'params', only {listed(list(variables)) or 'nothing'}: "
            "give what model.init returns, or {'params': ...}"
        )
    missing = expected.keys() - variables.keys()
    if missing:
        raise RequestError(f"the variables of {name} have no {listed(sorted(missing))}, which the model reads")
    shapes = [
        {
            path_name(path): np.shape(leaf)
            for path, leaf in jax.tree_util.tree_leaves_with_path(
                flax.core.meta.unbox({collection: tree[collection] for collection in expected})
            )
        }
        for tree in (expected, variables)
    ]
    wanted, given = shapes
    problems = [f"{path} is missing" for path in wanted if path not in given]
    problems += [f"{path} is left over" for path in given if path not in wanted]
    problems += [
        f"{path} has the shape {given[path]}, not {wanted[path]}"
        for path in wanted
        if path in given and given[path] != wanted[path]
    ]
    if problems:
        raise RequestError(f"these variables are not those of this {name}: {listed(problems)}")


def _moments(array: Array) -> tuple[str, str]:
    """Returns mean and standard deviation as text; "-" where there is none, as while tracing."""
    real = jnp.issubdtype(array.dtype, jnp.number) and not jnp.issubdtype(array.dtype, jnp.complexfloating)
    if isinstance(array, jax.core.Tracer) or array.size == 0 or not (real or array.dtype == bool):
        return "-", "-"
    values = np.asarray(array).astype(np.float64)
    return f"{values.mean():.4g}", f"{values.std():.4g}"
