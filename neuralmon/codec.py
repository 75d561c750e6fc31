"""The one grammar: text, JSON and typed values.

Flags, constructor expressions, `experiment.json` and printed command lines all speak it. Text and JSON are two
spellings of the same expressions (`Expression`): plain values, tuples, names (`gelu`, `bfloat16`) and calls of
constructors (`CNN(features=(16, 32))`). `build` makes a typed value of an expression, guided by an annotation;
`describe` goes back. Nothing is ever evaluated: names are looked up in `neuralmon.names`, and only dataclasses are
called.
"""

import ast
import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union

import numpy as np

from neuralmon.errors import RequestError
from neuralmon.fields import NumberMark, Range
from neuralmon.names import Names, annotations, field_names, is_dtype


@dataclasses.dataclass(frozen=True)
class Name:
    """A name: of a function, a type, an initialiser."""

    name: str


@dataclasses.dataclass(frozen=True)
class Call:
    """A constructor with its arguments; positional ones only come from text."""

    name: str
    arguments: Mapping[str, Any]
    positional: tuple[Any, ...] = ()


Expression = None | bool | int | float | str | tuple[Any, ...] | Mapping[str, Any] | Name | Call


# --- text -----------------------------------------------------------------------------------------------------------


def parse(text: str, annotation: Any, names: Names) -> Any:
    """Returns the value that `text` says, of the type that `annotation` says.

    Raises:
      RequestError: the text is malformed, names something unknown, or says a value the annotation does not allow.
    """
    base, _ = unwrap(annotation)
    if base is str:
        return _unquoted(text)
    try:
        expression = _read_text(text)
    except RequestError:
        # Where text is one of the possibilities, what is no expression is text.
        if str in _members(base):
            return text
        raise
    return build(expression, annotation, names)


def format(value: Any, names: Names, full: bool = False) -> str:  # noqa: A001
    """Returns text that `parse` reads as `value`; without `full`, fields that have their default are left out."""
    if isinstance(value, str):
        return value if _unquoted(value) == value else repr(value)
    return _write_text(describe(value, names, full))


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        try:
            return str(ast.literal_eval(text))
        except (SyntaxError, ValueError):
            return text
    return text


def _read_text(text: str) -> Expression:
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise RequestError(f"{text!r} cannot be read: expected a number, text, a tuple such as 16,32, a name such "
                           "as gelu, or a constructor such as MLP(hidden=(512,))") from None  # fmt: skip
    return _from_ast(tree.body, text)


def _from_ast(node: ast.expr, text: str) -> Expression:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            value = _from_ast(operand, text)
            if isinstance(value, Name) and value.name == "inf":
                value = math.inf
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_from_ast(element, text) for element in elements)
        case ast.Dict(keys=keys, values=values) if all(isinstance(k, ast.Constant) for k in keys):
            return {str(k.value): _from_ast(v, text) for k, v in zip(keys, values, strict=True)}  # type: ignore[union-attr]
        case ast.Name(id="true" | "false" | "none"):
            return {"true": True, "false": False, "none": None}[node.id]
        case ast.Name() | ast.Attribute() if dotted := _dotted(node):
            return Name(dotted)
        case ast.Call(func=function, args=positional, keywords=keywords) if (dotted := _dotted(function)) and all(
            keyword.arg for keyword in keywords
        ):
            arguments = {str(keyword.arg): _from_ast(keyword.value, text) for keyword in keywords}
            return Call(dotted, arguments, tuple(_from_ast(argument, text) for argument in positional))
    raise RequestError(
        f"{ast.unparse(node)!r} is not a value (in {text!r}): values are numbers, text, tuples, names and constructors"
    )


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        prefix = _dotted(node.value)
        return None if prefix is None else f"{prefix}.{node.attr}"
    return None


def _write_text(expression: Expression) -> str:
    match expression:
        case Name(name=name):
            return _short(name)
        case Call(name=name, arguments=arguments):
            return f"{_short(name)}({', '.join(f'{key}={_write_text(value)}' for key, value in arguments.items())})"
        case tuple():
            return f"({', '.join(map(_write_text, expression))}{',' if len(expression) == 1 else ''})"
        case dict():
            return f"{{{', '.join(f'{key!r}: {_write_text(value)}' for key, value in expression.items())}}}"
    return repr(expression)


def _short(name: str) -> str:
    """Names of neuralmon and of the experiment's file go by their last part; others would be ambiguous."""
    return name if name.split(".")[0] in ("flax", "jax", "optax") else name.rsplit(".", 1)[-1]


