"""Public names: what a flag or a record may call by name, and what a thing is called.

The names are the public ones of neuralmon's rooms, of flax, jax and optax, and of the experiment's own file. There is
no registry: a name is public because its module says so.
"""

import dataclasses
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.errors import did_you_mean as did_you_mean

_ROOMS = ("models", "layers", "optim", "data", "tasks", "experiment")
# Functions of arrays that also touch files or settings; a record may not name them.
_IMPURE = {"load", "save", "savez", "fromfile", "frombuffer", "from_dlpack", "set_printoptions", "printoptions"}
# Where activations and the like are looked for by their short name, in this order.
_FUNCTION_MODULES = ("flax.linen", "jax.nn", "jax.numpy")
_LIBRARIES = (*_FUNCTION_MODULES, "flax.linen.initializers", "jax.lax", "jax.nn.initializers", "optax")


def is_dtype(value: Any) -> bool:
    """Returns whether `value` is an array type such as jnp.bfloat16 or np.dtype("float32")."""
    return isinstance(value, np.dtype | type(jnp.float32)) or (
        isinstance(value, type) and issubclass(value, np.generic)
    )


def field_names(cls: type) -> tuple[str, ...]:
    """Returns the names of a dataclass's fields that a person sets, in order; not Linen's `parent` and `name`."""
    hidden = ("parent", "name") if issubclass(cls, nn.Module) else ()
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if field.init and field.name not in hidden and field.metadata.get("recorded", True)
    )


def annotations(cls: type) -> dict[str, Any]:
    """Returns the annotation of each of the `field_names`; Any where the file does not import what it names."""
    try:
        return _annotations(cls)
    except (NameError, TypeError, AttributeError):
        return dict.fromkeys(field_names(cls), Any)


@functools.lru_cache(maxsize=1024)
def _annotations(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: hints.get(name, Any) for name in field_names(cls)}


def is_function_kind(kind: Any) -> bool:
    """Returns whether an annotation asks for any function."""
    return kind is Any or Callable in (kind, typing.get_origin(kind))


def fits(value: Any, kind: Any) -> bool:
    """Returns whether `value`, or what it constructs where it is a class, is what the annotation `kind` asks for."""
    if isinstance(value, type) and (not dataclasses.is_dataclass(value) or inspect.isabstract(value)):
        return False
    origin = typing.get_origin(kind) or kind
    if kind is Any or not isinstance(origin, type):
        return kind is Any
    if not issubclass(value if isinstance(value, type) else type(value), origin):
        return False
    if not (getattr(kind, "_is_protocol", False) and "__call__" in vars(kind)):
        return True
    # Every function has the method of a protocol such as Initializer: what it takes tells them apart.
    takes = len(inspect.signature(kind.__call__).parameters)
    function, takes = (value.__call__, takes) if isinstance(value, type) else (value, takes - 1)
    try:
        return bool(inspect.signature(function).bind(*range(takes)))
    except (TypeError, ValueError):
        return False


class Names:
    """Looks public names up, both ways; those of `module`, the experiment's own file, too.

    `arrays` are the arrays in memory that the file's experiment has, by their SHA-256.
    """

    def __init__(self, module: types.ModuleType | None = None, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        self.module = module
        self.arrays = arrays or {}
        self._public = {**(_members(module) if module else {}), **_shared()}
        self._short = []
        for name, member in self._public.items():
            place, _, last = name.rpartition(".")
            if place not in _LIBRARIES or (place in _FUNCTION_MODULES and not isinstance(member, type)):
                self._short.append((last, member))
        # What the file imports from neuralmon is neuralmon's: a record of it is read without the file.
        every = [*_shared().items(), *self._public.items()]
        self._by_identity = {id(member): name for name, member in reversed(every)}
        self._constants = [pair for pair in every if _is_constant(pair[1])]

    def of_value(self, value: Any) -> str | None:
        """Returns the public name of a function, a class, or a constant such as he_normal; None where there is none."""
        if isinstance(value, nn.Module):
            return None
        if not _is_constant(value):
            return self._by_identity.get(id(value))
        same_type = ((name, member) for name, member in self._constants if type(member) is type(value))
        return next((name for name, member in same_type if member is value or member == value), None)

    def find(self, name: str, kind: Any, called: bool = False) -> Any:
        """Returns what is called `name`, a class if `called`, and fits the annotation `kind`; else RequestError."""
        if kind is Any and is_dtype(getattr(jnp, name, None)):
            return getattr(jnp, name)
        full = f"neuralmon{name[2:]}" if name.startswith("nm.") else name
        found = [member for known, member in [*self._short, *self._public.items()] if known in (name, full)]
        found = [member for member in found if isinstance(member, type) or not called]
        for member in found:
            if fits(member, kind):
                return member
        what = "value" if kind is Any else "function" if is_function_kind(kind) else kind.__name__.lower()
        message = f"{name} cannot be used as {what}"
        if not found:
            known = [short for short, member in self._short if fits(member, kind)]
            message = f"there is no public {what} {name!r}{did_you_mean(name.rpartition('.')[2], known)}"
        if is_function_kind(kind):
            raise RequestError(f"{message}; looked in the experiment's file, neuralmon, {', '.join(_FUNCTION_MODULES)}")
        raise RequestError(message + self.offer(kind))

    def offer(self, kind: Any) -> str:
        """Returns "; there are ..." for what the annotation `kind` allows, or "" if nothing public is such."""
        found = [(name, member) for name, member in self._short if dataclasses.is_dataclass(member)]
        found = [] if is_function_kind(kind) else [(name, member) for name, member in found if fits(member, kind)]
        names = sorted({f"{name}(...)" for name, member in found if isinstance(member, type)})
        values = sorted({name for name, member in found if not isinstance(member, type)})
        # Of published networks there are dozens.
        names += values if len(values) <= 12 else [f"and {len(values)} ready ones such as {values[-1]}"]
        return f"; there are {', '.join(names)}" if names else ""


def _is_constant(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _members(module: types.ModuleType) -> dict[str, Any]:
    names = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    members = {name: vars(module)[name] for name in names if name in vars(module) and name not in _IMPURE}
    return {f"{module.__name__}.{name}": value for name, value in members.items() if not inspect.ismodule(value)}


@functools.cache
def _shared() -> dict[str, Any]:
    """Returns what is public without an experiment's file; the rooms are loaded when this is first asked for."""
    modules = [importlib.import_module(name) for name in (*(f"neuralmon.{room}" for room in _ROOMS), *_LIBRARIES)]
    return {name: member for module in modules for name, member in _members(module).items()}
