"""What a class's docstring says of its fields; nothing here imports jax."""

import inspect
import re


def meaning(cls: type, field: str) -> str:
    """Returns what the `Attributes:` section of a class or of its bases says of a field."""
    for owner in cls.__mro__:
        _, _, section = inspect.cleandoc(owner.__doc__ or "").partition("\nAttributes:\n")
        if match := re.search(rf"^  {field}: (.*(?:\n    .*)*)", section, re.MULTILINE):
            return " ".join(match[1].split())
    return ""
