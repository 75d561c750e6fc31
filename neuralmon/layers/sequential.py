"""Networks without a class: layers one after the other, and around each other."""

import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

# A Linen module called with one array, or a function such as nn.relu.
Layers = tuple[nn.Module | Callable[..., Any], ...]


class Sequential(nn.Module):
    """Layers one after the other: y = f_L(... f_2(f_1(x))).

    A layer is any Linen module that takes one array and returns one, or a function such as `nn.relu`. Each place is a
    layer of its own: (block,) * 3 is three blocks, with parameters `layers_0`, `layers_1` and `layers_2`.

    Attributes:
      layers: the layers, first to last.
    """

    layers: Layers

    def __post_init__(self) -> None:
        self.layers = _each_its_own(self.layers)
        super().__post_init__()

    def __call__(self, inputs: Any, train: bool = False) -> Float[Array, "batch ..."]:
        """Returns the outputs of the last layer; `train` reaches the layers that have two modes (see `through`)."""
        return through(self.layers, inputs, train)


class Residual(nn.Module):
    """Layers whose outputs are added to their inputs: y = x + f_L(... f_1(x)).

    Source: He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, eq. 1 and 2.

    Attributes:
      layers: the layers of the branch, first to last; what comes out has the shape of what is added to it.
      shortcut: layers on the other way, such as a 1x1 convolution where the shape changes; (): x as it is.
    """

    layers: Layers
    shortcut: Layers = ()

    def __post_init__(self) -> None:
        self.layers, self.shortcut = _each_its_own(self.layers), _each_its_own(self.shortcut)
        super().__post_init__()

    def __call__(self, inputs: Float[Array, "batch ..."], train: bool = False) -> Float[Array, "batch ..."]:
        """Returns the sum.

        Raises:
          ValueError: the shapes differ.
        """
        branch, shortcut = through(self.layers, inputs, train), through(self.shortcut, inputs, train)
        if branch.shape != shortcut.shape:
            raise ValueError(
                f"Residual cannot add layers' outputs of shape {branch.shape} to inputs of shape {shortcut.shape}: "
                "give it a shortcut=(...) whose outputs have that shape"
            )
        return shortcut + branch


def through(layers: Layers, inputs: Any, train: bool) -> Any:
    """Returns what comes out of layers one after the other.

    A layer that has two modes is told in which it is by the argument it has: `train`, or Linen's own `deterministic`
    (of nn.Dropout) and `use_running_average` (of nn.BatchNorm), which are the opposite. One whose field of that name is
    set stays in its mode, such as nn.BatchNorm(use_running_average=True).

    Raises:
      ValueError: a layer is none, or returns several arrays.
    """
    modes = {"train": train, "deterministic": not train, "use_running_average": not train}
    x = inputs
    for index, layer in enumerate(layers):
        if isinstance(layer, type) or not callable(layer):
            what = f"layer {index} of a stack is {getattr(layer, '__name__', repr(layer))}"
            raise ValueError(f"{what}: give a module, such as Flatten() with its brackets, or a function of arrays")
        takes = inspect.signature(type(layer).__call__).parameters if isinstance(layer, nn.Module) else ()
        told = {name: mode for name, mode in modes.items() if name in takes and getattr(layer, name, None) is None}
        x = layer(x, **told)
        if isinstance(x, tuple | list | dict):
            what = f"layer {index} of a stack, {type(layer).__name__}, returns {len(x)} arrays"
            raise ValueError(f"{what}: it must return one, so give it a class around it that chooses")
    return x


def _each_its_own(layers: Layers) -> Layers:
    """Returns copies of the layers that belong to no module yet, or stand in two places.

    Linen would share the parameters of one object in several places, until the experiment is read from its record.
    """
    own: list[Any] = []
    for layer in layers:
        copied = isinstance(layer, nn.Module) and (layer.parent is None or any(layer is other for other in own))
        own.append(layer.copy(parent=None) if copied else layer)  # type: ignore[union-attr]
    return tuple(own)
