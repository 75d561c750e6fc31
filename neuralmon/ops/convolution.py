"""Convolution in three forms: the plain one, one that XLA's CPU compiler runs fast in loops, and a native one.

A convolution and the gradient of its kernel are two primitives of JAX, each linear in both operands. The derivatives of
either are the two again, so that every derivative of any order has them all. Which form is run is decided when a
program is lowered: the plain one for GPU and TPU; on CPU the native one (`neuralmon.ops.native`) where it can be.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from neuralmon.ops import convolution_forms as forms
from neuralmon.ops.convolution_forms import Window
from neuralmon.ops.native.choice import varying_alike
from neuralmon.ops.native.convolution import lowering
from neuralmon.ops.reference import is_reference


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    *,
    precision: Any = None,
    **others: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, with gradients, fast on CPU.

    Channels-last convolutions of floats in any number of spatial dimensions, strided, padded and dilated, have the fast
    forms; grouped ones, other layouts and mixed types are handed to `jax.lax`, as is everything on GPU and TPU and
    everything inside `ops.reference()`.

    Args:
        lhs: inputs `[batch, *spatial, in_channels]`.
        rhs: kernel `[*window, in_channels, out_channels]`.
        window_strides: one stride for each spatial dimension.
        padding: "SAME", "VALID" or a (low, high) pair for each spatial dimension.
        lhs_dilation: dilation of the inputs; strides of a transposed convolution.
        rhs_dilation: dilation of the kernel.
        dimension_numbers: the layouts, as in `jax.lax`.
        feature_group_count: as in `jax.lax`.
        precision: as in `jax.lax`; holds for the gradients too.
        others: as in `jax.lax`, which gets the convolution if any is given.

    Returns:
        `[batch, *spatial, out_channels]`, of the type of `lhs`. Sums of 16-bit floats are accumulated in float32.
    """
    geometry = window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, feature_group_count

    def plain(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(lhs, rhs, *geometry, precision=precision, **others)

    canonical = (
        lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers) == forms.layout(lhs.ndim)
        and feature_group_count == 1
        and all(value is None for value in others.values())
        and lhs.dtype == rhs.dtype
        and jnp.issubdtype(lhs.dtype, jnp.floating)
    )
    if is_reference() or not canonical:
        return plain(lhs, rhs)
    outputs = jax.eval_shape(plain, lhs, rhs)  # so that whatever is wrong, jax.lax says it
    if 0 in (*lhs.shape, *rhs.shape, *outputs.shape):
        return plain(lhs, rhs)

    ones = (1,) * (lhs.ndim - 2)
    dilation = tuple(rhs_dilation or ones)
    if isinstance(padding, str):
        sizes = [(size - 1) * r + 1 for size, r in zip(rhs.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], sizes, window_strides, padding)
    pads = tuple((int(low), int(high)) for low, high in padding)
    window = Window(tuple(window_strides), pads, tuple(lhs_dilation or ones), dilation, precision)
    return _convolve(lhs[None], rhs[None], window=window, transposed=False)[0]


# In both, the first axis of the operands is that of `jax.vmap`: of size 1 in what is the same for all.
#   convolve_p: lhs [maps, batch, *inputs, in_channels], rhs [maps, *spatial, in_channels, out_channels]
#       -> [maps, batch, *outputs, out_channels]; a transposed one has the kernel flipped and its channels swapped.
#   kernel_gradient_p: lhs as above, g [maps, batch, *outputs, out_channels]
#       -> [maps, *spatial, in_channels, out_channels].
convolve_p = Primitive("neuralmon_convolve")
kernel_gradient_p = Primitive("neuralmon_kernel_gradient")


def _bind(primitive: Primitive, a: jax.Array, b: jax.Array, **params: Any) -> jax.Array:
    # Linear in either, also within shard_map.
    return primitive.bind(*varying_alike(a, b), **params)


_convolve = functools.partial(_bind, convolve_p)
_kernel_gradient = functools.partial(_bind, kernel_gradient_p)


def _maps(a: Any, b: Any) -> int:
    return b.shape[0] if a.shape[0] == 1 else a.shape[0]


def _convolve_shape(lhs: Any, rhs: Any, *, window: Window, transposed: bool) -> Any:
    outputs = window.outputs(lhs.shape[2:-1], rhs.shape[1:-2])
    channels = rhs.shape[-2 if transposed else -1]
    return lhs.update(shape=(_maps(lhs, rhs), lhs.shape[1], *outputs, channels), weak_type=False)


