"""Batch normalisation: each channel's mean and variance over the batch, and what is made of them.

    mean, variance = ops.moments(x)
    y = ops.normalise(x, mean, variance, scale, bias, epsilon)

On CPU the sums over the batch are each one sweep over memory by a native function (`neuralmon.ops.native`). All else is
elementwise: XLA fuses it with what comes before and after, such as an activation and a residual addition. Derivatives
of any order, forward and reverse, are made of the same three functions of arrays (maps, ..., channels):

    moments     of x, mean and variance over all axes but the first and the last
    products    of a, x and mean, the sums of a and of a (x - mean) over these axes
    affine      of b, w, x and mean, b + w (x - mean); as a function of b and w the transpose of the products, in a
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Bool, Float

from neuralmon.ops.native import available
from neuralmon.ops.native import batch_norm as native
from neuralmon.ops.native.choice import native_or_plain, varying_alike
from neuralmon.ops.reference import is_reference

Inputs = Float[Array, "batch *spatial channels"]
Channels = Float[Array, " channels"]


def moments(x: Inputs, mask: Bool[Array, "..."] | None = None) -> tuple[Channels, Channels]:
    """Returns each channel's mean, and its variance around that mean, over all axes but the last.

    Args:
      x: what is to be normalised.
      mask: True where `x` counts, of a shape that broadcasts to that of `x`; None: everywhere.
    """
    if mask is None and _covers(x):
        mean, variance = _bind(moments_p, x[None])
        return mean[0], variance[0]
    axes = tuple(range(x.ndim - 1))
    mean = jnp.mean(x, axes, where=mask)
    return mean, jnp.mean(jnp.square(x - mean), axes, where=mask)


def normalise(x: Inputs, mean: Channels, variance: Channels, scale: Channels, bias: Channels, epsilon: float) -> Inputs:
    """Returns (x - mean) / sqrt(variance + epsilon) * scale + bias.

    Source: Ioffe & Szegedy, "Batch Normalization", ICML 2015, algorithm 1.
    """
    weight = lax.rsqrt(variance + epsilon) * scale
    if not _covers(x, mean, weight, bias):
        return (x - mean) * weight + bias
    (outputs,) = _affine(bias[None], weight[None], x[None], mean[None])
    result: Array = outputs[0]
    return result


def _covers(*arrays: Array) -> bool:
    float32 = all(array.dtype == jnp.float32 and array.size for array in arrays)
    return float32 and not is_reference() and available()


moments_p = Primitive("neuralmon_moments")
products_p = Primitive("neuralmon_products")
affine_p = Primitive("neuralmon_affine")


def _bind(primitive: Primitive, *operands: Array) -> Any:
    return primitive.bind(*varying_alike(*operands))


_products = functools.partial(_bind, products_p)
_affine = functools.partial(_bind, affine_p)


def _across(channels: Array, x: Array) -> Array:
    """(maps, channels) as (maps, 1, ..., channels)."""
    return channels.reshape(channels.shape[0], *(1,) * (x.ndim - 2), channels.shape[1])


def _plain_moments(x: Array) -> tuple[Array, Array]:
    axes = tuple(range(1, x.ndim - 1))
    mean = x.mean(axes)
    return mean, jnp.square(x - _across(mean, x)).mean(axes)


def _plain_products(a: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    axes = tuple(range(1, x.ndim - 1))
    return a.sum(axes), (a * (x - _across(mean, x))).sum(axes)


def _plain_affine(b: Array, w: Array, x: Array, mean: Array) -> tuple[Array]:
    return ((x - _across(mean, x)) * _across(w, x) + _across(b, x),)


def _native_moments(x: Array) -> tuple[Array, Array]:
    return native.moments(_rows(x))


def _native_products(a: Array, x: Array, mean: Array) -> tuple[Array, Array]:
    return native.products(_rows(a), _rows(x), mean)


def _rows(x: Array) -> Array:
    return x.reshape(x.shape[0], -1, x.shape[-1])


def _moments_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (dx,) = primals, map(ad.instantiate_zeros, tangents)
    mean, variance = _bind(moments_p, x)
    count = x.size // mean.size
    sums, products = _products(dx, x, mean)
    return [mean, variance], [sums / count, products * (2 / count)]


def _products_jvp(primals: Any, tangents: Any) -> Any:
    (a, x, mean), (da, dx, dmean) = primals, tangents
    sums, products = _products(a, x, mean)
    d_sums, d_products = _products(ad.instantiate_zeros(da), x, mean)
    if not isinstance(dx, ad.Zero):
        d_products += _products(dx, a, jnp.zeros_like(mean))[1]
    if not isinstance(dmean, ad.Zero):
        d_products -= sums * dmean
    return [sums, products], [d_sums, d_products]


def _products_transpose(cts: Any, a: Any, x: Array, mean: Array) -> Any:
    del a
    return [_affine(*map(ad.instantiate_zeros, cts), x, mean)[0], None, None]


def _affine_jvp(primals: Any, tangents: Any) -> Any:
    (b, w, x, mean), (db, dw, dx, dmean) = primals, tangents
    terms = []
    if not all(isinstance(tangent, ad.Zero) for tangent in (db, dw, dmean)):
        db, dw, dmean = map(ad.instantiate_zeros, (db, dw, dmean))
        terms += _affine(db - w * dmean, dw, x, mean)
    if not isinstance(dx, ad.Zero):
        terms.append(_across(w, x) * dx)
    return _affine(b, w, x, mean), [functools.reduce(jnp.add, terms)]


def _affine_transpose(cts: Any, b: Any, w: Any, x: Array, mean: Array) -> Any:
    results = _products(*map(ad.instantiate_zeros, cts), x, mean)
    linear = [ad.is_undefined_primal(operand) for operand in (b, w)]
    return [*(result if own else None for result, own in zip(results, linear, strict=True)), None, None]


def _batched(primitive: Primitive, args: Any, dims: Any) -> Any:
    """The rule of `jax.vmap`: its axis joins that of the maps."""
    (size,) = {x.shape[dim] for x, dim in zip(args, dims, strict=True) if dim is not None}
    operands = [
        jnp.broadcast_to(x, (size, *x.shape)) if dim is None else jnp.moveaxis(x, dim, 0)
        for x, dim in zip(args, dims, strict=True)
    ]
    results = _bind(primitive, *(x.reshape(-1, *x.shape[2:]) for x in operands))
    return [x.reshape(size, -1, *x.shape[1:]) for x in results], [0] * len(results)


def _define(
    primitive: Primitive,
    shapes: Callable[..., list[Any]],
    form: Callable[..., Any],
    jvp: Callable[..., Any],
    transpose: Callable[..., Any] | None = None,
) -> None:
    primitive.multiple_results = True
    primitive.def_impl(jax.jit(form))
    primitive.def_abstract_eval(shapes)
    ad.primitive_jvps[primitive] = jvp
    if transpose is not None:
        ad.primitive_transposes[primitive] = transpose
    batching.primitive_batchers[primitive] = functools.partial(_batched, primitive)
    mlir.register_lowering(primitive, mlir.lower_fun(form, multiple_results=True))


def _two(x: Any) -> list[Any]:
    return [x.update(shape=(x.shape[0], x.shape[-1]), weak_type=False)] * 2


_moments_form = native_or_plain("neuralmon_moments_form", _plain_moments, _native_moments)
_products_form = native_or_plain("neuralmon_products_form", _plain_products, _native_products)
_define(moments_p, _two, _moments_form, _moments_jvp)
_define(products_p, lambda a, x, mean: _two(x), _products_form, _products_jvp, _products_transpose)
_define(affine_p, lambda b, w, x, mean: [x.update(weak_type=False)], _plain_affine, _affine_jvp, _affine_transpose)
