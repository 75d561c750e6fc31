"""Public names: what a flag or a record may call by name, and what a thing is called.

The names are the public ones of neuralmon's rooms, of flax, jax and optax, and of the experiment's own file. There is
no registry: a name is public because its module says so.
"""

import dataclasses
import difflib
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, get_origin

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError

_ROOMS = ("models", "layers", "optim", "data", "tasks", "experiment")
_LIBRARIES = ("flax", "jax", "optax")
# Where activations and the like are looked for by their short name, in this order.
_FUNCTION_MODULES = ("flax.linen", "jax.nn", "jax.numpy")
_DTYPES = ("float32", "bfloat16", "float16", "float64", "int32", "int8", "uint8", "uint32", "bool")


def is_dtype(value: Any) -> bool:
    """Returns whether `value` is an array type such as jnp.bfloat16 or np.dtype("float32")."""
    return isinstance(value, np.dtype | type(jnp.float32)) or (isinstance(value, type) and issubclass(value, np.generic))


def field_names(cls: type) -> tuple[str, ...]:
    """Returns the names of a dataclass's fields that a person sets, in order; not Linen's `parent` and `name`."""
    hidden = ("parent", "name") if issubclass(cls, nn.Module) else ()
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if field.init and field.name not in hidden and field.metadata.get("recorded", True)
    )


def annotations(cls: type) -> dict[str, Any]:
    """Returns the annotation of each field of a dataclass; Any where it cannot be resolved."""
    result: dict[str, Any] = {}
    for owner in reversed(cls.__mro__):
        for name, hint in inspect.get_annotations(owner).items():
            if isinstance(hint, str):
                namespace = vars(sys.modules.get(owner.__module__, types.ModuleType("")))
                try:
                    hint = typing.get_type_hints(types.SimpleNamespace(__annotations__={name: hint}), namespace,
                                                 include_extras=True)[name]  # fmt: skip
                except (NameError, TypeError, AttributeError):
                    hint = Any
            result[name] = hint
    return {name: result.get(name, Any) for name in field_names(cls)}


def conforms(cls: type, kind: Any) -> bool:
    """Returns whether instances of `cls` are what the annotation `kind` asks for."""
    if kind is Any:
        return True
    if not isinstance(kind, type):
        return False
    if getattr(kind, "_is_protocol", False):
        members = [name for name in vars(kind) if name == "__call__" or not name.startswith("_")]
        return all(callable(getattr(cls, name, None)) for name in members)
    return issubclass(cls, kind)


def _is_function_kind(kind: Any) -> bool:
    return kind is Any or kind is Callable or get_origin(kind) is get_origin(Callable[..., Any])


