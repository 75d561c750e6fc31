"""Which values of a sweep mattered: how much of what makes trials differ goes with each path.

Source: Hutter et al., "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014: functional analysis
of variance of a random forest that was fitted to the trials. Watanabe et al., "PED-ANOVA", IJCAI 2023: how the values
of the best tenth of the trials lie otherwise than those of all.
"""

import dataclasses
import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from neuralmon.codec import canonical
from neuralmon.sweeps.search import Direction

Method: TypeAlias = Literal["fANOVA", "PED-ANOVA"]
MIN_TRIALS = 8  # of fewer than that nothing can be said


@dataclasses.dataclass(frozen=True)
class Importance:
    """What share each path has.

    Attributes:
      shares: by path, the largest first; they add up to 1, or are none.
      method: how they were found; where there are none, why.
    """

    shares: Mapping[str, float]
    method: str

    def __str__(self) -> str:
        said = ", ".join(f"{path} {share:.0%}" for path, share in self.shares.items())
        return f"{said} ({self.method})" if said else f"cannot be said: {self.method}"


def importance(
    values: Sequence[Mapping[str, Any]],
    objectives: Sequence[float | None],
    direction: Direction,
    method: Method = "fANOVA",
) -> Importance:
    """Returns the share of each path in how objectives differ.

    A number counts by its place among the numbers that were tried: so it does not matter on which scale it was varied.

    Args:
      values: of each trial, by path, as in its row; seeds too: their share is what is left to chance.
      objectives: of each trial; None: it diverged, and counts as the worst of the others.
      direction: whether more or less of the objective is better.
      method: fANOVA takes seconds and scikit-learn; without that it is PED-ANOVA, which takes no time.
    """
    known = [objective for objective in objectives if objective is not None]
    if importlib.util.find_spec("optuna") is None:
        return Importance({}, "it needs Optuna: pip install 'neuralmon[search]'")
    if len(objectives) < MIN_TRIALS or not known:
        return Importance({}, f"there are {len(objectives)} trials, and {MIN_TRIALS} are needed")
    worst = min(known) if direction == "max" else max(known)
    told = [worst if objective is None else objective for objective in objectives]
    columns = {path: _places([row.get(path, _MISSING) for row in values]) for path in _paths(values)}
    varied = {path: column for path, column in columns.items() if max(column) > 0}
    if not varied or max(told) == min(told):
        return Importance({}, "all trials are alike")
    if importlib.util.find_spec("sklearn") is None:
        method = "PED-ANOVA"
    return _of_columns(varied, told, direction, method)


_MISSING = object()  # where a conditional value is not there


def _of_columns(
    columns: Mapping[str, Sequence[int]], told: Sequence[float], direction: Direction, method: Method
) -> Importance:
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(direction="maximize" if direction == "max" else "minimize")
        optuna.logging.set_verbosity(before)
        places = optuna.distributions.IntDistribution
        kinds: dict[str, Any] = {path: places(0, max(column)) for path, column in columns.items()}
        for index, objective in enumerate(told):
            params = {path: column[index] for path, column in columns.items()}
            study.add_trial(optuna.create_trial(value=objective, params=params, distributions=kinds))
        from optuna import importance as evaluators

        fanova = method == "fANOVA"
        chosen = evaluators.FanovaImportanceEvaluator(seed=0) if fanova else evaluators.PedAnovaImportanceEvaluator()
        shares = evaluators.get_param_importances(study, evaluator=chosen)
    ordered = sorted(shares.items(), key=lambda share: (-share[1], share[0]))
    return Importance({path: float(share) for path, share in ordered}, method)


def _paths(values: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(path for row in values for path in row))


def _places(column: Sequence[Any]) -> list[int]:
    """Returns the place of each value among those that are different: of numbers by size, of others as they come."""
    keys = [value if _is_number(value) else _text(value) for value in column]
    different = list(dict.fromkeys(keys))
    if all(_is_number(key) for key in different):
        different = sorted(different)
    places = {key: place for place, key in enumerate(different)}
    return [places[key] for key in keys]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return "" if value is _MISSING else canonical(value)