# --- JSON -----------------------------------------------------------------------------------------------------------


def to_json(value: Any, names: Names) -> Any:
    """Returns `value` as JSON-ready data with every field in it."""
    return _to_json(describe(value, names, full=True))


def from_json(data: Any, annotation: Any, names: Names) -> Any:
    """Returns the value that `to_json` wrote; nothing but public names is looked up and nothing is run.

    Raises:
      RequestError: the data names something unknown or says a value the annotation does not allow.
    """
    return build(_from_json(data), annotation, names)


def canonical(data: Any) -> str:
    """Returns JSON text that is equal for equal data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _to_json(expression: Expression) -> Any:
    match expression:
        case Name(name=name):
            return {"name": name}
        case Call(name=name, arguments=arguments):
            return {"type": name, **{key: _to_json(value) for key, value in arguments.items()}}
        case tuple():
            return [_to_json(element) for element in expression]
        case dict():
            return {"dict": {key: _to_json(value) for key, value in expression.items()}}
    return expression


def _from_json(data: Any) -> Expression:
    match data:
        case {"type": str(name), **fields}:
            return Call(name, {str(key): _from_json(value) for key, value in fields.items()})
        case {"name": str(name)}:
            return Name(name)
        case {"dict": dict(items)}:
            return {str(key): _from_json(value) for key, value in items.items()}
        case list():
            return tuple(_from_json(element) for element in data)
        case None | bool() | int() | float() | str():
            return data
    raise RequestError(f"{data!r} is no value of an experiment")


# --- values ---------------------------------------------------------------------------------------------------------


def describe(value: Any, names: Names, full: bool = True) -> Expression:
    """Returns the expression of a value: the inverse of `build`."""
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f"{value} is not a finite number")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return tuple(describe(element, names, full) for element in value)
    if isinstance(value, Mapping):
        return {str(key): describe(element, names, full) for key, element in value.items()}
    if (name := names.of_value(value)) is not None:
        return Name(name)
    if is_dtype(value):
        return Name(np.dtype(value).name)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        arguments = {
            name: describe(getattr(value, name), names, full)
            for name in field_names(type(value))
            if full or not _has_default(value, name)
        }
        return Call(names.of_type(type(value)), arguments)
    raise RequestError(
        f"{value!r} has no public name, so it cannot be recorded: use a named function of a module, or a dataclass"
    )


def _has_default(value: Any, name: str) -> bool:
    field = type(value).__dataclass_fields__[name]
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    current = getattr(value, name)
    return default is current or (type(default) is type(current) and bool(default == current))


def unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Returns an annotation's type and the marks that Annotated put on it."""
    if typing.get_origin(annotation) is Annotated:
        return annotation.__origin__, annotation.__metadata__
    return annotation, ()


def _members(annotation: Any) -> tuple[Any, ...]:
    base, _ = unwrap(annotation)
    if typing.get_origin(base) in (Union, types.UnionType):
        return typing.get_args(base)
    return (annotation,)


