"""Successive halving and Hyperband: many configurations for a short time, few of them for a long one.

A *rung* is an evaluation at which a trial is compared with all those of its bracket that have come there before it or
with it. It goes on if it is among the best 1/eta of them; else it ends, and a new configuration takes its slot.

This is the asynchronous form of successive halving with stopping: nobody waits at a rung for the rest of the bracket,
so no slot is idle and no state is put aside. Where all slots train in one program their trials come to a rung together
and are ranked together, as the synchronous form would; so are those of several workers, which report in rounds.
Decisions depend on the order of the reports alone: a sweep that was killed and is launched again decides as before.

Source: Li et al., "Hyperband", JMLR 18, 2018, algorithm 1; Li et al., "A System for Massively Parallel Hyperparameter
Tuning", MLSys 2020, algorithm 2.
"""

import dataclasses
import math
import random
from collections.abc import Iterator, Sequence
from typing import Annotated

from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt, Range
from neuralmon.sweeps.search import Asked, Continue, Decision, Report, Stop
from neuralmon.sweeps.search.options import read_options
from neuralmon.sweeps.space import SEED, Values

MAX_RUNGS = 4  # of a bracket by default: at eta=3 the shortest training is an 81st of the whole


@dataclasses.dataclass(frozen=True)
class HalvingOptions:
    """Options of `halving` and `hyperband`.

    Attributes:
      eta: of so many trials one goes on at a rung, for so many times as many steps.
      first: the smallest number of steps after which a trial may end; None: the smallest that evaluations and at most
        four rungs allow.
    """

    eta: Annotated[int, Range(2)] = 3
    first: PositiveInt | None = None


def halving(asked: Asked) -> "Halving":
    """Returns successive halving: every configuration may end at the first rung."""
    options = read_options(HalvingOptions, "halving", asked.options)
    rungs = _rungs(asked, options)
    size = asked.trials or asked.space.grid_size()
    if size is None:
        raise RequestError("sweep_trials: say how many configurations are to be drawn")
    return Halving(asked, options.eta, rungs, [0] * size)


