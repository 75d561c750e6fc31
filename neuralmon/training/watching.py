"""What every layer of a model sees: the range of its inputs and outputs, and how many of them are not finite.

The numbers leave the compiled program by callbacks to the host, so that scanned and rematerialised layers are seen too.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.optim.freezing import path_name


@dataclasses.dataclass(frozen=True)
class Seen:
    """Numbers that went by: the smallest and the largest finite one, and how many of all were not finite."""

    name: str
    kind: str
    low: float
    high: float
    bad: int
    size: int

    @property
    def range(self) -> str:
        """The finite numbers in words."""
        return f"between {self.low:.4g} and {self.high:.4g}" if self.low <= self.high else "none of them finite"

    @property
    def count(self) -> str:
        """How many are not finite, in words."""
        return f"{self.bad:,} of {self.size:,} numbers"


@dataclasses.dataclass(frozen=True)
class Call:
    """What went into a call of a module, or came out of it; `within` is the module it was called from."""

    path: str
    kind: str
    within: str
    entering: bool
    seen: Seen


def watched_calls(function: Callable[..., Any], *args: Any) -> tuple[list[Call], Any]:
    """Returns every call of a Linen module that `function(*args)` does, in order, and what it returns."""
    calls: list[Call] = []
    # Made anew each time: a function that jax knows would not be traced again, under whatever interceptor.
    compiled = jax.jit(lambda *args: function(*args))
    with nn.intercept_methods(_watcher(calls)):
        return calls, jax.block_until_ready(compiled(*args))


def _watcher(calls: list[Call]) -> Callable[..., Any]:
    stack = [""]

    def record(path: str, kind: str, within: str, entering: bool, size: int, numbers: np.ndarray) -> np.ndarray:
        low, high, bad = map(float, np.asarray(numbers))
        calls.append(Call(path, kind, within, entering, Seen(path or "(model)", kind, low, high, int(bad), size)))
        return np.zeros((), np.float32)

    def watch(path: str, kind: str, entering: bool, tree: Any) -> Any:
        """Returns `tree` plus a zero that the host gives once it has been told: so calls come in their order.

        Callbacks with effects would be ordered too, but neither vmap nor every version of `nn.scan` takes those.
        """
        leaves, structure = jax.tree.flatten(tree)
        first = next((index for index, leaf in enumerate(leaves) if float_leaves(leaf) and leaf.size), None)
        if first is None:
            return tree
        size = sum(leaf.size for leaf in float_leaves(tree))
        tell = partial(record, path, kind, stack[-1], entering, size)
        zero = jax.pure_callback(tell, jax.ShapeDtypeStruct((), np.float32), _measure(tree), vmap_method="sequential")
        leaves[first] = leaves[first] + zero.astype(leaves[first].dtype)
        return jax.tree.unflatten(structure, leaves)

    def interceptor(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        if context.method_name == "setup":
            return call(*args, **kwargs)
        path, kind = "/".join(context.module.path), type(context.module).__name__
        args, kwargs = watch(path, kind, True, (args, kwargs))
        stack.append(path)
        try:
            output = call(*args, **kwargs)
        finally:
            stack.pop()
        return watch(path, kind, False, output)

    return interceptor


def float_leaves(tree: Any) -> list[Any]:
    """Returns the floating arrays in a tree."""
    return [
        leaf for leaf in jax.tree.leaves(tree) if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    ]


def _measure(tree: Any) -> Array:
    """Returns (smallest finite, largest finite, how many are not finite) of all floating numbers in `tree`."""
    leaves = [jnp.ravel(leaf).astype(jnp.float32) for leaf in float_leaves(tree) if leaf.size]
    low = jnp.stack([jnp.where(jnp.isfinite(leaf), leaf, jnp.inf).min() for leaf in leaves]).min()
    high = jnp.stack([jnp.where(jnp.isfinite(leaf), leaf, -jnp.inf).max() for leaf in leaves]).max()
    bad = jnp.stack([(~jnp.isfinite(leaf)).sum(dtype=jnp.float32) for leaf in leaves]).sum()
    return jnp.stack([low, high, bad])


def seen_leaves(kind: str, tree: Any) -> Iterator[Seen]:
    """Yields what is in the floating leaves of a tree, by path; on the host, for there is nothing worth compiling."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(jax.device_get(tree)):
        if float_leaves(leaf) and leaf.size:
            numbers = np.asarray(leaf, np.float32)
            finite = numbers[np.isfinite(numbers)]
            low, high = (float(finite.min()), float(finite.max())) if finite.size else (np.inf, -np.inf)
            yield Seen(path_name(path), kind, low, high, leaf.size - finite.size, leaf.size)


def outputs_of(calls: Iterable[Call]) -> Iterator[Seen]:
    """Yields one row a module, in the order of the last calls; what several calls returned is put together."""
    merged: dict[str, Seen] = {}
    for call in calls:
        if call.entering:
            continue
        new, old = call.seen, merged.pop(call.path, None)
        if old is not None:
            low, high = min(old.low, new.low), max(old.high, new.high)
            new = dataclasses.replace(new, low=low, high=high, bad=old.bad + new.bad, size=old.size + new.size)
        merged[call.path] = new
    return iter(merged.values())
