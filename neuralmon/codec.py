"""The one grammar: text and JSON <-> typed values.

Flags, constructor expressions, `experiment.json` and printed command lines all speak it. `from_json` makes a typed
value of an expression (see `neuralmon.syntax`), guided by an annotation; `to_json` goes back. Nothing is ever
evaluated: names are looked up in `neuralmon.names`, and only dataclasses are called. What is malformed, has no public
name or is not allowed by its annotation raises RequestError.
"""

import dataclasses
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union

import jax.numpy as jnp
import numpy as np

from neuralmon.errors import RequestError
from neuralmon.fields import Dtype, NumberMark, Range
from neuralmon.names import Names, annotations, did_you_mean, fits, is_dtype, is_function_kind
from neuralmon.syntax import read_text, write_text


def parse(text: str, annotation: Any, names: Names) -> Any:
    """Returns the value that `text` says, of the type that `annotation` says."""
    try:
        return from_json(read_text(text), annotation, names)
    except RequestError:
        # Paths are no expressions, and patterns neither: `--optimizer.frozen=conv_*,*/bias`.
        if str in _kinds(annotation):
            return text
        if tuple[str, ...] in _kinds(annotation):
            return tuple(part.strip() for part in text.split(","))
        raise


def format(value: Any, names: Names, full: bool = False, annotation: Any = Any) -> str:  # noqa: A001
    """Returns text that `parse` reads as `value`; without `full`, fields that have their default are left out."""
    if not isinstance(value, str):
        return write_text(to_json(value, names, full, annotation))
    try:
        return value if read_text(value) == {"name": value} else repr(value)
    except RequestError:
        return value


def canonical(data: Any) -> str:
    """Returns JSON text that is equal for equal data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def to_json(value: Any, names: Names, full: bool = True, annotation: Any = Any) -> Any:
    """Returns `value` as JSON-ready data: the inverse of `from_json`. Without `full`, defaults are left out."""
    kinds = _kinds(annotation)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{value} is not a finite number")
    if value is None or isinstance(value, bool | int | float | str):
        # One spelling for equal values: 1 for a rate is 1.0.
        return float(value) if type(value) is int and float in kinds and int not in kinds else value
    if isinstance(value, tuple | list):
        inner = element_annotations(annotation, len(value))
        return [to_json(element, names, full, one) for element, one in zip(value, inner, strict=True)]
    if isinstance(value, np.ndarray):
        return {"array": f"{value.dtype}{list(value.shape)}", "sha256": array_digest(value)}
    if isinstance(value, Mapping):
        return {"dict": {str(key): to_json(element, names, full) for key, element in value.items()}}
    if is_dtype(value):
        return {"name": np.dtype(value).name}
    if not isinstance(value, type) and (name := names.of_value(value)):
        return {"name": name}
    cls = type(value)
    if isinstance(value, type) or not dataclasses.is_dataclass(value):
        what = f"{getattr(value, '__qualname__', repr(value))} has no public name, so it cannot be recorded"
        raise RequestError(f"{what}: use a named function of the experiment's file, or a dataclass")
    hints, fields = annotations(cls), dict[str, Any]()
    if "type" in hints:
        raise RequestError(f"{cls.__name__}: a field cannot be called 'type', which is what records say the class with")
    for name in hints:
        if full or not has_default(value, name):
            try:
                fields[name] = to_json(getattr(value, name), names, full, hints[name])
            except RequestError:
                # A default that nobody can name, such as Linen's own initialisers, comes back by itself.
                if not has_default(value, name):
                    raise
    return {"type": names.of_value(cls) or f"{cls.__module__}.{cls.__qualname__}", **fields}


def array_digest(array: np.ndarray) -> str:
    """Returns the SHA-256 of an array's elements: a record says by it which array in memory was meant."""
    return hashlib.sha256(np.ascontiguousarray(array).view(np.uint8).data).hexdigest()


def has_default(value: Any, name: str) -> bool:
    """Returns whether a dataclass's field has its default."""
    field = type(value).__dataclass_fields__[name]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    current = getattr(value, name)
    # 2 for 2.0 is the same number, but True for 1 is not.
    alike = type(default) is type(current) or {type(default), type(current)} == {int, float}
    return default is current or (alike and bool(default == current))


