"""Ours beside an independent implementation on the same weights: how far outputs and gradients are apart.

A parity file has a list `CASES` and one test over it; `python -m tests.parity` makes the table of docs/parity.md of
all of them. The error of two arrays is max|ours - theirs| / max|theirs|; of a result, the worst of its arrays.
"""

import contextlib
import dataclasses
import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Largest error allowed of outputs, and of every parameter's gradient.
LIMITS = {"float32": (1e-5, 1e-4), "float64": (1e-12, 1e-12)}
both_types = pytest.mark.parametrize("dtype", LIMITS)


@dataclasses.dataclass(frozen=True)
class Result:
    """What one side computed: pytrees of arrays, in our names and layouts on both sides."""

    outputs: Any
    gradients: Any


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      row: the row of the table: architecture or preset family.
      name: what is special about this case: shapes, masks, options.
      reference: what it is compared with, such as "torch.nn.LSTM".
      package: the package to import for that; its version is said in the table.
      run: (dtype, "float32" or "float64") -> (our result, their result).
    """

    row: str
    name: str
    reference: str
    package: str
    run: Callable[[str], tuple[Result, Result]]

    def __str__(self) -> str:
        return f"{self.row}: {self.name}"

    @property
    def version(self) -> str:
        return importlib.metadata.version({"sklearn": "scikit-learn"}.get(self.package, self.package)).partition("+")[0]

    def errors(self, dtype: str) -> tuple[float, float]:
        """Returns the errors of the outputs and of the gradients."""
        with double_precision() if dtype == "float64" else contextlib.nullcontext():
            ours, theirs = self.run(dtype)
            leaves = jax.tree.leaves([(one.outputs, one.gradients) for one in (ours, theirs)])
            found = {str(np.asarray(leaf).dtype) for leaf in leaves}
            assert found == {dtype}, f"{self} was computed in {', '.join(sorted(found))}, not in {dtype}"
            return error(ours.outputs, theirs.outputs), error(ours.gradients, theirs.gradients)

    def check(self, dtype: str) -> None:
        """Fails if ours is not theirs; skips, and says so, where theirs is not installed."""
        pytest.importorskip(self.package)
        outputs, gradients = self.errors(dtype)
        limits = LIMITS[dtype]
        assert outputs <= limits[0], f"outputs are off by {outputs:.1e}, more than {limits[0]:g}"
        assert gradients <= limits[1], f"gradients are off by {gradients:.1e}, more than {limits[1]:g}"


def double_precision() -> Any:
    """Returns the context in which JAX has float64."""
    return jax.enable_x64(True)


def error(ours: Any, theirs: Any) -> float:
    """Returns the largest max|a - b| / max|b| of the arrays a of `ours` and b of `theirs`.

    An array that is zero but for rounding, such as the gradient of the bias of attention's keys (softmax does not see
    a shift), is held against the largest array instead.
    """
    ours, theirs = jax.tree.map(np.asarray, ours), jax.tree.map(np.asarray, theirs)
    assert jax.tree.structure(ours) == jax.tree.structure(theirs), "the two results have other names"
    named = jax.tree_util.tree_leaves_with_path(ours)
    pairs = [(a, b) for (_, a), b in zip(named, jax.tree.leaves(theirs), strict=True)]
    for (path, _), (a, b) in zip(named, pairs, strict=True):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        assert a.shape == b.shape, f"{name} has the shape {a.shape} here and {b.shape} there"
        assert a.dtype == b.dtype, f"{name} is {a.dtype} and {b.dtype}"
        assert np.isfinite(a).all() and np.isfinite(b).all(), f"{name} is not finite"
    sizes = [float(np.abs(b).max(initial=0)) for _, b in pairs]
    assert max(sizes) > 0, "all of it is zero: nothing was compared"
    rounding = 100 * float(np.finfo(pairs[0][1].dtype).eps) * max(sizes)
    scales = [size if size > rounding else max(sizes) for size in sizes]
    return max(float(np.abs(a - b).max(initial=0)) / scale for (a, b), scale in zip(pairs, scales, strict=True))


def random_variables(shapes: Any, dtype: str, seed: int = 0) -> Any:
    """Returns variables of these shapes of which none is zero or one: kernels keep variances."""
    rng = np.random.default_rng(seed)

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = path[-1].key
        if name == "var":
            values = rng.uniform(0.5, 1.5, leaf.shape)
        elif name == "scale":
            values = 1 + 0.2 * rng.normal(size=leaf.shape)
        elif len(leaf.shape) > 1 and "embedding" not in name:
            fan_in = int(np.prod(leaf.shape[-4:-1])) if len(leaf.shape) == 4 else leaf.shape[-2]
            values = rng.normal(size=leaf.shape) / np.sqrt(fan_in)
        else:
            values = 0.3 * rng.normal(size=leaf.shape)
        return values.astype(dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def cotangent(shape: tuple[int, ...], dtype: str, seed: int = 1) -> np.ndarray:
    """Returns random weights of the outputs: the loss of both sides is sum(outputs * weights)."""
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def ours(
    apply: Callable[..., Any], variables: Any, inputs: Any, weights: Any, mask: Any = None, **options: Any
) -> Result:
    """Returns the outputs of `apply(variables, inputs, **options)` and the gradients of sum(outputs * weights).

    Args:
      apply: such as `model.apply`; the model's `dtype` has to be that of the comparison.
      variables: with "params", by which it is differentiated.
      inputs: the model's inputs.
      weights: from `cotangent`.
      mask: True where outputs count, broadcast to them; None: everywhere. The others are set to zero.
      options: of `apply`; static.
    """

    @jax.jit
    def run(params: Any, rest: Any, inputs: Any) -> tuple[Any, Any]:
        def loss(params: Any) -> tuple[Any, Any]:
            outputs = apply({"params": params, **rest}, inputs, **options)
            if mask is not None:
                outputs = jnp.where(mask, outputs, 0)
            return (outputs * weights).sum(), outputs

        gradients, outputs = jax.grad(loss, has_aux=True)(params)
        return outputs, gradients

    rest = {name: tree for name, tree in variables.items() if name != "params"}
    return Result(*run(variables["params"], rest, inputs))
