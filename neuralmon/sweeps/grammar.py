"""How values of a sweep are written on the command line; nothing here imports jax.

1e-3,1e-2,none     these; commas within brackets belong to a value: MLP(hidden=(64, 64)),CNN()
0..7               whole numbers, both ends included; may stand in a list: 0..3,10
0.1:0.5:5          five numbers, equal steps apart
1e-4:1e-2:log:8    eight numbers, equal factors apart
uniform(0, 0.5)    loguniform(1e-4, 1e-1)  int(1, 8)  choice(relu, gelu): to draw from
"""

import re
from collections.abc import Iterator

from neuralmon.errors import RequestError
from neuralmon.sweeps.domains import Domain, IntUniform, LogUniform, Text, Uniform, as_choice, steps
from neuralmon.syntax import read_text

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER})(:log)?:(\d+)")
_WHOLE = re.compile(r"([-+]?\d+)\.\.([-+]?\d+)")
_DRAWN: dict[str, type[Uniform | LogUniform | IntUniform]] = {
    "uniform": Uniform,
    "loguniform": LogUniform,
    "int": IntUniform,
}
_CALL = re.compile(rf"({'|'.join((*_DRAWN, 'choice'))})\((.*)\)", re.DOTALL)
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def read_domain(text: str) -> Domain:
    """Returns what text says a place may be; raises RequestError if it says nothing of the kind."""
    parts = list(split_top(text))
    if len(parts) == 1 and (call := _CALL.fullmatch(parts[0])):
        arguments = list(split_top(call[2]))
        if call[1] == "choice":
            return as_choice([Text(argument) for argument in arguments])
        ends = [_number(argument) for argument in arguments]
        if len(ends) != 2:
            raise RequestError(f"{call[1]} takes two numbers: {call[1]}(low, high)")
        return _DRAWN[call[1]](*ends)  # type: ignore[arg-type]
    values = [value for part in parts for value in _values(part)]
    return as_choice(values)


def _values(part: str) -> Iterator[Text | int | float]:
    if whole := _WHOLE.fullmatch(part):
        low, high = int(whole[1]), int(whole[2])
        if low > high:
            raise RequestError(f"{part}: there is no number in this range")
        yield from range(low, high + 1)
    elif match := _RANGE.fullmatch(part):
        yield from steps(_number(match[1]), _number(match[2]), int(match[4]), log=bool(match[3])).values
    elif re.match(rf"{_NUMBER}(:|\.\.)", part):
        raise RequestError(f"{part}: ranges are written 0..7, low:high:count or low:high:log:count")
    else:
        yield Text(part)


def _number(text: str) -> int | float:
    value = read_text(text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RequestError(f"{text}: expected a number")
    return value


def split_top(text: str) -> Iterator[str]:
    """Yields the parts of text between commas outside of brackets and quotes; raises RequestError for an empty one."""
    part, open_, quote = "", list[str](), ""
    for letter in (*text, ","):
        if letter == "," and not open_ and not quote:
            if not part.strip():
                raise RequestError(f"{text!r}: there is nothing {'in it' if not text.strip() else 'before a comma'}")
            yield part.strip()
            part = ""
            continue
        part += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in _CLOSING:
            open_.append(_CLOSING[letter])
        elif open_ and letter == open_[-1]:
            open_.pop()
    if part:
        raise RequestError(f"{part[:-1].strip()!r}: a {'quote' if quote else 'bracket'} is not closed")