def hyperband(asked: Asked) -> "Halving":
    """Returns Hyperband: brackets of successive halving that begin at later and later rungs.

    A configuration that is slow to begin with has a chance in one of the later ones. Without a number of trials there
    are as many as algorithm 1 has; if more are asked for the brackets come again.
    """
    options = read_options(HalvingOptions, "hyperband", asked.options)
    rungs = _rungs(asked, options)
    most = len(rungs)
    # Bracket s of the paper begins at rung most - s, and its trials are ceil((most + 1) / (s + 1) * eta^s).
    sizes = [-(-(most + 1) * options.eta**s // (s + 1)) for s in range(most, -1, -1)]
    one_round = [bracket for bracket, size in enumerate(sizes) for _ in range(size)]
    rounds = -(-(asked.trials or 1) // len(one_round))
    return Halving(asked, options.eta, rungs, (one_round * rounds)[: asked.trials])


@dataclasses.dataclass
class _Standing:
    """How far a trial has come.

    Attributes:
      bracket: the rung at which it is compared first.
      rung: the rung at which it is compared next.
      values: its configuration, which is trained with further seeds if it comes to the end; None: it is one of those.
    """

    bracket: int
    rung: int
    values: Values | None


class Halving:
    """Proposes configurations drawn at random, and ends those that are not among the best at a rung.

    A configuration is judged by its first seed. Those that come to the end are then trained with the other seeds.

    Args:
      asked: what every searcher is made of.
      eta: of so many trials one goes on.
      rungs: where trials are compared, as fractions of a training.
      brackets: for each configuration the first rung at which it is compared.
    """

    upfront = False
    joint = False

    def __init__(self, asked: Asked, eta: int, rungs: Sequence[float], brackets: Sequence[int]) -> None:
        self._space, self._eta, self._rungs = asked.space, eta, rungs
        self._sign = 1.0 if asked.direction == "max" else -1.0
        self._new = list(zip(brackets, drawn(asked, len(brackets)), strict=False))
        self.total = len(self._new) if self._space.repeats == 1 else None
        self._again: list[Values] = []
        self._standings: list[_Standing] = []
        self._judged = 0  # configurations under way that may be trained with further seeds
        self._scores: dict[tuple[int, int], dict[int, float]] = {}  # of a bracket at a rung, by trial

    def propose(self, count: int) -> Sequence[Values] | None:
        """See `Searcher.propose`."""
        proposed: list[Values] = []
        while len(proposed) < count and (self._again or self._new):
            if self._again:
                proposed.append(self._again.pop(0))
                self._standings.append(_Standing(0, len(self._rungs), None))
            else:
                bracket, values = self._new.pop(0)
                proposed.append(self._with_seed(values, 0))
                self._standings.append(_Standing(bracket, bracket, values))
                self._judged += 1
        more = self._judged and self._space.repeats > 1
        return proposed if proposed or more else None

    def report(self, reports: Sequence[Report]) -> Sequence[Decision]:
        """See `Searcher.report`."""
        passed = [self._recorded(report) for report in reports]  # all before the first decision
        return [self._decided(report, rung) for report, rung in zip(reports, passed, strict=True)]

    def _recorded(self, report: Report) -> int | None:
        """Returns the last rung that the trial has come to, at which all it came to have its score; None: none."""
        standing, last = self._standings[report.trial], None
        done = report.step / max(1, report.steps)
        while standing.rung < len(self._rungs) and self._rungs[standing.rung] <= done * (1 + 1e-9):
            last = standing.rung
            score = -math.inf if report.objective is None else self._sign * report.objective
            self._scores.setdefault((standing.bracket, last), {})[report.trial] = score
            standing.rung += 1
        return last

    def _decided(self, report: Report, rung: int | None) -> Decision:
        standing = self._standings[report.trial]
        if report.ended:
            self._judged -= standing.values is not None
            if standing.values is not None and standing.rung == len(self._rungs) and report.objective is not None:
                others = range(1, self._space.repeats)
                self._again += [self._with_seed(standing.values, index) for index in others]
            return Continue()
        if rung is None:
            return Continue()
        scores = self._scores[standing.bracket, rung]
        ranked = sorted(scores, key=lambda trial: (-scores[trial], trial))
        place, going = ranked.index(report.trial), max(1, len(ranked) // self._eta)
        if place < going:
            return Continue()
        self._judged -= standing.values is not None
        return Stop(f"{place + 1} of {len(ranked)} at the rung of step {report.step}")

    def _with_seed(self, values: Values, index: int) -> Values:
        return {**values, SEED: self._space.seeds[index]} if self._space.seeds else values


def drawn(asked: Asked, count: int) -> Iterator[Values]:
    """Yields at most `count` configurations in random order: of lists alone, none twice."""
    space, generator = asked.space, random.Random(asked.seed)
    if space.grid_size() is None:
        for _ in range(count):
            yield space.at([generator.random() for _ in space.dimensions])
        return
    grid = list(space.grid())
    generator.shuffle(grid)
    yield from grid[:count]


def _rungs(asked: Asked, options: HalvingOptions) -> list[float]:
    """Returns where trials may end, as fractions: at the evaluations nearest to 1/eta, 1/eta^2, ... of a training."""
    first = options.first or max(asked.evaluations[0], math.ceil(asked.steps / options.eta**MAX_RUNGS))
    steps: list[int] = []
    target = asked.steps / options.eta
    while target >= first / math.sqrt(options.eta):
        nearest = min(asked.evaluations, key=lambda step: abs(step - target))
        if (options.first or 1) <= nearest < asked.steps and nearest not in steps:
            steps.append(nearest)
        target /= options.eta
    if not steps:
        every, most = asked.evaluations[0], asked.steps // options.eta
        what = f"trials of {asked.steps} steps are to end after some {most}, but the first evaluation is at {every}"
        what = f"first={options.first} is too late for eta={options.eta}" if options.first and every <= most else what
        raise RequestError(f"sweep_search: {what}; give --training.evaluate_every=N")
    return [step / asked.steps for step in reversed(steps)]