def number_mark(annotation: Any, value: Any) -> bool:
    """Returns whether `value` in a field so annotated is an argument of the compiled program."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return any(any(isinstance(mark, NumberMark) for mark in unwrap(member)[1]) for member in _members(annotation))


def type_name(annotation: Any) -> str:
    """Returns an annotation as `--help` and errors say it."""
    base, marks = unwrap(annotation)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(member) for member in arguments)
    if base is Any:
        return "a type such as bfloat16" if "dtype" in marks else "any value"
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        inner = ", ".join("..." if argument is Ellipsis else type_name(argument) for argument in arguments)
        return f"tuple ({inner})"
    if base is Callable or origin is Callable or origin is typing.get_origin(Callable[..., Any]):
        return "a function such as gelu"
    plain = "none" if base is type(None) else {int: "int", float: "float"}.get(base, getattr(base, "__name__", str(base)))
    limits = [str(mark) for mark in marks if isinstance(mark, Range) and mark != Range()]
    return " ".join([plain, *limits])


def build(expression: Expression, annotation: Any, names: Names) -> Any:
    """Returns the typed value of an expression.

    Raises:
      RequestError: the expression says no value that `annotation` allows.
    """
    members = _members(annotation)
    if len(members) == 1:
        return _build_one(expression, annotation, names)
    errors: list[RequestError] = []
    for member in members:
        try:
            return _build_one(expression, member, names)
        except RequestError as error:
            # The member of the same kind tells most: `-1` for a rate or a schedule is a wrong rate.
            if getattr(error, "same_kind", False):
                errors.insert(0, error)
    if errors:
        raise errors[0]
    raise RequestError(f"{_show(expression)} is not {type_name(annotation)}")


def _show(expression: Expression) -> str:
    return _write_text(expression) if not isinstance(expression, str) else repr(expression)


def _same_kind(message: str) -> RequestError:
    error = RequestError(message)
    error.same_kind = True  # type: ignore[attr-defined]
    return error


def _build_one(expression: Expression, annotation: Any, names: Names) -> Any:
    base, marks = unwrap(annotation)
    origin, arguments = typing.get_origin(base), typing.get_args(base)
    if base is Any or base is dataclasses.MISSING:
        return _build_any(expression, names)
    if base is type(None):
        if expression is None:
            return None
    elif base is bool:
        if isinstance(expression, bool):
            return expression
    elif base in (int, float):
        return _build_number(expression, base, annotation, marks)
    elif base is str:
        if isinstance(expression, str | Name):
            return expression.name if isinstance(expression, Name) else expression
    elif origin is Literal:
        text = expression.name if isinstance(expression, Name) else expression
        if text in arguments:
            return text
    elif origin is tuple:
        return _build_tuple(expression, annotation, arguments, names)
    elif origin in (dict, Mapping) or base in (dict, Mapping):
        if isinstance(expression, dict):
            inner = arguments[1] if arguments else Any
            return {key: build(value, inner, names) for key, value in expression.items()}
    elif isinstance(expression, Name):
        return names.find(expression.name, base)
    elif isinstance(expression, Call):
        return _build_call(expression, names.find_type(expression.name, base), names)
    raise RequestError(f"{_show(expression)} is not {type_name(annotation)}")


def _build_any(expression: Expression, names: Names) -> Any:
    if isinstance(expression, Name):
        return names.find(expression.name, Any)
    if isinstance(expression, Call):
        return _build_call(expression, names.find_type(expression.name, Any), names)
    if isinstance(expression, tuple):
        return tuple(_build_any(element, names) for element in expression)
    return expression


def _build_number(expression: Expression, base: type, annotation: Any, marks: tuple[Any, ...]) -> int | float:
    if isinstance(expression, Name) and expression.name.lower() in ("nan", "inf"):
        expression = float(expression.name)
    kinds = int if base is int else int | float
    if isinstance(expression, bool) or not isinstance(expression, kinds):
        raise RequestError(f"{_show(expression)} is not {type_name(annotation)}")
    allowed = next((mark for mark in marks if isinstance(mark, Range)), Range())
    # Beyond float's reach an integer cannot be compared, let alone be used.
    if abs(expression) > 1e308 or expression not in allowed:
        raise _same_kind(f"{expression} is out of range: allowed is {allowed}")
    return base(expression)


def _build_tuple(expression: Expression, annotation: Any, arguments: tuple[Any, ...], names: Names) -> tuple[Any, ...]:
    if not isinstance(expression, tuple):
        # `--model.features=16` means one stage.
        if isinstance(expression, str | Name) and arguments[0] is not str:
            raise RequestError(f"{_show(expression)} is not {type_name(annotation)}")
        expression = (expression,)
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(build(element, arguments[0], names) for element in expression)
    if len(arguments) != len(expression):
        raise _same_kind(f"{_show(expression)} has {len(expression)} elements: allowed is {type_name(annotation)}")
    return tuple(build(element, inner, names) for element, inner in zip(expression, arguments, strict=True))


def _build_call(call: Call, cls: type, names: Names) -> Any:
    fields = field_names(cls)
    given = dict(zip(fields, call.positional, strict=False))
    if len(call.positional) > len(fields) or (double := set(given) & set(call.arguments)):
        extra = "too many values" if len(call.positional) > len(fields) else f"{', '.join(sorted(double))} twice"
        raise _same_kind(f"{cls.__name__} was given {extra}")
    given |= call.arguments
    if unknown := [name for name in given if name not in fields]:
        raise _same_kind(f"{cls.__name__} has no field {unknown[0]!r}; its fields are {', '.join(fields) or 'none'}")
    hints = annotations(cls)
    values = {}
    for name, expression in given.items():
        try:
            values[name] = build(expression, hints[name], names)
        except RequestError as error:
            raise _same_kind(f"{cls.__name__}.{name}: {error}") from None
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise _same_kind(f"{cls.__name__}: {error}") from None