def _kinds(annotation: Any) -> dict[Any, tuple[Any, ...]]:
    """Returns the types that an annotation allows, each with the marks that Annotated put on it."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        kinds = {base: marks for member in typing.get_args(annotation) for base, marks in _kinds(member).items()}
        return {Any: ()} if Any in kinds else kinds
    if typing.get_origin(annotation) in (list, Sequence):
        return {tuple[typing.get_args(annotation)[0], ...]: ()}  # type: ignore[misc]
    if typing.get_origin(annotation) is Annotated and annotation != Dtype:
        return {annotation.__origin__: annotation.__metadata__}
    return {annotation: ()}


def _elements(kind: Any, length: int) -> tuple[Any, ...]:
    """Returns the annotation of each element of a tuple."""
    arguments = typing.get_args(kind) or (Any,)
    return arguments if len(arguments) == length and ... not in arguments else arguments[:1] * length


def element_annotations(annotation: Any, length: int) -> tuple[Any, ...]:
    """Returns the annotation of each element of a tuple that is so annotated."""
    kinds = [base for base in _kinds(annotation) if typing.get_origin(base) is tuple]
    return _elements(kinds[0] if kinds else Any, length)


def number_type(annotation: Any, value: Any) -> type | None:
    """Returns float or int if `value` in a field so annotated is an argument of the compiled program, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    marked = [base for base, marks in _kinds(annotation).items() if NumberMark() in marks]
    return int if int in marked else float if marked else None


def type_name(annotation: Any) -> str:
    """Returns an annotation as `--help` and errors say it."""
    return " or ".join(_kind_name(base, marks) for base, marks in _kinds(annotation).items())


def _kind_name(base: Any, marks: tuple[Any, ...]) -> str:
    arguments = typing.get_args(base)
    if typing.get_origin(base) is Literal:
        return " or ".join(map(str, arguments))
    if typing.get_origin(base) is tuple:
        inner = ", ".join(type_name(argument) for argument in arguments if argument is not ...)
        return f"tuple of {inner}" if ... in arguments else f"tuple ({inner})"
    if is_function_kind(base) and base is not Any:
        return "a function such as gelu"
    words = {Any: "any value", Dtype: "an array type such as bfloat16", bool: "true or false", str: "text"}
    plain = "None" if base is type(None) else words.get(base, getattr(base, "__name__", str(base)))
    return " ".join([plain, *(f"({mark})" for mark in marks if isinstance(mark, Range) and mark != Range())])


def check_kind(value: Any, annotation: Any) -> None:
    """Checks that a dataclass is one of those that `annotation` allows."""
    if not any(fits(value, base) for base in _kinds(annotation)):
        raise RequestError(f"expected {type_name(annotation)}, not {type(value).__name__}")


class _OtherKindError(RequestError):
    """The data is of another kind than the annotation: a tuple for a number, say."""


def from_json(data: Any, annotation: Any, names: Names) -> Any:
    """Returns the value that `to_json` wrote, of the type that `annotation` says."""
    errors = []
    for base, marks in _kinds(annotation).items():
        try:
            return _build(data, base, marks, names)
        except _OtherKindError:
            pass
        except RequestError as error:
            # What is wrong with a value of the right kind tells most: `-1` for a rate or a schedule is a wrong rate.
            errors.append(error)
    if errors:
        raise errors[0]
    offers = "".join(map(names.offer, _kinds(annotation)))
    raise _OtherKindError(f"expected {type_name(annotation)}, not {write_text(data):.100}{offers}")


