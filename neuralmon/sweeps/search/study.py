"""A study of Optuna's: each configuration is asked for and told.

What Optuna is told is the mean of a configuration's objective over its seeds. Its study is in memory and made anew when
a killed sweep is launched again, from the same reports in the same order. A storage is written for people to look at
(such as with optuna-dashboard), and nothing is decided by what is in it.

Source: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.
"""

import dataclasses
import importlib
import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any

from neuralmon.codec import canonical
from neuralmon.errors import RequestError, first_line
from neuralmon.fields import PositiveInt
from neuralmon.sweeps.domains import Choice, Domain, IntUniform, LogUniform, rounded
from neuralmon.sweeps.search import Asked, Continue, Decision, Report
from neuralmon.sweeps.search.listed import configurations
from neuralmon.sweeps.space import Dimension, Values
from neuralmon.sweeps.trials import number_of


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """What all searches by Optuna can be told.

    Attributes:
      batch: configurations under way at the same time, none of which knows of the others' results; None: as many as
        there are slots, but at most an eighth of all or 4, and for CMA-ES its population.
      storage: a file of Optuna's journal, or the URL of a data base (sqlite:///study.db), in which what has ended is
        written to be looked at; None: nowhere.
      study: the name of the study in the storage.
    """

    batch: PositiveInt | None = None
    storage: str | None = None
    study: str = "neuralmon"


@dataclasses.dataclass
class _Configuration:
    """One that was asked for: Optuna's trial, and what its seeds have come to so far."""

    number: int
    trial: Any
    objectives: list[float | None] = dataclasses.field(default_factory=list)


