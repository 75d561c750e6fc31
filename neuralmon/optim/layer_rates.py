"""Layer-wise learning rates: factors for the parameters whose paths match a pattern."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from neuralmon.fields import NonNegativeNumber
from neuralmon.optim.freezing import matches, path_name

Tree = Any


@dataclasses.dataclass(frozen=True)
class LayerRate:
    """Another learning rate for some of the parameters.

    Attributes:
      pattern: which parameters, by their paths: 'conv_*', '*/bias' (the patterns of `frozen`).
      factor: multiplies their learning rate; with 0 they stand still, but still cost their gradients.
    """

    pattern: str
    factor: NonNegativeNumber


def rate_of_each(params: Tree, rates: tuple[LayerRate, ...]) -> dict[str, LayerRate | None]:
    """Returns by path which of `rates` a parameter has, the first that matches; None: the plain learning rate."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    return {name: next((rate for rate in rates if matches(name, (rate.pattern,))), None) for name in names}


def unused(params: Tree, rates: tuple[LayerRate, ...]) -> tuple[str, ...]:
    """Returns the patterns that no parameter's rate comes from: always a mistake.

    Such a pattern matches nothing, or earlier ones match all that it does.
    """
    chosen = [id(rate) for rate in rate_of_each(params, rates).values()]
    return tuple(rate.pattern for rate in rates if id(rate) not in chosen)


def scale_by_layer_rates(rates: tuple[LayerRate, ...]) -> optax.GradientTransformation:
    """Returns the transformation that multiplies each update by the factor of its parameter."""

    def update(updates: Tree, state: optax.EmptyState, params: Tree = None) -> tuple[Tree, optax.EmptyState]:
        chosen = rate_of_each(updates, rates)

        def scaled(path: tuple[Any, ...], leaf: Any) -> Any:
            rate = chosen[path_name(path)]
            return leaf if rate is None else leaf * jnp.asarray(rate.factor, leaf.dtype)

        return jax.tree_util.tree_map_with_path(scaled, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
