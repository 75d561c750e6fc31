"""Parameters that come from another run."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from neuralmon.data.text.labelled import vocabulary_of_run
from neuralmon.data.text.vocabularies import Vocabulary
from neuralmon.errors import RequestError
from neuralmon.optim import freezing
from neuralmon.state import TrainState
from neuralmon.training.checkpoint import Checkpoints
from neuralmon.training.run_folder import RunFolder


@dataclasses.dataclass(frozen=True)
class Inheritance:
    """What a run takes over from another one.

    Attributes:
      arrays: variables by path, "params/conv_0/kernel".
      said: which they are and, in so many words, what was not taken and why.
    """

    arrays: Mapping[str, np.ndarray]
    said: str

    def apply(self, state: TrainState) -> TrainState:
        """Returns `state` with these variables in place of its own."""

        def replaced(path: tuple[Any, ...], leaf: Any) -> Any:
            array = self.arrays.get(freezing.path_name(path))
            if array is None:
                return leaf
            if leaf.ndim and len(array) < leaf.shape[0]:
                array = np.concatenate([np.asarray(array, leaf.dtype), np.asarray(leaf)[len(array) :]])
            return jax.device_put(np.asarray(array, leaf.dtype), leaf.sharding)

        variables = jax.tree_util.tree_map_with_path(replaced, _variables(state))
        params = variables.pop("params")
        average = None if state.average is None else jax.tree.map(lambda leaf: leaf.copy(), params)
        return TrainState(state.step, params, variables, state.optimizer_state, average)


def inherit(
    like: TrainState, folder: str | Path, patterns: tuple[str, ...], vocabulary: Vocabulary | None = None
) -> Inheritance:
    """Returns the variables of another run that fit, wherever path and shape are the same.

    An embedding that has more rows here begins with those that are there, as where special tokens were added behind a
    vocabulary, or where texts are longer.

    Args:
      like: the state to begin with, or its shapes.
      folder: the other run; what it evaluates with is taken, so the average if it has one.
      patterns: of the paths that are looked for; the others stay as they are.
      vocabulary: of the data to train on: embeddings of the tokens of another one would mean something else.

    Raises:
      RequestError: the folder holds no run, or nothing fits, or its vocabulary is another.
      RunError: its checkpoint is damaged.
    """
    if not str(folder):
        raise RequestError("--init_from= is empty; give the folder of another run")
    source, ours = _variables_in(RunFolder(Path(folder))), _named(_variables(like))
    wanted = {name: leaf for name, leaf in ours.items() if freezing.matches(_short(name), patterns)}
    if unmatched := [one for one in patterns if not any(freezing.matches(_short(name), (one,)) for name in ours)]:
        known = freezing.listed([_short(name) for name in ours])
        raise RequestError(f"--init_patterns: no parameter matches {unmatched[0]!r}; the parameters are {known}")
    missing = [name for name in wanted if name not in source]
    longer = [name for name in wanted if name in source and _more_rows(name, source[name].shape, wanted[name].shape)]
    other = [
        name for name in wanted if name in source and source[name].shape != wanted[name].shape and name not in longer
    ]
    taken = [name for name in wanted if name not in missing and name not in other]
    shapes = [f"{_short(name)} ({list(source[name].shape)} there, {list(wanted[name].shape)} here)" for name in other]
    parts = {
        "taken": [_short(name) for name in taken if name not in longer],
        "first rows taken": [f"{_short(name)} ({len(source[name])} of {wanted[name].shape[0]})" for name in longer],
        "of another shape": shapes,
        "not there": [_short(name) for name in missing],
        "there, not used": [_short(name) for name in source if name not in taken and name not in other],
    }
    said = "; ".join(f"{what}: {freezing.listed(names)}" for what, names in parts.items() if names)
    if not taken:
        raise RequestError(f"--init_from={folder}: nothing fits; {said}")
    if vocabulary is not None and any(name.endswith("embedding") for name in wanted if name in source):
        _check_vocabulary(str(folder), vocabulary)
    return Inheritance({name: source[name] for name in taken}, f"initialised from {folder}: {said}")


def _check_vocabulary(folder: str, ours: Vocabulary) -> None:
    theirs = vocabulary_of_run(folder)
    if theirs != ours:
        what = f"its vocabulary is another one ({theirs.size:,} tokens there, {ours.size:,} here)"
        advice = f"give --dataset.vocabulary_of={folder}, or leave the embeddings out by --init_patterns"
        raise RequestError(f"--init_from={folder}: {what}, so that its embeddings mean other tokens; {advice}")


def _more_rows(name: str, there: tuple[int, ...], here: tuple[int, ...]) -> bool:
    """Returns whether a variable is an embedding of the same width that has more rows here."""
    return name.endswith("/embedding") and there[1:] == here[1:] and len(here) == 2 and there[0] < here[0]


def _variables_in(run: RunFolder) -> dict[str, Any]:
    """Returns the newest variables of a run by path, which takes no types that the run may have of its own."""
    if not run.holds_run:
        raise RequestError(f"--init_from: {run.path} holds no run: there is no experiment.json in it")
    record = run.read("result.json") or {}
    if not isinstance(record, dict):
        raise RequestError(f"{run.path / 'result.json'} is damaged")
    with Checkpoints(run.checkpoints, keep_last=1, best=("", "max"), notice=lambda _: None) as checkpoints:
        arrays = checkpoints.arrays(record.get("step"))
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        part, _, path = name.partition("/")
        if part == "model_state":
            found[path] = array
        elif part == "average" or (part == "params" and f"average/{path}" not in arrays):
            found[f"params/{path}"] = array
    return found


def _variables(state: TrainState) -> dict[str, Any]:
    return {"params": state.params, **state.model_state}


def _named(variables: Any) -> dict[str, Any]:
    return {freezing.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(variables)}


def _short(name: str) -> str:
    """A path as `--mode=summary` prints it, without the collection."""
    return name.partition("/")[2]
