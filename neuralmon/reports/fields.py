"""What `--help` says of an experiment's fields."""

import dataclasses
import inspect
from typing import Any

from neuralmon import codec
from neuralmon.docstrings import meaning
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment, walk


def field_help(experiment: Experiment) -> str:
    """Returns each field with its value, its type and its meaning."""
    lines = ["", "fields (a flag sets a field or replaces a whole part):"]
    for node in walk(experiment):
        try:
            value = codec.format(node.value, experiment.names, annotation=node.annotation)
        except RequestError:  # such as Linen's own initialisers, which have no names
            value = "..."
        said = meaning(type(node.owner), node.field) or (_first_words(node.value) if "." in node.path else "")
        line = "; ".join(filter(None, [codec.type_name(node.annotation), said]))
        lines += [*([] if "." in node.path else [""]), f"  --{node.path}={value}", f"      {line}"]
    return "\n".join(lines)


def _first_words(value: Any) -> str:
    """Returns what a part of a tuple is: the first line of its class's docstring."""
    return inspect.cleandoc(type(value).__doc__ or "").partition("\n")[0] if dataclasses.is_dataclass(value) else ""
