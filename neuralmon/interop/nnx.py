"""Models as Flax NNX modules, for programs that are written in it."""

from collections.abc import Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from neuralmon.inspection import check_variables
from neuralmon.interop.weights import Variables


class NNXModel(nnx.bridge.ToNNX):  # type: ignore[misc]
    """A Linen module as an NNX module: `nnx.jit`, `nnx.value_and_grad` and `nnx.Optimizer` take it as any other.

    Its parameters are `nnx.Param`s and its running statistics `nnx.BatchStat`s, under the names of the Linen module.
    """

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        """Returns the model's outputs; with `train=True` its running statistics change, as in NNX's own modules."""
        if options.get("train"):
            options.setdefault("mutable", [name for name in from_nnx(self) if name != "params"] or False)
        return super().__call__(*inputs, **options)


def to_nnx(
    module: nn.Module, *inputs: Any, variables: Mapping[str, Any] | None = None, rngs: nnx.Rngs | int = 0
) -> NNXModel:
    """Returns a Linen module as an NNX module, its parameters in it.

        model = nm.interop.to_nnx(nm.models.CNN(num_classes=10), images)
        logits = model(images)
        optimizer = nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param)

    Args:
      module: any Linen module with all sizes given.
      inputs: what it is called with, or only its shape.
      variables: what `module.apply` takes, such as trained parameters; None: drawn anew.
      rngs: the random keys, or a seed, of the parameters and of dropout.

    Raises:
      RequestError: the variables are not this module's.
    """
    rngs = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs)
    if variables is None:
        variables = jax.jit(module.init)(
            rngs.params(),
            *jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jax.dtypes.canonicalize_dtype(leaf.dtype)), inputs),
        )
    else:
        check_variables(module, variables, *inputs)
    model = NNXModel(module, rngs=rngs)
    attributes: dict[tuple[str, ...], nnx.Variable] = {}
    for (collection, *path), array in flax.traverse_util.flatten_dict(flax.core.meta.unbox(dict(variables))).items():
        kind = nnx.variable_type_from_name(collection, allow_register=True)
        attributes[tuple(path)] = kind(jnp.asarray(array))
    for name, tree in flax.traverse_util.unflatten_dict(attributes).items():
        setattr(model, name, nnx.data(tree))
    return model


def from_nnx(model: nnx.bridge.ToNNX) -> Variables:
    """Returns the variables of an NNX module made by `to_nnx`, as `module.apply` takes them."""
    variables: dict[tuple[Any, ...], Any] = {}
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Not(nnx.RngState))):
        variables[nnx.variable_name_from_type(type(variable)), *path] = variable[...]
    return flax.traverse_util.unflatten_dict(variables)
