"""Functions that are lowered to the native part where it is, and to plain JAX everywhere else."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jaxtyping import Array

from neuralmon.ops import native


def differentiable(
    name: str, plain: Callable[..., Any], forward: Callable[..., Any], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """Returns `plain` as a function whose values and gradients are the native part's in programs for this CPU.

    Every higher derivative is that of the plain form. `jax.vmap` does one example after the other.

    Args:
      name: what the function is called in jaxprs.
      plain: the function in JAX, of arrays or None, and of static keywords; returns a tuple.
      forward: the same by the native part; returns that tuple, and another one of what `backward` needs besides.
      backward: takes the tuple of the operands, the two of `forward`, one of the results' gradients, and the keywords;
        returns the gradients of all operands, None for those that have none: masks, for example.
    """

    @functools.cache
    def with_options(**options: Any) -> Any:
        return _differentiable(name, *(functools.partial(form, **options) for form in (plain, forward, backward)))

    def function(*operands: Array | None, **options: Any) -> Any:
        return with_options(**options)(*varying_alike(*operands))[0]

    return function


def _differentiable(
    name: str, plain: Callable[..., Any], forward: Callable[..., Any], backward: Callable[..., Any]
) -> Any:
    def plain_forward(*operands: Any) -> Any:
        kept = _shapes(forward, operands)[1]
        return plain(*operands), jax.tree.map(lambda array: jnp.zeros(array.shape, array.dtype), kept)  # of no use

    def plain_backward(operands: Any, results: Any, kept: Any, g: Any) -> Any:
        del results, kept
        gradients = jax.vjp(plain, *operands)[1](g)
        return tuple(None if x is None or x.dtype == jax.dtypes.float0 else x for x in gradients)

    def second(saved: Any, gs: Any) -> Any:
        operands, results, kept, g = saved
        of_operands, of_g = jax.vjp(lambda o, g: plain_backward(o, results, kept, g), operands, g)[1](gs)
        return of_operands, None, None, of_g

    values = jax.custom_vjp(native_or_plain(name, plain_forward, forward))
    gradients = jax.custom_vjp(native_or_plain(f"{name}_gradients", plain_backward, backward))
    # What is kept has no gradient of its own: that of `gradients` is in terms of the operands.
    values.defvjp(
        lambda *operands: (made := values(*operands), (operands, *made)), lambda saved, g: gradients(*saved, g[0])
    )
    gradients.defvjp(lambda *saved: (gradients(*saved), saved), second)
    return values


def native_or_plain(name: str, plain: Callable[..., Any], fast: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function of trees of arrays that is `fast` in programs for this CPU, else `plain`; without derivatives.

    Args:
      name: what the function is called in jaxprs.
      plain: the function in JAX.
      fast: the same by the native part; says what shapes there are.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True

    def shapes(*leaves: Any, tree: Any) -> list[Any]:
        results = jax.tree.leaves(_shapes(fast, tree.unflatten(leaves)))
        return [leaves[0].update(shape=array.shape, dtype=array.dtype, weak_type=False) for array in results]

    def of_leaves(form: Callable[..., Any]) -> Any:
        return lambda *leaves, tree: jax.tree.leaves(form(*tree.unflatten(leaves)))

    primitive.def_impl(lambda *leaves, tree: _compiled(primitive, tree)(*leaves))
    primitive.def_abstract_eval(shapes)
    batching.primitive_batchers[primitive] = functools.partial(_in_turn, primitive)
    in_jax, in_cpp = (mlir.lower_fun(of_leaves(form), multiple_results=True) for form in (plain, fast))

    def on_cpu(context: mlir.LoweringRuleContext, *leaves: Any, tree: Any) -> Any:
        here = native.available() and native.on_one_device(context.module_context)
        return (in_cpp if here else in_jax)(context, *leaves, tree=tree)

    mlir.register_lowering(primitive, in_jax)
    mlir.register_lowering(primitive, on_cpu, platform="cpu")

    def function(*operands: Any) -> Any:
        leaves, tree = jax.tree.flatten(operands)
        return jax.tree.unflatten(jax.tree.structure(_shapes(fast, operands)), primitive.bind(*leaves, tree=tree))

    return function


def varying_alike(*arrays: Array | None) -> tuple[Array | None, ...]:
    """Returns the arrays such that within shard_map all of them differ from device to device if one of them does.

    What is the same on all devices then is a copy on each, whose gradients are summed.
    """
    every = frozenset[Any]().union(*map(_axes, jax.tree.leaves(arrays)))

    def alike(x: Array) -> Array:
        missing = tuple(sorted(every - _axes(x)))
        return lax.pcast(x, missing, to="varying") if missing else x

    return jax.tree.map(alike, arrays)


def _axes(array: Array) -> frozenset[Any]:
    """The axes of the mesh along which an array differs."""
    return jax.typeof(array).manual_axis_type.varying


def _shapes(function: Callable[..., Any], operands: Any) -> Any:
    bare = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), operands)
    return jax.eval_shape(function, *bare)


@functools.cache
def _compiled(primitive: Primitive, tree: Any) -> Callable[..., list[Array]]:
    return jax.jit(functools.partial(primitive.bind, tree=tree))


def _in_turn(primitive: Primitive, arrays: Any, axes: Any, *, tree: Any) -> tuple[list[Array], list[int]]:
    mapped = [jnp.moveaxis(array, axis, 0) for array, axis in zip(arrays, axes, strict=True) if axis is not None]

    def one(parts: list[Array]) -> list[Array]:
        rest = iter(parts)
        leaves = [array if axis is None else next(rest) for array, axis in zip(arrays, axes, strict=True)]
        return primitive.bind(*leaves, tree=tree)

    results = lax.map(one, mapped)
    return results, [0] * len(results)