def _kernel_gradient_shape(lhs: Any, g: Any, *, window: Window, spatial: tuple[int, ...]) -> Any:
    del window
    shape = (_maps(lhs, g), *spatial, lhs.shape[-1], g.shape[-1])
    return lhs.update(shape=shape, weak_type=False)


def _summed(gradient: jax.Array, of: Any) -> jax.Array:
    """The gradient of what may be the same for all maps."""
    return gradient if gradient.shape[0] == of.aval.shape[0] else gradient.sum(0, keepdims=True)


def _convolve_lhs(ct: Any, lhs: Any, rhs: jax.Array, *, window: Window, transposed: bool) -> jax.Array:
    back = window.transposed(lhs.aval.shape[2:-1], rhs.shape[1:-2], ct.shape[2:-1])
    return _summed(_convolve(ct, rhs, window=back, transposed=not transposed), lhs)


def _convolve_rhs(ct: Any, lhs: jax.Array, rhs: Any, *, window: Window, transposed: bool) -> jax.Array:
    gradient = _kernel_gradient(lhs, ct, window=window, spatial=rhs.aval.shape[1:-2])
    return _summed(jax.vmap(forms.flip)(gradient) if transposed else gradient, rhs)


def _kernel_gradient_lhs(ct: Any, lhs: Any, g: jax.Array, *, window: Window, spatial: tuple[int, ...]) -> jax.Array:
    back = window.transposed(lhs.aval.shape[2:-1], spatial, g.shape[2:-1])
    return _summed(_convolve(g, ct, window=back, transposed=True), lhs)


def _kernel_gradient_g(ct: Any, lhs: jax.Array, g: Any, *, window: Window, spatial: tuple[int, ...]) -> jax.Array:
    del spatial
    return _summed(_convolve(lhs, ct, window=window, transposed=False), g)


def _batched(bind: Callable[..., jax.Array], args: Any, dims: Any, **params: Any) -> tuple[jax.Array, int]:
    """The rule of `jax.vmap`: its axis joins that of the maps, or the batch where only the inputs have it."""
    mapped = [dim is not None for dim in dims]
    # Two axes of maps, the new one first, each of size 1 in what is the same for all.
    a, b = (jnp.moveaxis(x, dim, 0) if m else x[None] for x, dim, m in zip(args, dims, mapped, strict=True))
    size, maps = _maps(a, b), _maps(a.swapaxes(0, 1), b.swapaxes(0, 1))
    if "transposed" in params and maps == 1 and not mapped[1]:
        outputs = bind(a.reshape(1, -1, *a.shape[3:]), b[0], **params)
        return outputs.reshape(size, 1, -1, *outputs.shape[2:]), 0

    def joined(x: jax.Array) -> jax.Array:
        x = jnp.broadcast_to(x, (size, maps, *x.shape[2:])) if maps > 1 else x
        return x.reshape(-1, *x.shape[2:])

    outputs = bind(joined(a), joined(b), **params)
    return outputs.reshape(size, maps, *outputs.shape[1:]), 0


def _each_map(form: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """A form of one map as one of all."""

    def mapped(a: jax.Array, b: jax.Array, **params: Any) -> jax.Array:
        if _maps(a, b) == 1:
            return form(a[0], b[0], **params)[None]
        axes = [None if x.shape[0] == 1 else 0 for x in (a, b)]
        operands = [x if axis == 0 else x[0] for x, axis in zip((a, b), axes, strict=True)]
        return jax.vmap(functools.partial(form, **params), axes)(*operands)

    return mapped


def _define(
    primitive: Primitive, shape: Callable[..., Any], rules: Any, plain: Callable[..., Any], fast: Callable[..., Any]
) -> None:
    @functools.cache
    def compiled(**params: Any) -> Callable[..., jax.Array]:
        return jax.jit(functools.partial(primitive.bind, **params))

    primitive.def_impl(lambda a, b, **params: compiled(**params)(a, b))
    primitive.def_abstract_eval(shape)
    ad.defbilinear(primitive, *rules)
    batching.primitive_batchers[primitive] = functools.partial(_batched, functools.partial(_bind, primitive))
    for platform, form in ((None, plain), ("cpu", fast)):
        in_xla = mlir.lower_fun(_each_map(form), multiple_results=False)
        rule = lowering(primitive.name, in_xla) if platform == "cpu" else in_xla
        mlir.register_lowering(primitive, rule, platform=platform)


_define(convolve_p, _convolve_shape, (_convolve_lhs, _convolve_rhs), forms.plain, forms.fast)
_define(
    kernel_gradient_p,
    _kernel_gradient_shape,
    (_kernel_gradient_lhs, _kernel_gradient_g),
    forms.plain_kernel_gradient,
    forms.fast_kernel_gradient,
)
