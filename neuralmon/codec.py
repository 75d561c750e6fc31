"""The one grammar: text and JSON <-> typed values.

Flags, constructor expressions, `experiment.json` and printed command lines all speak it. `build` makes a typed value of
an expression (see `neuralmon.syntax`), guided by an annotation; `describe` goes back. Nothing is ever evaluated: names
are looked up in `neuralmon.names`, and only dataclasses are called.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union

import numpy as np

from neuralmon.errors import RequestError
from neuralmon.fields import Dtype, NumberMark, Range
from neuralmon.names import Names, annotations, conforms, field_names, is_dtype, is_function_kind, required_fields
from neuralmon.syntax import (
    Call,
    Expression,
    Name,
    canonical,
    quoted,
    read_json,
    read_text,
    shortened,
    unquoted,
    write_json,
    write_text,
)

__all__ = [
    "build",
    "canonical",
    "check_kind",
    "describe",
    "format",
    "from_json",
    "has_default",
    "number_type",
    "parse",
    "to_json",
    "type_name",
]


def parse(text: str, annotation: Any, names: Names) -> Any:
    """Returns the value that `text` says, of the type that `annotation` says.

    Raises:
      RequestError: the text is malformed, names something unknown, or says a value the annotation does not allow.
    """
    members = _members(annotation)
    if members == (str,):
        return unquoted(text)
    if members == (tuple[str, ...],) and text.strip()[:1] not in ("", "(", "[", "'", '"'):
        # `--optimizer.frozen=conv_*,*/bias`: patterns are no expressions.
        return tuple(part.strip() for part in text.split(","))
    try:
        return build(read_text(text), annotation, names)
    except RequestError:
        # Where text is one of the possibilities, what is nothing else is text.
        if str in members:
            return unquoted(text)
        raise


def format(value: Any, names: Names, full: bool = False, annotation: Any = Any) -> str:  # noqa: A001
    """Returns text that `parse` reads as `value`; without `full`, fields that have their default are left out."""
    return quoted(value) if isinstance(value, str) else write_text(describe(value, names, full, annotation))


def to_json(value: Any, names: Names) -> Any:
    """Returns `value` as JSON-ready data with every field in it."""
    return write_json(describe(value, names))


def from_json(data: Any, annotation: Any, names: Names) -> Any:
    """Returns the value that `to_json` wrote; nothing but public names is looked up and nothing is run.

    Raises:
      RequestError: the data names something unknown or says a value the annotation does not allow.
    """
    return build(read_json(data), annotation, names)


# --- values to expressions ------------------------------------------------------------------------------------------


def describe(value: Any, names: Names, full: bool = True, annotation: Any = Any) -> Expression:
    """Returns the expression of a value: the inverse of `build`. Without `full`, defaults are left out."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{value} is not a finite number")
    if value is None or isinstance(value, bool | int | float | str):
        # One spelling for equal values: 1 for a rate is 1.0.
        return float(value) if type(value) is int and _wants_float(annotation) else value
    if isinstance(value, tuple | list):
        base = next((m for m in _members(annotation) if typing.get_origin(m) is tuple), tuple[Any, ...])
        inner = _elements(base, len(value))
        return tuple(describe(element, names, full, one) for element, one in zip(value, inner, strict=False))
    if isinstance(value, Mapping):
        return {str(key): describe(element, names, full) for key, element in value.items()}
    if (name := names.of_value(value)) is not None:
        return Name(name)
    if is_dtype(value):
        return Name(np.dtype(value).name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        arguments, hints = {}, annotations(type(value))
        for name in field_names(type(value)):
            if full or not has_default(value, name):
                try:
                    arguments[name] = describe(getattr(value, name), names, full, hints[name])
                except RequestError:
                    # A default that nobody can name, such as Linen's own initialisers, comes back by itself.
                    if not has_default(value, name):
                        raise
        return Call(names.of_type(type(value)), arguments)
    raise RequestError(
        f"{getattr(value, '__qualname__', repr(value))} has no public name, so it cannot be recorded: "
        "use a named function of the experiment's file, or a dataclass"
    )


def has_default(value: Any, name: str) -> bool:
    """Returns whether a dataclass's field has its default."""
    field = type(value).__dataclass_fields__[name]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    current = getattr(value, name)
    return default is current or (type(default) is type(current) and bool(default == current))


# --- annotations ----------------------------------------------------------------------------------------------------


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Returns an annotation's type and the marks that Annotated put on it."""
    if typing.get_origin(annotation) is Annotated:
        return annotation.__origin__, annotation.__metadata__
    return annotation, ()


def _members(annotation: Any) -> tuple[Any, ...]:
    base, _ = _unwrap(annotation)
    members = typing.get_args(base) if typing.get_origin(base) in (Union, types.UnionType) else (annotation,)
    return (Any,) if Any in members else members


def _elements(annotation: Any, length: int) -> tuple[Any, ...]:
    arguments = typing.get_args(annotation)
    return (arguments[0],) * length if arguments[-1:] == (Ellipsis,) else arguments


def _wants_float(annotation: Any) -> bool:
    bases = [_unwrap(member)[0] for member in _members(annotation)]
    return float in bases and int not in bases


def number_type(annotation: Any, value: Any) -> type | None:
    """Returns float or int if `value` in a field so annotated is an argument of the compiled program, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    marks = [mark for member in _members(annotation) for mark in _unwrap(member)[1]]
    return (float if _wants_float(annotation) else int) if NumberMark() in marks else None


def type_name(annotation: Any) -> str:
    """Returns an annotation as `--help` and errors say it."""
    base, marks = _unwrap(annotation)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if len(members := _members(annotation)) > 1:
        return " or ".join(map(type_name, members))
    if annotation == Dtype:
        return "an array type such as bfloat16"
    if base is Any:
        return "any value"
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        if arguments[-1:] == (Ellipsis,):
            return f"tuple of {type_name(arguments[0])}"
        return f"tuple ({', '.join(map(type_name, arguments))})"
    if is_function_kind(base):
        return "a function such as gelu"
    plain = {type(None): "None", bool: "true or false", str: "text"}.get(base, getattr(base, "__name__", str(base)))
    limits = [f"({mark})" for mark in marks if isinstance(mark, Range) and mark != Range()]
    return " ".join([plain, *limits])


def check_kind(value: Any, annotation: Any) -> None:
    """Checks that a dataclass is one of those that `annotation` allows.

    Raises:
      RequestError: it is not.
    """
    if not any(conforms(type(value), _unwrap(member)[0]) for member in _members(annotation)):
        raise RequestError(f"expected {type_name(annotation)}, not {type(value).__name__}")


# --- expressions to values ------------------------------------------------------------------------------------------


class _OtherKindError(RequestError):
    """The expression is of another kind than the annotation: a tuple for a number, say."""


def build(expression: Expression, annotation: Any, names: Names) -> Any:
    """Returns the typed value of an expression.

    Raises:
      RequestError: the expression says no value that `annotation` allows.
    """
    first: RequestError | None = None
    for member in _members(annotation):
        try:
            return _build_one(expression, member, names)
        except _OtherKindError:
            pass
        except RequestError as error:
            # What is wrong with a value of the right kind tells most: `-1` for a rate or a schedule is a wrong rate.
            first = first or error
    if first:
        raise first
    kinds = [base for member in _members(annotation) if _is_part(base := _unwrap(member)[0])]
    message = f"expected {type_name(annotation)}, not {shortened(write_text(expression))}"
    raise _OtherKindError("; ".join(filter(None, [message, *map(names.offer, kinds)])))


def _build_one(expression: Expression, annotation: Any, names: Names) -> Any:
    base, marks = _unwrap(annotation)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    match expression:
        case Name(name=name) if annotation == Dtype:
            return names.find_dtype(name)
        case _ if base is Any and annotation != Dtype:
            return _build_any(expression, names)
        case None if base is type(None):
            return None
        case bool() if base is bool:
            return expression
        case str() if base is str:
            return expression
        case Name(name=name) if base is str:
            return name
        case _ if base in (int, float):
            return _build_number(expression, base, marks)
        case _ if origin is Literal:
            value = expression.name if isinstance(expression, Name) else expression
            if any(value == allowed and type(value) is type(allowed) for allowed in arguments):
                return value
        case _ if origin is tuple:
            return _build_tuple(expression, base, names)
        case dict() if origin in (dict, Mapping) or base in (dict, Mapping):
            return {key: build(value, arguments[1] if arguments else Any, names) for key, value in expression.items()}
        case Name(name=name) if _is_part(base):
            return names.find(name, base)
        case Call(name=name) if _is_part(base):
            return _build_call(expression, names.find_type(name, base), names)
    raise _OtherKindError()


def _is_part(base: Any) -> bool:
    return is_function_kind(base) or (isinstance(base, type) and base.__module__ != "builtins")


def _build_any(expression: Expression, names: Names) -> Any:
    match expression:
        case Name(name=name):
            return names.find(name, Any)
        case Call(name=name):
            return _build_call(expression, names.find_type(name, Any), names)
        case tuple():
            return tuple(_build_any(element, names) for element in expression)
        case dict():
            return {key: _build_any(value, names) for key, value in expression.items()}
    return expression


def _build_number(expression: Expression, base: type, marks: tuple[Any, ...]) -> int | float:
    if isinstance(expression, Name) and expression.name.lower() in ("nan", "inf"):
        expression = float(expression.name)
    if isinstance(expression, bool) or not isinstance(expression, int if base is int else int | float):
        raise _OtherKindError()
    allowed = next((mark for mark in marks if isinstance(mark, Range)), Range())
    # The program computes in float32; and an integer beyond float64's reach cannot even be compared.
    limit, within = (3.4e38, ", within float32") if base is float and NumberMark() in marks else (1e308, "")
    if not abs(expression) <= limit or expression not in allowed:
        within = within if limit < abs(expression) < math.inf else ""
        raise RequestError(f"{shortened(str(expression))} is out of range: allowed is {allowed}{within}")
    return base(expression)


def _build_tuple(expression: Expression, base: Any, names: Names) -> tuple[Any, ...]:
    # `--model.features=16` means one stage.
    elements = expression if isinstance(expression, tuple) else (expression,)
    inner = _elements(base, len(elements))
    if len(inner) != len(elements):
        raise RequestError(f"{write_text(elements)} has {len(elements)} elements: allowed is {type_name(base)}")
    return tuple(build(element, one, names) for element, one in zip(elements, inner, strict=True))


def _build_call(call: Call, cls: type, names: Names) -> Any:
    fields = field_names(cls)
    given = dict(zip(fields, call.positional, strict=False))
    if len(call.positional) > len(fields):
        raise RequestError(f"{cls.__name__} was given too many values; its fields are {', '.join(fields) or 'none'}")
    if double := set(given) & set(call.arguments):
        raise RequestError(f"{cls.__name__} was given {', '.join(sorted(double))} twice")
    given |= call.arguments
    if unknown := [name for name in given if name not in fields]:
        raise RequestError(f"{cls.__name__} has no field {unknown[0]!r}; its fields are {', '.join(fields) or 'none'}")
    if missing := [name for name in required_fields(cls) if name not in given]:
        raise RequestError(f"{cls.__name__} needs {', '.join(missing)}")
    hints = annotations(cls)
    values = {}
    for name, expression in given.items():
        try:
            values[name] = build(expression, hints[name], names)
        except RequestError as error:
            raise RequestError(f"{cls.__name__}.{name}: {error}") from None
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise RequestError(f"{cls.__name__}: {error}") from None
