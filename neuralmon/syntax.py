"""Text and JSON: two spellings of the same expressions.

An expression is a plain value, a tuple, a name (`gelu`, `bfloat16`) or the call of a constructor
(`CNN(features=(16, 32))`). Nothing is ever evaluated; what names mean is `neuralmon.codec`'s business.
"""

import ast
import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from neuralmon.errors import RequestError


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


def read_text(text: str) -> Expression:
    """Returns the expression that text spells.

    Raises:
      RequestError: it is not one.
    """
    try:
        return _from_ast(ast.parse(text.strip(), mode="eval").body, text)
    except RequestError:
        raise
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise RequestError(
            f"{shortened(text)!r} cannot be read: expected a number, text, a tuple such as 16,32, a name such as gelu, "
            "or a constructor such as MLP(hidden=(512,))"
        ) from error


def shortened(text: str) -> str:
    """Returns text that fits into a message."""
    return text if len(text) <= 100 else f"{text[:97]}..."


def _from_ast(node: ast.expr, text: str) -> Expression:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value  # type: ignore[return-value]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            value = _from_ast(operand, text)
            if isinstance(value, Name) and value.name == "inf":
                value = math.inf
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return tuple(_from_ast(element, text) for element in elements)
        case ast.Dict(keys=keys, values=values) if all(
            isinstance(key, ast.Constant) and isinstance(key.value, str) for key in keys
        ):
            return {key.value: _from_ast(v, text) for key, v in zip(keys, values, strict=True)}  # type: ignore[union-attr]
        case ast.Name(id="true" | "false" | "none"):
            return {"true": True, "false": False, "none": None}[node.id]
        case ast.Name() | ast.Attribute() if dotted := _dotted(node):
            return Name(dotted)
        case ast.Call(func=function, args=positional, keywords=keywords) if (dotted := _dotted(function)) and all(
            keyword.arg for keyword in keywords
        ):
            arguments = {str(keyword.arg): _from_ast(keyword.value, text) for keyword in keywords}
            return Call(dotted, arguments, tuple(_from_ast(argument, text) for argument in positional))
    part = shortened(ast.unparse(node))
    inside = "" if part == text else f" (in {shortened(text)!r})"
    raise RequestError(f"{part!r} is not a value{inside}: values are numbers, text, tuples, names and constructors")


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        prefix = _dotted(node.value)
        return None if prefix is None else f"{prefix}.{node.attr}"
    return None


def write_text(expression: Expression) -> str:
    """Returns text that `read_text` reads as the expression."""
    match expression:
        case Name(name=name):
            return _short(name)
        case Call(name=name, arguments=arguments):
            return f"{_short(name)}({', '.join(f'{key}={write_text(value)}' for key, value in arguments.items())})"
        case tuple():
            return f"({', '.join(map(write_text, expression))}{',' if len(expression) == 1 else ''})"
        case dict():
            return f"{{{', '.join(f'{key!r}: {write_text(value)}' for key, value in expression.items())}}}"
    return repr(expression)


def _short(name: str) -> str:
    """Names of neuralmon and of the experiment's file go by their last part; others would be ambiguous."""
    return name if name.split(".")[0] in ("flax", "jax", "optax") else name.rsplit(".", 1)[-1]


def unquoted(text: str) -> str:
    """Returns text without the quotes around it, if it is a quoted string."""
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        try:
            return str(ast.literal_eval(text))
        except (SyntaxError, ValueError):
            return text
    return text


def quoted(text: str) -> str:
    """Returns text in quotes if it would be read as something else than itself without them."""
    try:
        bare = read_text(text) == Name(text)
    except RequestError:
        bare = unquoted(text) == text
    return text if bare else repr(text)


def write_json(expression: Expression) -> Any:
    """Returns an expression as JSON-ready data."""
    match expression:
        case Name(name=name):
            return {"name": name}
        case Call(name=name, arguments=arguments):
            if "type" in arguments:
                raise RequestError(f"{name}: a field cannot be called 'type', which is what records say the class with")
            return {"type": name, **{key: write_json(value) for key, value in arguments.items()}}
        case tuple():
            return [write_json(element) for element in expression]
        case dict():
            return {"dict": {key: write_json(value) for key, value in expression.items()}}
    return expression


def read_json(data: Any) -> Expression:
    """Returns the expression that `write_json` wrote.

    Raises:
      RequestError: it did not write this.
    """
    match data:
        case {"type": str(name), **fields}:
            return Call(name, {str(key): read_json(value) for key, value in fields.items()})
        case {"name": str(name), **others} if not others:
            return Name(name)
        case {"dict": dict(items), **others} if not others:
            return {str(key): read_json(value) for key, value in items.items()}
        case list():
            return tuple(read_json(element) for element in data)
        case None | bool() | int() | float() | str():
            return data
    raise RequestError(f"{shortened(repr(data))} is no value of an experiment")


def canonical(data: Any) -> str:
    """Returns JSON text that is equal for equal data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
