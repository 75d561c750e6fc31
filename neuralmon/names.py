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
from collections.abc import Callable, Iterable
from typing import Any, get_origin

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError

_ROOMS = ("models", "layers", "optim", "data", "tasks", "experiment")
# Where activations and the like are looked for by their short name, in this order.
_FUNCTION_MODULES = ("flax.linen", "jax.nn", "jax.numpy")
_LIBRARIES = (*_FUNCTION_MODULES, "flax.linen.initializers", "jax.lax", "jax.nn.initializers", "optax")
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def is_dtype(value: Any) -> bool:
    """Returns whether `value` is an array type such as jnp.bfloat16 or np.dtype("float32")."""
    scalar = isinstance(value, type) and issubclass(value, np.generic)
    return scalar or isinstance(value, np.dtype | type(jnp.float32))


def field_names(cls: type) -> tuple[str, ...]:
    """Returns the names of a dataclass's fields that a person sets, in order; not Linen's `parent` and `name`."""
    hidden = ("parent", "name") if issubclass(cls, nn.Module) else ()
    return tuple(
        field.name
        for field in dataclasses.fields(cls)
        if field.init and field.name not in hidden and field.metadata.get("recorded", True)
    )


def required_fields(cls: type) -> list[str]:
    """Returns the names of a dataclass's fields that have no default."""
    fields = ((name, cls.__dataclass_fields__[name]) for name in field_names(cls))  # type: ignore[attr-defined]
    return [name for name, field in fields if dataclasses.MISSING is field.default is field.default_factory]


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
    if is_function_kind(kind):
        return any("__call__" in vars(owner) for owner in cls.__mro__)
    if not isinstance(kind, type):
        return False
    if getattr(kind, "_is_protocol", False):
        members = [name for name in vars(kind) if name == "__call__" or not name.startswith("_")]
        return all(any(name in vars(owner) for owner in cls.__mro__) for name in members) and (
            "__call__" not in members or _takes(cls.__call__, len(inspect.signature(kind.__call__).parameters))
        )
    return issubclass(cls, kind)


def _is_choice(cls: type, kind: Any) -> bool:
    """Returns whether a person may construct `cls` for `kind`; abstract bases, such as Schedule, are out."""
    return (
        dataclasses.is_dataclass(cls) and conforms(cls, kind) and not inspect.isabstract(cls) and cls is not nn.Module
    )


def _fits(value: Any, kind: Any) -> bool:
    """Returns whether a constant or a function is what the annotation `kind` asks for."""
    if dataclasses.is_dataclass(value) or not callable(value):
        return conforms(type(value), kind)
    if getattr(kind, "_is_protocol", False) and "__call__" in vars(kind):
        return _takes(value, len(inspect.signature(kind.__call__).parameters) - 1)
    return is_function_kind(kind)


def _takes(function: Any, arguments: int) -> bool:
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # built-in functions do not say what they take
        pass
    return True


def is_function_kind(kind: Any) -> bool:
    """Returns whether an annotation asks for any function."""
    return kind is Any or kind is Callable or get_origin(kind) is get_origin(Callable[..., Any])


