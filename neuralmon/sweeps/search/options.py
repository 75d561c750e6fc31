"""The options of a search: text, as it stands on a command line, into the fields of a dataclass."""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

from neuralmon import codec
from neuralmon.errors import RequestError, did_you_mean
from neuralmon.names import Names, annotations

Options = TypeVar("Options")


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """Options of a search that has none."""


def read_options(kind: type[Options], search: str, texts: Mapping[str, str]) -> Options:
    """Returns the options that `texts` say by name, and the defaults of the rest.

    Args:
      kind: the options' dataclass.
      search: what the search is called.
      texts: name -> text, of a command line such as `--sweep_search='hyperband(eta=4)'`.

    Raises:
      RequestError: there is no such option, or it is not of its type.
    """
    hints = annotations(kind)
    values = {}
    for name, text in texts.items():
        if name not in hints:
            known = f"; it has {', '.join(hints)}" if hints else "; it has none"
            raise RequestError(f"sweep_search: {search} has no option {name!r}{did_you_mean(name, hints)}{known}")
        try:
            values[name] = codec.parse(text, hints[name], Names())
        except RequestError as error:
            raise RequestError(f"sweep_search: {search}({name}={text}): {error}") from None
    return kind(**values)
