"""Convolution in C++: float32, on CPU, in two spatial dimensions."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import mlir

from neuralmon.ops import native


def lowering(name: str, in_xla: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the rule that lowers a convolution for CPU: to the native function `name` where that can be."""

    def rule(ctx: mlir.LoweringRuleContext, *operands: Any, **params: Any) -> Sequence[Any]:
        if not native.available() or not _covers(ctx, **params):
            return in_xla(ctx, *operands, **params)
        window = params["window"]
        low = [pair[0] for pair in window.padding]
        numbers = np.array([*window.strides, *low, *window.lhs_dilation, *window.rhs_dilation], np.int64)
        attributes = {"transposed": params["transposed"]} if "transposed" in params else {}
        return jax.ffi.ffi_lowering(name)(ctx, *operands, window=numbers, **attributes)

    return rule


def _covers(ctx: mlir.LoweringRuleContext, window: Any, transposed: bool = False, spatial: Any = None) -> bool:
    del transposed
    operands: Sequence[Any] = ctx.avals_in
    kernel = spatial or operands[1].shape[1:-2]
    return (
        all(aval.dtype == jnp.float32 for aval in operands)
        and len(kernel) == 2
        and (spatial is None or max(window.lhs_dilation) == 1)
        # A matrix product, of which XLA makes the most.
        and (max(*kernel, *window.strides, *window.lhs_dilation) > 1 or bool(np.any(window.padding)))
        and native.on_one_device(ctx.module_context)
    )
