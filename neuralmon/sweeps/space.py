"""The values that a sweep tries; nothing here imports jax.

A space is a mapping from dotted paths of an experiment to what may stand there: a list, a range, a distribution, one
value, the text of the command line, or a function of the values of the paths before it, as a dictionary, that returns
one of these (an empty list leaves the place as the experiment has it).

A *configuration* is a choice of all values but `training.seed`: seeds that are listed repeat each configuration.
"""

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from neuralmon.errors import RequestError
from neuralmon.sweeps.domains import Choice, Domain, IntUniform, LogUniform, Recorded, Text, Uniform, as_choice
from neuralmon.sweeps.grammar import read_domain
from neuralmon.syntax import read_text

SEED = "training.seed"
Values: TypeAlias = dict[str, Any]  # by path; texts of the command line are `Text`, and read where they go
Conditional: TypeAlias = Callable[[Mapping[str, Any]], Any]


@dataclasses.dataclass(frozen=True)
class Dimension:
    """Places that get their values together, one or those that are zipped.

    Attributes:
      paths: where.
      domain: what: for several paths choices between tuples; or a function of the values of earlier dimensions.
    """

    paths: tuple[str, ...]
    domain: Domain | Conditional

    def given(self, values: Values) -> Domain | None:
        """Returns the domain after these values; None: nothing is changed here."""
        if not callable(self.domain):
            return self.domain
        said = self.domain({path: _plain(value) for path, value in values.items()})
        if isinstance(said, Sequence) and not isinstance(said, str) and len(said) == 0:
            return None
        return as_domain(self.paths[0], said)

    def with_value(self, values: Values, value: Any) -> Values:
        """Returns the values and this dimension's."""
        return {**values, **dict(zip(self.paths, value if len(self.paths) > 1 else (value,), strict=True))}


