"""Searches that learn from the trials before, by Optuna's samplers."""

import dataclasses
import math
from typing import Any

from neuralmon.errors import RequestError, did_you_mean, first_line
from neuralmon.fields import PositiveInt
from neuralmon.sweeps.domains import Choice, IntUniform
from neuralmon.sweeps.search import Asked
from neuralmon.sweeps.search.options import read_options
from neuralmon.sweeps.search.study import Study, StudyOptions, imported, is_category, quietly


@dataclasses.dataclass(frozen=True)
class TpeOptions(StudyOptions):
    """Options of `tpe`.

    Attributes:
      startup: configurations that are drawn at random before the first one is chosen.
    """

    startup: PositiveInt = 10


@dataclasses.dataclass(frozen=True)
class CmaEsOptions(StudyOptions):
    """Options of `cmaes`.

    Attributes:
      population: configurations of one generation; None: 4 + 3 ln(places of the space).
    """

    population: PositiveInt | None = None


@dataclasses.dataclass(frozen=True)
class SamplerOptions(StudyOptions):
    """Options of `optuna`.

    Attributes:
      sampler: the name of a class in optuna.samplers that needs no arguments.
    """

    sampler: str = "TPESampler"


def tpe(asked: Asked) -> "Study":
    """Returns a search by the tree-structured Parzen estimator: values as they were where the best trials are.

    Source: Bergstra et al., "Algorithms for Hyper-Parameter Optimization", NeurIPS 2011; of several values together,
    Falkner et al., "BOHB", ICML 2018.
    """
    options = read_options(TpeOptions, "tpe", asked.options)
    return Study(
        asked,
        options,
        _sampler(
            "TPESampler",
            seed=asked.seed,
            n_startup_trials=options.startup,
            multivariate=True,
            group=any(callable(dimension.domain) for dimension in asked.space.dimensions),
            constant_liar=True,
        ),
    )


def cmaes(asked: Asked) -> "Study":
    """Returns a search by covariance matrix adaptation: generations of a normal distribution that moves and narrows.

    Places whose values are no numbers are drawn at random.

    Source: Hansen, "The CMA Evolution Strategy: A Tutorial", arXiv:1604.00772.
    """
    options = read_options(CmaEsOptions, "cmaes", asked.options)
    domains = [dimension.domain for dimension in asked.space.dimensions]
    numeric = [domain for domain in domains if not callable(domain) and not is_category(domain)]
    if len(numeric) < 2:
        raise RequestError("sweep_search=cmaes: it takes two places or more that are numbers; use tpe")
    imported("cmaes")
    population = options.population or 4 + math.floor(3 * math.log(len(numeric)))
    margin = any(isinstance(domain, IntUniform | Choice) for domain in numeric)
    return Study(
        asked,
        dataclasses.replace(options, batch=options.batch or population),
        _sampler(
            "CmaEsSampler", seed=asked.seed, popsize=population, with_margin=margin, warn_independent_sampling=False
        ),
    )


def optuna(asked: Asked) -> "Study":
    """Returns a search by any of the samplers that Optuna has."""
    options = read_options(SamplerOptions, "optuna", asked.options)
    return Study(asked, options, _sampler(options.sampler, seed=asked.seed))


def _sampler(name: str, **arguments: Any) -> Any:
    samplers = imported("optuna").samplers
    if name not in samplers.__all__ or name == "BaseSampler":
        known = [other for other in samplers.__all__ if other.endswith("Sampler") and other != "BaseSampler"]
        what = f"optuna.samplers has no {name!r}{did_you_mean(name, known)}; it has {', '.join(known)}"
        raise RequestError(f"sweep_search: {what}")
    try:
        return quietly(getattr(samplers, name), **arguments)
    except (TypeError, ImportError) as error:
        raise RequestError(f"sweep_search: {name} cannot be used: {first_line(error)}") from None
