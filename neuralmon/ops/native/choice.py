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


def native_or_plain(
    name: str, shapes: Callable[..., list[Any]], plain: Callable[..., Any], fast: Callable[..., Any]
) -> Callable[..., list[Array]]:
    """Returns a function of arrays, and of static keywords, that is `fast` in programs for this CPU, else `plain`.

    It has no derivative of its own. `jax.vmap` does one example after the other.

    Args:
      name: what the function is called in jaxprs.
      shapes: the results' avals, by the operands'.
      plain: the function in JAX; returns a tuple.
      fast: the same by the native part.
    """
    primitive = Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(lambda *operands, **options: _compiled(primitive, **options)(*operands))
    primitive.def_abstract_eval(shapes)
    batching.primitive_batchers[primitive] = functools.partial(_in_turn, primitive)
    in_jax, in_cpp = (mlir.lower_fun(form, multiple_results=True) for form in (plain, fast))

    def on_cpu(context: mlir.LoweringRuleContext, *operands: Any, **options: Any) -> Any:
        here = native.available() and native.on_one_device(context.module_context)
        return (in_cpp if here else in_jax)(context, *operands, **options)

    mlir.register_lowering(primitive, in_jax)
    mlir.register_lowering(primitive, on_cpu, platform="cpu")
    return primitive.bind


@functools.cache
def _compiled(primitive: Primitive, **options: Any) -> Callable[..., list[Array]]:
    return jax.jit(functools.partial(primitive.bind, **options))


def _in_turn(primitive: Primitive, arrays: Any, axes: Any, **options: Any) -> tuple[list[Array], list[int]]:
    mapped = [jnp.moveaxis(array, axis, 0) for array, axis in zip(arrays, axes, strict=True) if axis is not None]

    def one(parts: list[Array]) -> list[Array]:
        rest = iter(parts)
        operands = [array if axis is None else next(rest) for array, axis in zip(arrays, axes, strict=True)]
        return primitive.bind(*operands, **options)

    results = lax.map(one, mapped)
    return results, [0] * len(results)