@dataclasses.dataclass(frozen=True)
class Space:
    """Dimensions in order; the last one varies fastest in a grid.

    Attributes:
      dimensions: all but the seeds.
      seeds: what `training.seed` is in turn, for each configuration; (): what the experiment says.
    """

    dimensions: tuple[Dimension, ...]
    seeds: tuple[Any, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any], zipped: Sequence[Sequence[str]] = ()) -> "Space":
        """Returns the space of a mapping, `zipped` being groups of paths that go through their values together.

        Raises:
          RequestError: it is empty, or its parts do not go together.
        """
        if not given:
            raise RequestError("a sweep needs something to vary: --sweep.PATH=VALUES")
        domains = {path: as_domain(path, values) for path, values in given.items()}
        groups: dict[str, tuple[str, ...]] = {}
        for group in map(tuple, zipped):
            for path in group:
                if path not in domains:
                    raise RequestError(f"sweep_zip: {path} has no values: give --sweep.{path}=VALUES")
                if path in groups or group.count(path) > 1:
                    raise RequestError(f"sweep_zip: {path} is there twice")
                if not isinstance(domains[path], Choice):
                    raise RequestError(f"sweep_zip: {path}: only lists can be gone through together")
                groups[path] = group
            if len({len(domains[path]) for path in group}) > 1:  # type: ignore[arg-type]
                lengths = ", ".join(f"{path} has {len(domains[path])}" for path in group)  # type: ignore[arg-type]
                raise RequestError(f"sweep_zip: as many values each are needed, but {lengths}")
        seeds = domains.get(SEED)
        repeated = isinstance(seeds, Choice) and SEED not in groups
        dimensions: list[Dimension] = []
        for path in domains:
            group = groups.get(path, (path,))
            if path != group[0] or (repeated and path == SEED):
                continue
            domain = domains[path] if len(group) == 1 else _zip([domains[one] for one in group])
            dimensions.append(Dimension(group, domain))
        return cls(tuple(dimensions), seeds.values if isinstance(seeds, Choice) and repeated else ())

    @property
    def paths(self) -> tuple[str, ...]:
        """All paths, in order; the seed last."""
        paths = tuple(path for dimension in self.dimensions for path in dimension.paths)
        return (*paths, SEED) if self.seeds else paths

    @property
    def repeats(self) -> int:
        """Trials of each configuration."""
        return max(1, len(self.seeds))

    def repeated(self, configurations: Iterator[Values]) -> Iterator[Values]:
        """Yields each configuration with each seed."""
        for values in configurations:
            yield from ({**values, SEED: seed} for seed in self.seeds) if self.seeds else [values]

    def grid(self) -> Iterator[Values]:
        """Yields every configuration; RequestError if there is a distribution, which has no end of values."""
        return functools.reduce(self._crossed, self.dimensions, iter([Values()]))

    def at(self, fractions: Sequence[float]) -> Values:
        """Returns the configuration at a point of the unit cube, which has as many sides as there are dimensions."""
        values = Values()
        for dimension, u in zip(self.dimensions, fractions, strict=True):
            domain = dimension.given(values)
            if domain is not None:
                values = dimension.with_value(values, domain.at(float(u)))
        return values

    def grid_size(self) -> int | None:
        """Returns how many configurations the grid has; None: it has no end, or only going through it tells."""
        domains = [dimension.domain for dimension in self.dimensions]
        if not all(isinstance(domain, Choice) for domain in domains):
            return None
        return math.prod([len(domain) for domain in domains if isinstance(domain, Choice)])

    def to_json(self, write: Callable[[Any], Any]) -> dict[str, Any]:
        """Returns the space as JSON-ready data, of which `write` makes values that are no plain ones."""

        def one(value: Any) -> Any:
            if isinstance(value, Text):
                return {"text": str(value)}
            plain = value is None or isinstance(value, bool | int | float | str)
            return value if plain else {"data": value.data if isinstance(value, Recorded) else write(value)}

        def dimension(given: Dimension) -> dict[str, Any]:
            said: dict[str, Any] = {"paths": list(given.paths)}
            if callable(given.domain):
                return {**said, "function": getattr(given.domain, "__name__", "function")}
            if not isinstance(given.domain, Choice):
                return {**said, "draw": str(given.domain)}
            zipped = len(given.paths) > 1
            return {**said, "values": [[*map(one, value)] if zipped else one(value) for value in given.domain.values]}

        return {"dimensions": [*map(dimension, self.dimensions)], "seeds": [*map(one, self.seeds)]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Space":
        """Returns the space of `to_json`'s data; RequestError if a function is part of it."""

        def one(value: Any) -> Any:
            match value:
                case {"text": str(text)}:
                    return Text(text)
                case {"data": recorded}:
                    return Recorded(recorded)
            return value

        def dimension(said: Mapping[str, Any]) -> Dimension:
            paths = tuple(said["paths"])
            if "function" in said:
                raise RequestError(
                    f"{paths[0]} is a function, which is no part of a record: give --experiment=FILE again"
                )
            if "draw" in said:
                return Dimension(paths, read_domain(said["draw"]))
            return Dimension(paths, Choice(*(tuple(map(one, v)) if len(paths) > 1 else one(v) for v in said["values"])))

        return cls(tuple(map(dimension, data["dimensions"])), tuple(map(one, data["seeds"])))

    @staticmethod
    def _crossed(before: Iterator[Values], dimension: Dimension) -> Iterator[Values]:
        for values in before:
            domain = dimension.given(values)
            if domain is None:
                yield values
            elif isinstance(domain, Choice):
                yield from (dimension.with_value(values, value) for value in domain.values)
            else:
                what = f"{dimension.paths[0]}: {domain} is to be drawn from: say how many trials there are"
                raise RequestError(f"{what} (--sweep_trials=N)")


def as_domain(path: str, given: Any) -> Any:
    """Returns what a place may be, from what may stand in a space."""
    try:
        if isinstance(given, Uniform | LogUniform | IntUniform):
            return given
        if isinstance(given, Choice):
            return as_choice(given.values)
        if inspect.isfunction(given) or isinstance(given, functools.partial):
            return given
        if isinstance(given, str):
            return read_domain(given)
        if isinstance(given, list | tuple | range):
            return as_choice(list(given))
        return Choice(given)
    except RequestError as error:
        raise RequestError(f"--sweep.{path}: {error}") from None


def _zip(domains: Sequence[Any]) -> Choice:
    return Choice(*zip(*(domain.values for domain in domains), strict=True))


def _plain(value: Any) -> Any:
    """Returns what functions of values see: of a text of the command line the number, or else the text."""
    if not isinstance(value, Text):
        return value
    try:
        read = read_text(value)
    except RequestError:
        return str(value)
    return read if read is None or isinstance(read, bool | int | float | str) else str(value)
