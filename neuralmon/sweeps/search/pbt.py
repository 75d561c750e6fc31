"""Population based training: trainings that take over each other's states and then vary their numbers.

All members of a population train at the same time, in one worker. At an evaluation each of the worst ones goes on with
the state of one of the best ones (exploit by truncation) and with other numbers than it (explore). So what is found is
a schedule of the numbers; the rows of the trials have it (see `schedule_of`).

Source: Jaderberg et al., "Population Based Training of Neural Networks", arXiv:1711.09846, section 3 and appendix A.
"""

import dataclasses
import random
from collections.abc import Sequence
from typing import Annotated, Any

from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt, Range
from neuralmon.sweeps.domains import Choice, Domain, IntUniform, rounded
from neuralmon.sweeps.search import Asked, Continue, Copy, Decision, Report
from neuralmon.sweeps.search.halving import drawn
from neuralmon.sweeps.search.options import read_options
from neuralmon.sweeps.space import SEED, Dimension, Values
from neuralmon.sweeps.trials import number_of

FACTORS = 0.8, 1.2


@dataclasses.dataclass(frozen=True)
class PbtOptions:
    """Options of `pbt`.

    Attributes:
      every: steps from one exchange to the next, at the evaluation that follows; None: at each evaluation.
      truncate: fraction of the population that gives up its state, and fraction it is taken from.
      resample: probability that a number is drawn anew; else it is multiplied by 0.8 or 1.2, or is a neighbour in its
        list.
    """

    every: PositiveInt | None = None
    truncate: Annotated[float, Range(0, 0.5, above=True)] = 0.2
    resample: Annotated[float, Range(0, 1)] = 0.25


def pbt(asked: Asked) -> "Pbt":
    """Returns population based training; the population is as large as trials are asked for, or as there are slots."""
    options = read_options(PbtOptions, "pbt", asked.options)
    size = asked.trials or asked.slots
    if size > asked.slots:
        what = f"a population trains at the same time: {size} trials need as many slots, not {asked.slots}"
        raise RequestError(f"sweep_search=pbt: {what} (--sweep_slots={size})")
    if size < 2:
        raise RequestError("sweep_search=pbt: a population has two members or more (--sweep_trials=N)")
    if len(asked.evaluations) < 2:
        what = "there is no evaluation before the end; give --training.evaluate_every=N"
        raise RequestError(f"sweep_search=pbt: {what}")
    if not _numbers(asked):
        what = f"none of {', '.join(asked.space.paths)} is a number that may change during a training"
        raise RequestError(f"sweep_search=pbt: {what}")
    return Pbt(asked, options, size)


@dataclasses.dataclass
class _Member:
    """A trial.

    Attributes:
      values: what it trains with now.
      exchanged: the step of the last exchange it could take part in.
    """

    values: Values
    exchanged: int = 0


class Pbt:
    """Proposes a population at once; says at evaluations which trials copy which.

    Args:
      asked: what every searcher is made of.
      options: see there.
      size: of the population.
    """

    upfront = False
    joint = True  # a trial cannot be trained again without the others

    def __init__(self, asked: Asked, options: PbtOptions, size: int) -> None:
        self._space, self._options, self._seed = asked.space, options, asked.seed
        self._sign = 1.0 if asked.direction == "max" else -1.0
        self._changed = _numbers(asked)
        self._paths = [path for dimension in self._changed for path in dimension.paths]
        configurations = list(drawn(asked, -(-size // self._space.repeats)))
        everyone = list(self._space.repeated(iter(configurations)))
        # A grid smaller than the population is gone through again.
        self._waiting = [everyone[index % len(everyone)] for index in range(size)]
        self.total = size
        self._members: list[_Member] = []

    def propose(self, count: int) -> Sequence[Values] | None:
        """See `Searcher.propose`."""
        if not self._waiting:
            return None
        proposed, self._waiting = self._waiting[:count], self._waiting[count:]
        self._members += [_Member(values) for values in proposed]
        return proposed

    def report(self, reports: Sequence[Report]) -> Sequence[Decision]:
        """See `Searcher.report`."""
        groups: dict[tuple[int, str], list[Report]] = {}
        for report in reports:
            if not report.ended and report.objective is not None and self._is_due(report):
                groups.setdefault((report.step, self._structure(report.trial)), []).append(report)
        copies: dict[int, Copy] = {}
        for (step, _), group in groups.items():
            copies |= self._exchanged(step, group)
        return [copies.get(report.trial, Continue()) for report in reports]

    def _is_due(self, report: Report) -> bool:
        member, every = self._members[report.trial], self._options.every or 1
        if report.step // every == member.exchanged // every:
            return False
        member.exchanged = report.step
        return True

    def _exchanged(self, step: int, group: Sequence[Report]) -> dict[int, Copy]:
        ranked = sorted(group, key=lambda report: (-self._sign * (report.objective or 0.0), report.trial))
        count = max(1, int(len(ranked) * self._options.truncate)) if len(ranked) > 1 else 0
        best, worst = ranked[:count], ranked[len(ranked) - count :]
        copies = {}
        for report in worst:
            # Numbers drawn for this trial and step alone: the same whoever else is there.
            generator = random.Random(f"{self._seed}/{step}/{report.trial}")
            source = generator.choice(best).trial
            member, winner = self._members[report.trial], self._members[source]
            member.values = self._explored(generator, winner.values, member.values)
            numbers = {path: number_of(value) for path, value in member.values.items() if path in self._paths}
            copies[report.trial] = Copy(source, {path: value for path, value in numbers.items() if value is not None})
        return copies

    def _explored(self, generator: random.Random, values: Values, own: Values) -> Values:
        """Returns the winner's values, varied; what is no number of the program, such as the seed, stays one's own."""
        explored = Values()
        for dimension in self._space.dimensions:
            domain = dimension.given(explored)
            if dimension not in self._changed or domain is None or dimension.paths[0] not in values:
                explored |= {path: own[path] for path in dimension.paths if path in own}
                continue
            value = tuple(values[path] for path in dimension.paths)
            varied = _varied(generator, domain, value if len(value) > 1 else value[0], self._options.resample)
            explored = dimension.with_value(explored, varied)
        return explored | ({SEED: own[SEED]} if self._space.seeds else {})

    def _structure(self, trial: int) -> str:
        """Returns what trials have in common that can copy each other."""
        values = self._members[trial].values
        return str([(path, str(value)) for path, value in values.items() if path not in self._paths and path != SEED])


def _numbers(asked: Asked) -> list[Dimension]:
    """Returns the dimensions that may change while a trial trains."""
    numbers = set(asked.numbers) - {SEED}
    return [dimension for dimension in asked.space.dimensions if set(dimension.paths) <= numbers]


def _varied(generator: random.Random, domain: Domain, value: Any, resample: float) -> Any:
    """Returns another value of the domain near this one, or any."""
    anew, up = generator.random() < resample, generator.random() < 0.5
    if anew:
        return domain.at(generator.random())
    if isinstance(domain, Choice):
        place = domain.values.index(value) + (1 if up else -1)
        return domain.values[min(max(place, 0), len(domain) - 1)]
    scaled = value * FACTORS[up]
    if isinstance(domain, IntUniform):
        scaled = round(scaled) if round(scaled) != value else value + (1 if up else -1)
        return min(max(scaled, domain.low), domain.high)
    return float(min(max(rounded(scaled), domain.low), domain.high))
