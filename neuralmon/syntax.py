"""Expressions as text and as data, which `neuralmon.codec` gives a meaning; nothing is ever evaluated.

16, 1e-3, true, none, "text"     a plain value
16,32 or (16, 32) or [16, 32]    [16, 32]
gelu                             {"name": "gelu"}
MLP((512,), num_classes=3)       {"type": "MLP", "*": [[512]], "num_classes": 3}
{'a': 1}                         {"dict": {"a": 1}}
"""

import ast
import math
from typing import Any

from neuralmon.errors import RequestError

_CONSTANTS = {"true": True, "false": False, "none": None, "nan": math.nan, "inf": math.inf}


def read_text(text: str) -> Any:
    """Returns the expression that text spells; raises RequestError if it spells none."""
    try:
        return _read(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise RequestError(
            f"{text!r:.100} cannot be read: expected a number, text, a tuple such as 16,32 or () for none, a name such "
            "as gelu, or a constructor such as MLP(hidden=(512,))"
        ) from error


def _read(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node.value
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            value = _read(node.operand)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value if isinstance(node.op, ast.USub) else value
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return [_read(element) for element in elements]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            return {"dict": {str(_read(key)): _read(value) for key, value in zip(keys, values, strict=True) if key}}
        case ast.Name() | ast.Attribute() if name := _dotted(node):
            return {"name": name}
        case ast.Call(args=positional, keywords=keywords) if (name := _dotted(node.func)) and all(
            keyword.arg not in (None, "type") for keyword in keywords
        ):
            starred = {"*": [_read(argument) for argument in positional]} if positional else {}
            return {"type": name, **starred, **{str(keyword.arg): _read(keyword.value) for keyword in keywords}}
    part = f"{ast.unparse(node)!r:.100}"
    raise RequestError(f"{part} is not a value: values are numbers, text, tuples, names and constructors")


def _dotted(node: ast.expr) -> str:
    name = ast.unparse(node)
    return name if name.replace(".", "").isidentifier() else ""


def write_text(data: Any) -> str:
    """Returns text that `read_text` reads as the expression."""
    match data:
        case {"name": str(name)} if len(data) == 1:
            return _short(name)
        case {"type": str(name), **fields}:
            parts = [f"{key}={write_text(value)}" for key, value in fields.items() if key != "*"]
            return f"{_short(name)}({', '.join([*map(write_text, data.get('*', ())), *parts])})"
        case {"array": str(kind), "sha256": str()}:
            return f"<{kind}>"
        case {"dict": dict(items)} if len(data) == 1:
            return f"{{{', '.join(f'{key!r}: {write_text(value)}' for key, value in items.items())}}}"
        case list():
            return f"({', '.join(map(write_text, data))}{',' if len(data) == 1 else ''})"
    return repr(data)


def _short(name: str) -> str:
    """Names of neuralmon and of the experiment's file go by their last part; others would be ambiguous."""
    return name if name.split(".")[0] in ("flax", "jax", "optax") else name.rsplit(".", 1)[-1]