def _build(data: Any, base: Any, marks: tuple[Any, ...], names: Names) -> Any:
    origin, arguments = typing.get_origin(base) or base, typing.get_args(base)
    has_name = is_function_kind(base) or (isinstance(base, type) and base.__module__ != "builtins")
    if origin is tuple or (base is Any and isinstance(data, list)):
        # `--model.features=16` means one stage.
        elements = data if isinstance(data, list) else [data]
        inner = _elements(base, len(elements))
        if arguments and ... not in arguments and len(arguments) != len(elements):
            raise RequestError(f"{write_text(elements)} has {len(elements)} elements: allowed is {type_name(base)}")
        return tuple(from_json(element, one, names) for element, one in zip(elements, inner, strict=True))
    match data:
        case bool() | int() | float() if base in (int, float):
            return _number(data, base, marks)
        case bool() | int() | float() | str() | None:
            if base in (Any, type(data)) or (origin is Literal and data in arguments):
                return data
        case {"name": str(name)} if len(data) == 1:
            if base == Dtype:
                return _dtype(name)
            if base is str or (origin is Literal and name in arguments):
                return name
            if has_name:
                found = names.find(name, base)
                # A dataclass's bare name is its constructor without arguments: `MLP` is `MLP()`.
                return _call(found, {}, names) if dataclasses.is_dataclass(found) and isinstance(found, type) else found
        case {"type": str(name)} if has_name:
            fields = {key: value for key, value in data.items() if key != "type"}
            return _call(names.find(name, base, called=True), fields, names)
        case {"array": str(kind), "sha256": str(digest)} if base in (Any, np.ndarray):
            if digest not in names.arrays:
                if names.module is not None:
                    raise RequestError(f"the experiment's file makes no array {kind} like the one of the run any more")
                what = f"an array in memory, {kind}, is not in the record"
                raise RequestError(f"{what}: give the file that makes it again, --experiment=FILE")
            return names.arrays[digest]
        case {"dict": dict(items)} if len(data) == 1 and origin in (Any, dict, Mapping):
            return {key: from_json(value, arguments[1] if arguments else Any, names) for key, value in items.items()}
    raise _OtherKindError


def _dtype(name: str) -> Any:
    found = getattr(jnp, last := name.rpartition(".")[2], None)
    if not is_dtype(found):
        hint = did_you_mean(last, common := ("float32", "bfloat16", "float16", "float64"))
        raise RequestError(f"there is no array type {name!r}{hint}; there are {', '.join(common)} and so on")
    return found


def _number(value: float, base: type, marks: tuple[Any, ...]) -> int | float:
    if isinstance(value, bool) or (base is int and isinstance(value, float)):
        raise _OtherKindError
    allowed = next((mark for mark in marks if isinstance(mark, Range)), Range())
    # The program computes in float32; and an integer beyond float64's reach cannot even be compared.
    limit = 3.4e38 if base is float and NumberMark() in marks else 1e308
    if not abs(value) <= limit or value not in allowed:
        within = f", within float{32 if limit < 1e308 else 64}" if limit < abs(value) < math.inf else ""
        raise RequestError(f"{value!s:.100} is out of range: allowed is {allowed}{within}")
    return base(value)


def _call(cls: type, arguments: dict[str, Any], names: Names) -> Any:
    hints, positional = annotations(cls), arguments.pop("*", [])
    fields = {field.name: field for field in dataclasses.fields(cls)}
    ordered = [name for name in hints if not fields[name].kw_only]
    known, given = f"its fields are {', '.join(hints) or 'none'}", dict(zip(ordered, positional, strict=False))
    if len(positional) > len(ordered):
        unnamed = f" without a name ({next(iter(hints))}=...)" if hints and not ordered else ""
        raise RequestError(f"{cls.__name__} was given too many values{unnamed}; {known}")
    if double := set(given) & set(arguments):
        raise RequestError(f"{cls.__name__} was given {', '.join(sorted(double))} twice")
    given |= arguments
    if unknown := [name for name in given if name not in hints]:
        raise RequestError(f"{cls.__name__} has no field {unknown[0]!r}; {known}")
    required = [f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in required if name in hints and name not in given]:
        raise RequestError(f"{cls.__name__} needs {', '.join(missing)}")
    values = {}
    for name, data in given.items():
        try:
            values[name] = from_json(data, hints[name], names)
        except RequestError as error:
            raise RequestError(f"{cls.__name__}.{name}: {error}") from None
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{cls.__name__}: {error}") from None