class Names:
    """Looks names up, both ways.

    `module` is the experiment's own file, whose public names count too; its types are recorded by the file's name.
    """

    def __init__(self, module: types.ModuleType | None = None) -> None:
        self.module = module

    def _own(self) -> list[tuple[str, dict[str, Any]]]:
        if self.module is None:
            return []
        public = {n: v for n, v in vars(self.module).items() if not n.startswith("_") and not inspect.ismodule(v)}
        return [(self.module.__name__, public)]

    def _rooms(self) -> list[tuple[str, dict[str, Any]]]:
        modules = [importlib.import_module(f"neuralmon.{room}") for room in _ROOMS]
        return [(module.__name__, {name: getattr(module, name) for name in module.__all__}) for module in modules]

    def of_type(self, cls: type) -> str:
        """Returns the name that a record says for a dataclass."""
        # What the file imports from neuralmon is neuralmon's: a record of it is read without the file.
        for scope, members in [*self._rooms(), *self._own()]:
            for name in (cls.__name__, *members):
                if members.get(name) is cls:
                    return f"{scope}.{name}"
        for module in _LIBRARIES:
            if getattr(importlib.import_module(module), cls.__name__, None) is cls:
                return f"{module}.{cls.__name__}"
        return f"{cls.__module__}.{cls.__qualname__}"

    def check_public(self, cls: type) -> None:
        """Checks that a record of a dataclass can be read again with the experiment's file.

        Raises:
          RequestError: it cannot; without a file, anything goes.
        """
        if self.module is not None and cls not in self._candidates(self.of_type(cls)):
            raise RequestError(
                f"{cls.__qualname__} of {cls.__module__} has no public name in {self.module.__name__}.py, so it cannot "
                f"be recorded: import it there as 'from {cls.__module__} import {cls.__qualname__}'"
            )

    def of_value(self, value: Any) -> str | None:
        """Returns the public name of a function, or of a constant such as he_normal; None where there is none."""
        if isinstance(value, type | nn.Module) or inspect.ismodule(value) or is_dtype(value):
            return None
        if dataclasses.is_dataclass(value):
            for scope, members in [*self._rooms(), *self._own()]:
                for name, member in members.items():
                    if type(member) is type(value) and member == value:
                        return f"{scope}.{name}"
        elif callable(value):
            short = getattr(value, "__name__", "")
            for module in _LIBRARIES:
                if short and getattr(importlib.import_module(module), short, None) is value:
                    return f"{module}.{short}"
            for scope, members in [*self._rooms(), *self._own()]:
                for name, member in members.items():
                    if member is value:
                        return f"{scope}.{name}"
        return None

    def _candidates(self, name: str) -> list[Any]:
        prefix, _, last = name.rpartition(".")
        if any(part.startswith("_") for part in name.split(".")):
            return []
        if prefix in _LIBRARIES:
            found = [getattr(importlib.import_module(prefix), last, None)]
        else:
            prefix = "neuralmon" + prefix[2:] if prefix == "nm" or prefix.startswith("nm.") else prefix
            found = [
                members[last]
                for scope, members in [*self._own(), *self._rooms()]
                if last in members and (not prefix or f".{scope}".endswith(f".{prefix}"))
            ]
            if not prefix:
                functions = [getattr(importlib.import_module(module), last, None) for module in _FUNCTION_MODULES]
                found += [function for function in functions if not isinstance(function, type)]
        return [candidate for candidate in found if candidate is not None and not inspect.ismodule(candidate)]

    def find_type(self, name: str, kind: Any) -> type:
        """Returns the dataclass called `name` that the annotation `kind` allows.

        Raises:
          RequestError: there is none; the message lists those there are.
        """
        found = [c for c in self._candidates(name) if isinstance(c, type) and dataclasses.is_dataclass(c)]
        for cls in found:
            if _is_choice(cls, kind):
                return cls
        raise self._unknown(name, kind, bool(found))

    def find(self, name: str, kind: Any) -> Any:
        """Returns the function, constant, type or array type called `name` that the annotation `kind` allows.

        A dataclass's bare name is its constructor without arguments: `MLP` is `MLP()`.

        Raises:
          RequestError: there is none.
        """
        if kind is Any and is_dtype(getattr(jnp, name, None)):
            return self.find_dtype(name)
        candidates = self._candidates(name)
        for candidate in candidates:
            if not isinstance(candidate, type):
                if _fits(candidate, kind):
                    return candidate
            elif _is_choice(candidate, kind):
                if missing := required_fields(candidate):
                    raise RequestError(f"{name} needs {', '.join(missing)}")
                return candidate()
        raise self._unknown(name, kind, bool(candidates))

    def find_dtype(self, name: str) -> Any:
        """Returns the array type of that name, such as `bfloat16` or `jax.numpy.bfloat16`.

        Raises:
          RequestError: there is none.
        """
        prefix, _, last = name.rpartition(".")
        found = getattr(jnp, last, None) if prefix in ("", "jnp", "np", "numpy", "jax.numpy") else None
        if not is_dtype(found):
            hint = _hint(last, _DTYPES)
            raise RequestError(f"there is no array type {name!r}{hint}; there are {', '.join(_DTYPES)} and so on")
        return found

    def offer(self, kind: Any) -> str:
        """Returns "there are ..." for what the annotation `kind` allows, or "" if nothing public is such."""
        public = [] if is_function_kind(kind) else self._public(kind)
        return f"there are {', '.join(public)}" if public else ""

    def _unknown(self, name: str, kind: Any, found: bool) -> RequestError:
        is_function = is_function_kind(kind)
        what = "function" if is_function and kind is not Any else getattr(kind, "__name__", "value").lower()
        if found:
            message, hint = f"{name} cannot be used as {what}", ""
        else:
            known = [public.removesuffix("(...)") for public in self._public(kind)]
            if is_function:
                known += [public for module in _FUNCTION_MODULES for public in dir(importlib.import_module(module))]
            message, hint = f"there is no public {what} {name!r}", _hint(name.rpartition(".")[2], known)
        if is_function:
            offer = f"looked in the experiment's file, neuralmon, {', '.join(_FUNCTION_MODULES)}"
        else:
            offer = self.offer(kind)
        return RequestError("; ".join(filter(None, [message + hint, offer])))

    def _public(self, kind: Any) -> list[str]:
        names = set()
        for _, members in [*self._own(), *self._rooms()]:
            for name, member in members.items():
                if isinstance(member, type) and _is_choice(member, kind):
                    names.add(f"{name}(...)")
                elif dataclasses.is_dataclass(member) and not isinstance(member, type) and _fits(member, kind):
                    names.add(name)
        return sorted(names)


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [public for public in known if not public.startswith("_")], n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def field_help(cls: type, name: str) -> str:
    """Returns what the `Attributes:` section of a class or of its bases says of a field."""
    for owner in cls.__mro__:
        _, _, section = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")
        match = re.search(rf"^  {re.escape(name)}: (.*(?:\n    .*)*)", section, re.MULTILINE)
        if match:
            return " ".join(match[1].split())
    return ""