class Study:
    """Proposes what a sampler says, each configuration with all its seeds.

    Args:
      asked: what every searcher is made of.
      options: of the study.
      sampler: Optuna's.
    """

    upfront = False
    joint = False

    def __init__(self, asked: Asked, options: StudyOptions, sampler: Any) -> None:
        count, self._space = configurations(asked), asked.space
        self.total = count * self._space.repeats
        self._study = quietly(imported("optuna").create_study, direction=_DIRECTIONS[asked.direction], sampler=sampler)
        self._copy = _Copy(asked, options) if options.storage else None
        self._batch = options.batch or min(asked.slots, max(4, math.ceil(count / 8)))
        self._left, self._asked = count, 0
        self._waiting: list[Values] = []
        self._under_way: dict[int, _Configuration] = {}

    def propose(self, count: int) -> Sequence[Values] | None:
        """See `Searcher.propose`."""
        while len(self._waiting) < count and self._left and len(self._under_way) < self._batch:
            self._waiting += self._space.repeated(iter([self._ask()]))
        if not self._waiting and not self._left:
            return None
        proposed, self._waiting = self._waiting[:count], self._waiting[count:]
        return proposed

    def report(self, reports: Sequence[Report]) -> Sequence[Decision]:
        """See `Searcher.report`."""
        for report in reports:
            if not report.ended:
                continue
            configuration = self._under_way[report.trial // self._space.repeats]
            configuration.objectives.append(report.objective)
            if len(configuration.objectives) == self._space.repeats:
                self._tell(self._under_way.pop(configuration.number))
        return [Continue() for _ in reports]

    def _ask(self) -> Values:
        trial, values = self._study.ask(), Values()
        try:
            for dimension in self._space.dimensions:
                domain = dimension.given(values)
                if domain is not None:
                    values = dimension.with_value(values, _suggested(trial, _name(dimension, domain), domain))
        except (ImportError, ValueError) as error:
            raise RequestError(f"sweep_search: {first_line(error)}") from None
        self._under_way[self._asked] = _Configuration(self._asked, trial)
        self._asked, self._left = self._asked + 1, self._left - 1
        return values

    def _tell(self, configuration: _Configuration) -> None:
        known = [objective for objective in configuration.objectives if objective is not None]
        if len(known) == len(configuration.objectives):
            told = self._study.tell(configuration.trial, math.fsum(known) / len(known))
        else:
            # Optuna has it that a trial which was given up, and of which no value is known, is worse than all others.
            told = self._study.tell(configuration.trial, state=imported("optuna").trial.TrialState.PRUNED)
        if self._copy:
            self._copy.add(configuration.number, told)


class _Copy:
    """The study in a storage, for people to look at."""

    def __init__(self, asked: Asked, options: StudyOptions) -> None:
        library, storage = imported("optuna"), str(options.storage)
        described = [list(asked.space.paths), asked.direction, asked.trials, asked.seed, dict(asked.options)]
        try:
            if "://" not in storage:
                backend = library.storages.journal.JournalFileBackend(storage)
                storage = library.storages.JournalStorage(backend)
            study = quietly(
                library.create_study,
                storage=storage,
                study_name=options.study,
                direction=_DIRECTIONS[asked.direction],
                load_if_exists=True,
            )
        except Exception as error:
            what = f"the storage {options.storage} cannot be used ({first_line(error)})"
            raise RequestError(f"sweep_search: {what}") from error
        trials = study.get_trials(deepcopy=False)
        if trials and study.user_attrs.get("sweep") != canonical(described):
            what = f"the study {options.study!r} in {options.storage} is of another sweep"
            raise RequestError(f"sweep_search: {what}: give this one another name (study=...)")
        study.set_user_attr("sweep", canonical(described))
        self._study = study
        self._there = {trial.user_attrs.get("configuration") for trial in trials}

    def add(self, number: int, told: Any) -> None:
        """Adds what has ended, unless an earlier launch did."""
        if number not in self._there:
            told.user_attrs = {"configuration": number}
            told.system_attrs = {}
            self._study.add_trial(told)


_DIRECTIONS = {"max": "maximize", "min": "minimize"}


def _name(dimension: Dimension, domain: Domain) -> str:
    """Returns what Optuna calls a dimension: its values must be the same wherever the name is."""
    name = ",".join(dimension.paths)
    return f"{name} of {domain}" if callable(dimension.domain) else name


def is_category(domain: Any) -> bool:
    """Returns whether neighbours in the domain have nothing to do with each other; rising numbers have."""
    if not isinstance(domain, Choice):
        return False
    numbers = [number_of(value) for value in domain.values]
    rising = [number for number in numbers if number is not None]
    return None in numbers or any(one >= other for one, other in itertools.pairwise(rising))


def _suggested(trial: Any, name: str, domain: Domain) -> Any:
    """Returns the value that Optuna's trial has of a domain."""
    if isinstance(domain, IntUniform):
        return trial.suggest_int(name, domain.low, domain.high)
    if not isinstance(domain, Choice):
        value = trial.suggest_float(name, domain.low, domain.high, log=isinstance(domain, LogUniform))
        return float(min(max(rounded(value), domain.low), domain.high))
    if len(domain) == 1:
        return domain.values[0]
    if not is_category(domain):
        return domain.values[trial.suggest_int(f"{name} (place in its list)", 0, len(domain) - 1)]
    texts = [_text(value) or f"value {index}" for index, value in enumerate(domain.values)]
    if len(set(texts)) < len(texts):
        texts = [f"{index}: {text}" for index, text in enumerate(texts)]
    return domain.values[texts.index(trial.suggest_categorical(name, texts))]


def _text(value: Any) -> str:
    """Returns what people read for a value; "" for one that has no text that is the same in every launch."""
    if isinstance(value, tuple):
        return ", ".join(map(_text, value))
    return str(value) if value is None or isinstance(value, bool | int | float | str) else ""


def quietly(function: Any, *arguments: Any, **named: Any) -> Any:
    """Returns what the function does, without what Optuna says of experimental arguments and new studies."""
    logging = imported("optuna").logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments, **named)
    finally:
        logging.set_verbosity(before)


def imported(library: str) -> Any:
    """Returns the library; RequestError that says how to install it if it is missing."""
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError:
        what = f"it needs {library}, which is not installed"
        raise RequestError(f"sweep_search: {what}: pip install 'neuralmon[search]'") from None