class Names:
    """Looks names up, both ways.

    `module` is the experiment's own file, whose public names count too; its types are recorded by the file's name.
    """

    def __init__(self, module: types.ModuleType | None = None) -> None:
        self.module = module

    def _scopes(self) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.module is not None:
            own = {name: value for name, value in vars(self.module).items() if not name.startswith("_")}
            yield self.module.__name__, own
        for room in _ROOMS:
            module = importlib.import_module(f"neuralmon.{room}")
            yield module.__name__, {name: getattr(module, name) for name in module.__all__}

    def of_type(self, cls: type) -> str:
        """Returns the name that a record says for a dataclass."""
        if self.module is not None and cls.__module__ == self.module.__name__ and cls.__qualname__ == cls.__name__:
            return f"{self.module.__name__}.{cls.__name__}"
        for scope, members in self._scopes():
            if members.get(cls.__name__) is cls:
                return f"{scope}.{cls.__name__}"
        for module_name in ("flax.linen", "optax"):
            if getattr(importlib.import_module(module_name), cls.__name__, None) is cls:
                return f"{module_name}.{cls.__name__}"
        return f"{cls.__module__}.{cls.__qualname__}"

    def of_value(self, value: Any) -> str | None:
        """Returns the public name of a function, or of a constant such as he_normal; None where there is none."""
        if isinstance(value, type) or inspect.ismodule(value):
            return None
        if dataclasses.is_dataclass(value) and not isinstance(value, nn.Module):
            for scope, members in self._scopes():
                for name, member in members.items():
                    if type(member) is type(value) and member == value:
                        return f"{scope}.{name}"
            return None
        if not callable(value) or is_dtype(value) or isinstance(value, nn.Module):
            return None
        for module_name in _FUNCTION_MODULES:
            name = getattr(value, "__name__", "")
            if name and getattr(importlib.import_module(module_name), name, None) is value:
                return f"{module_name}.{name}"
        for scope, members in self._scopes():
            for name, member in members.items():
                if member is value:
                    return f"{scope}.{name}"
        return None

    def _candidates(self, name: str) -> list[Any]:
        prefix, _, last = name.rpartition(".")
        if any(part.startswith("_") for part in name.split(".")):
            return []
        if prefix.split(".")[0] in _LIBRARIES:
            module = sys.modules.get(prefix) or (importlib.import_module(prefix) if prefix == "optax" else None)
            found = getattr(module, last, None)
            return [] if found is None or inspect.ismodule(found) else [found]
        prefix = "neuralmon" + prefix[2:] if prefix == "nm" or prefix.startswith("nm.") else prefix
        found = [
            members[last]
            for scope, members in self._scopes()
            if last in members and (not prefix or scope == prefix or (prefix and scope.endswith(f".{prefix}")))
        ]
        if not prefix:
            functions = [getattr(importlib.import_module(module), last, None) for module in _FUNCTION_MODULES]
            found += [function for function in functions if inspect.isroutine(function) or _is_jitted(function)]
        return found

    def find_type(self, name: str, kind: Any) -> type:
        """Returns the dataclass called `name` that the annotation `kind` allows.

        Raises:
          RequestError: there is none; the message lists those there are.
        """
        found = [c for c in self._candidates(name) if isinstance(c, type) and dataclasses.is_dataclass(c)]
        fitting = [cls for cls in found if conforms(cls, kind)]
        if fitting:
            return fitting[0]
        kind_name = getattr(kind, "__name__", "value").lower()
        if found:
            raise RequestError(f"{name} is not a {kind_name}; {self._offer(kind)}")
        hint = self._nearest(name, kind)
        raise RequestError(f"there is no public {kind_name} {name!r}{hint}; {self._offer(kind)}")

    def find(self, name: str, kind: Any) -> Any:
        """Returns the function, constant, type or array type called `name` that the annotation `kind` allows.

        A dataclass's bare name is its constructor without arguments: `MLP` is `MLP()`.

        Raises:
          RequestError: there is none.
        """
        if kind is Any and name in _DTYPES:
            return jnp.dtype(name).type if name != "bool" else jnp.bool_
        for candidate in self._candidates(name):
            if isinstance(candidate, type):
                if dataclasses.is_dataclass(candidate) and conforms(candidate, kind):
                    try:
                        return candidate()
                    except TypeError as error:
                        raise RequestError(f"{name}: {error}") from None
            elif callable(candidate) and _is_function_kind(kind):
                return candidate
            elif conforms(type(candidate), kind):
                return candidate
        if _is_function_kind(kind):
            wanted = "function or type" if kind is Any else "function"
            raise RequestError(f"there is no public {wanted} {name!r} (looked in the experiment's file, neuralmon, "
                               f"{', '.join(_FUNCTION_MODULES)})")  # fmt: skip
        if not isinstance(kind, type):
            raise RequestError(f"{name} is not a value here")
        raise RequestError(
            f"there is no public {kind.__name__.lower()} {name!r}{self._nearest(name, kind)}; {self._offer(kind)}"
        )

    def _public(self, kind: Any) -> list[str]:
        names = []
        for _, members in self._scopes():
            for name, member in members.items():
                cls = member if isinstance(member, type) else type(member)
                if dataclasses.is_dataclass(cls) and cls is not kind and conforms(cls, kind) and cls is not nn.Module:
                    names.append(name if not isinstance(member, type) else f"{name}(...)")
        return sorted(set(names))

    def _offer(self, kind: Any) -> str:
        return f"there are {', '.join(self._public(kind)) or 'none'}"

    def _nearest(self, name: str, kind: Any) -> str:
        known = [public.removesuffix("(...)") for public in self._public(kind)]
        close = difflib.get_close_matches(name.rsplit(".", 1)[-1], known, n=1, cutoff=0.5)
        return f" (did you mean {close[0]}?)" if close else ""


def _is_jitted(function: Any) -> bool:
    return callable(function) and not isinstance(function, type) and hasattr(function, "lower")


def field_help(cls: type, name: str) -> str:
    """Returns what the `Attributes:` section of a class or of its bases says of a field; docstrings of fields do not exist."""
    for owner in cls.__mro__:
        _, _, section = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")
        match = re.search(rf"^  {re.escape(name)}: (.*(?:\n    .*)*)", section, re.MULTILINE)
        if match:
            return " ".join(match[1].split())
    return ""
