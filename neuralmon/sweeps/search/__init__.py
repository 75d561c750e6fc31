"""What a search is: it proposes trials, is told how they do, and says which of them go on; nothing here imports jax.

A searcher is a deterministic function of what it was made with and of the calls so far. It stores nothing: when a
killed sweep is launched again, it is made anew and told everything again.
"""

import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from neuralmon.docstrings import meaning
from neuralmon.errors import RequestError, did_you_mean
from neuralmon.sweeps.grammar import split_top
from neuralmon.sweeps.space import Space, Values


@dataclasses.dataclass(frozen=True)
class Report:
    """How a trial does at one of its evaluations.

    Attributes:
      trial: its number: trials are numbered from 0 in the order in which they were proposed.
      step: updates done.
      steps: updates of the whole training.
      objective: the validation metric that is searched by; None: it is not finite, and the trial ends here.
      ended: the training is over.
      metrics: all metrics of the evaluation that are numbers.
    """

    trial: int
    step: int
    steps: int
    objective: float | None
    ended: bool
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Continue:
    """The trial goes on."""


@dataclasses.dataclass(frozen=True)
class Stop:
    """The trial ends here.

    Attributes:
      reason: why, for its row.
    """

    reason: str


@dataclasses.dataclass(frozen=True)
class Copy:
    """The trial goes on with the state of another one, which is at the same step, and with other numbers.

    Attributes:
      source: the number of a trial that is reported in the same call.
      values: new values by path, of numbers alone.
    """

    source: int
    values: Mapping[str, float]


Decision: TypeAlias = Continue | Stop | Copy
Direction: TypeAlias = Literal["max", "min"]


class Searcher(Protocol):
    """What decides which trials there are.

    Attributes:
      total: how many trials there will be; None: nobody knows yet.
      upfront: all of them are known from the beginning: none depends on how others do, and none is stopped.
      joint: trials take over the states of others: none of them can be trained again alone.
    """

    total: int | None
    upfront: bool
    joint: bool

    def propose(self, count: int) -> Sequence[Values] | None:
        """Returns at most `count` new trials; none: not before others are reported; None: there are no more."""
        ...

    def report(self, reports: Sequence[Report]) -> Sequence[Decision]:
        """Takes reports that came at the same time and returns one decision for each, Continue for what has ended."""
        ...


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a searcher is made of.

    Attributes:
      space: the values there are.
      direction: whether more or less of the objective is better.
      trials: how many there are to be; None: the searcher says.
      seed: of what is drawn.
      steps: updates of a whole training, as the experiment without the sweep's values has it.
      evaluations: after how many of them a trial is reported, in order; the last is `steps`.
      slots: how many trials train at the same time.
      numbers: the paths that are numbers of the program, which may change while it trains.
      options: of this search alone, by name.
    """

    space: Space
    direction: Direction
    trials: int | None = None
    seed: int = 0
    steps: int = 1
    evaluations: tuple[int, ...] = (1,)
    slots: int = 1
    numbers: tuple[str, ...] = ()
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)


# By name: its module, which is loaded when it is asked for and has the function of this name, Asked -> Searcher, and
# the class of its options.
SEARCHES = {
    "grid": ("listed", "NoOptions"),
    "random": ("listed", "NoOptions"),
    "sobol": ("listed", "NoOptions"),
    "tpe": ("optuna", "TpeOptions"),
    "cmaes": ("optuna", "CmaEsOptions"),
    "optuna": ("optuna", "SamplerOptions"),
    "halving": ("halving", "HalvingOptions"),
    "hyperband": ("halving", "HalvingOptions"),
    "pbt": ("pbt", "PbtOptions"),
}


def make_searcher(said: str | None, asked: Asked) -> Searcher:
    """Returns the searcher that is said, with its options: "random", "hyperband(eta=4)".

    None: a grid or, where a number of trials is asked for, random values.

    Raises:
      RequestError: there is none, or it cannot search this space.
    """
    name, options = _read(said or ("grid" if asked.trials is None else "random"))
    make: Any = getattr(_module_of(name), name)
    return make(dataclasses.replace(asked, options=options))


def search_help(said: str) -> str:
    """Returns what a search does, and a line for each of its options; RequestError if there is none."""
    name = _read(said)[0]
    module = _module_of(name)
    does = " ".join((inspect.getdoc(getattr(module, name)) or "").split("\n\n")[0].split())
    options: Any = getattr(module, SEARCHES[name][1])
    lines = [f"--sweep_search={name}: {does.removeprefix('Returns ')}"]
    for field in dataclasses.fields(options):
        line = f"  {f'{field.name}={field.default}':<18} {meaning(options, field.name)}"
        lines.append(textwrap.fill(line, 120, subsequent_indent=" " * 21, break_on_hyphens=False))
    return "\n".join(lines)


def _module_of(name: str) -> Any:
    if name not in SEARCHES:
        known = ", ".join(SEARCHES)
        raise RequestError(f"sweep_search: there is no {name!r}{did_you_mean(name, SEARCHES)}; there are {known}")
    return importlib.import_module(f"{__name__}.{SEARCHES[name][0]}")


def _read(said: str) -> tuple[str, dict[str, str]]:
    """Returns the name of a search and the texts of its options."""
    match = re.fullmatch(r"\s*(\w*)\s*(?:\((.*)\))?\s*", said, re.DOTALL)
    if match is None:
        raise RequestError(f"sweep_search: {said!r} is not written as a search is: tpe, or 'hyperband(eta=4)'")
    options = {}
    for part in split_top(match[2]) if (match[2] or "").strip() else ():
        option, equals, text = part.partition("=")
        if not equals or option.strip() in options:
            raise RequestError(f"sweep_search: {match[1]}: options are written name=value, each once, not {part!r}")
        options[option.strip()] = text.strip()
    return match[1], options
