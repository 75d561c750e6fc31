"""Trials that are known from the beginning: a grid, random values, a Sobol sequence."""

import random as random_numbers
from collections.abc import Iterator, Sequence

from neuralmon.errors import RequestError
from neuralmon.sweeps.search import Asked, Continue, Decision, Report
from neuralmon.sweeps.search.options import NoOptions, read_options
from neuralmon.sweeps.space import Values


class Listed:
    """Proposes the trials of a list in order."""

    upfront = True
    joint = False

    def __init__(self, trials: Sequence[Values]) -> None:
        self.total = len(trials)
        self._waiting = list(trials)

    def propose(self, count: int) -> Sequence[Values] | None:
        """See `Searcher.propose`."""
        if not self._waiting:
            return None
        proposed, self._waiting = self._waiting[:count], self._waiting[count:]
        return proposed

    def report(self, reports: Sequence[Report]) -> Sequence[Decision]:
        """See `Searcher.report`."""
        return [Continue() for _ in reports]


def grid(asked: Asked) -> Listed:
    """Returns every combination of the listed values."""
    read_options(NoOptions, "grid", asked.options)
    if asked.trials is not None:
        raise RequestError("sweep_trials: a grid has as many as it has; leave it out, or --sweep_search=random")
    return Listed(list(asked.space.repeated(asked.space.grid())))


def random(asked: Asked) -> Listed:
    """Returns combinations that are drawn at random: of lists alone, none twice."""
    read_options(NoOptions, "random", asked.options)
    count, space, generator = configurations(asked), asked.space, random_numbers.Random(asked.seed)
    size = space.grid_size()
    if size is not None:
        if count > size:
            what = f"{count} are more than the {size} combinations of these values"
            raise RequestError(f"sweep_trials: {what}; leave it out for all of them")
        chosen = set(generator.sample(range(size), count))
        drawn: Iterator[Values] = (values for index, values in enumerate(space.grid()) if index in chosen)
    else:
        drawn = (space.at([generator.random() for _ in space.dimensions]) for _ in range(count))
    return Listed(list(space.repeated(drawn)))


def sobol(asked: Asked) -> Listed:
    """Returns combinations at the points of a scrambled Sobol sequence, which fill the space evenly.

    Source: Sobol 1967; Owen, "Scrambling Sobol' and Niederreiter-Xing points", J. Complexity 14, 1998.
    """
    import warnings

    from scipy.stats import qmc

    read_options(NoOptions, "sobol", asked.options)
    count = configurations(asked)
    if not asked.space.dimensions:
        raise RequestError(f"sweep_search=sobol: there is nothing to draw but {asked.space.paths[0]}")
    sequence = qmc.Sobol(len(asked.space.dimensions), scramble=True, rng=asked.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a number that is no power of 2 is somewhat less even
        points = sequence.random(count)
    return Listed(list(asked.space.repeated(asked.space.at(point.tolist()) for point in points)))


def configurations(asked: Asked) -> int:
    """Returns how many configurations make so many trials."""
    if asked.trials is None:
        raise RequestError("sweep_trials: say how many trials are to be drawn")
    count, rest = divmod(asked.trials, asked.space.repeats)
    if count < 1 or rest:
        what = f"{asked.trials} trials are no multiple of the {asked.space.repeats} seeds"
        raise RequestError(f"sweep_trials: {what}, each of which every configuration is trained with")
    return count
