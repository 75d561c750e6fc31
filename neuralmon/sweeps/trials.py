"""Trials: the experiments that a sweep's values make, and which of them one program can train."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jax.sharding import Mesh

from neuralmon import codec
from neuralmon.errors import NeuralmonError, RequestError, did_you_mean
from neuralmon.experiment import Experiment, Node, replace_at, split, walk
from neuralmon.parallel import one_device
from neuralmon.sweeps.domains import Recorded, Text
from neuralmon.sweeps.space import SEED
from neuralmon.syntax import read_text, write_text
from neuralmon.training.check import check_fields, check_program


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Attributes:
      number: counts them from 0 in the order in which they were proposed.
      values: what its experiment has at which path, as records say it.
      structure: names what must be compiled: trials of the same structure train in one program.
      numbers: what the program takes.
      prototype: names the trials that differ in plain numbers alone.
      asked: the values as they were proposed.
    """

    number: int
    values: Mapping[str, Any]
    structure: str = ""
    numbers: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    prototype: str = ""
    asked: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def configuration(self) -> str:
        """Is the same for trials that differ in nothing but their seed."""
        return codec.canonical({path: value for path, value in self.values.items() if path != SEED})

    @property
    def said(self) -> str:
        """The trial and its values in words."""
        values = ", ".join(f"{path}={write_text(value)}" for path, value in self.values.items())
        return f"trial {self.number} ({values:.300})"


@dataclasses.dataclass(frozen=True)
class _Prototype:
    """An experiment, resolved and as asked for, and where the numbers lie that others of its structure differ in."""

    experiment: Experiment
    asked: Experiment
    structure: str
    numbers: Mapping[str, np.ndarray]
    nodes: Mapping[str, Node]


class Trials:
    """Makes trials of an experiment; each structure is checked once.

    Args:
      base: the experiment whose fields are swept.
    """

    def __init__(self, base: Experiment) -> None:
        self.base = base
        self._mesh: Mesh | None = None
        self._prototypes: dict[str, _Prototype] = {}
        self._number_paths: dict[str, list[str]] = {}
        self._structures: dict[str, Experiment] = {}

    def trial(self, number: int, values: Mapping[str, Any]) -> Trial:
        """Returns the trial of these values.

        Raises:
          RequestError: there is no such experiment; it says which trial that is.
        """
        try:
            return self._trial(number, values)
        except NeuralmonError as error:
            said = {path: _shown(value, self.base) for path, value in values.items()}
            raise RequestError(f"{Trial(number, said).said}: {error}") from None

    def experiment(self, trial: Trial) -> Experiment:
        """Returns the resolved experiment of a trial: with `nm.train` it ends in the same parameters."""
        return self._with_numbers(self._prototypes[trial.prototype].experiment, trial)

    def asked(self, trial: Trial) -> Experiment:
        """Returns the experiment of a trial with what the data decides left open, as the base has it."""
        return self._with_numbers(self._prototypes[trial.prototype].asked, trial)

    def like(self, trial: Trial) -> Experiment:
        """Returns a resolved experiment of a trial's structure; of one made in another process, too."""
        if trial.structure not in self._structures:
            self.trial(trial.number, trial.asked)
        return self._structures[trial.structure]

    @property
    def num_structures(self) -> int:
        """Structures of all trials that were made."""
        return len(self._structures)

    @property
    def structures(self) -> list[Experiment]:
        """A resolved experiment of each structure."""
        return list(self._structures.values())

    def check_programs(self) -> None:
        """Raises RequestError if the parts of one of the structures do not fit each other."""
        for structure, experiment in self._structures.items():
            self._mesh = self._mesh or one_device()
            try:
                check_program(experiment, self._mesh)
            except RequestError as error:
                which = next(one for one in self._prototypes.items() if one[1].structure == structure)
                raise RequestError(f"trials with {which[0]:.300}: {error}") from None

    def _with_numbers(self, experiment: Experiment, trial: Trial) -> Experiment:
        for path, value in trial.values.items():
            if path in trial.numbers and isinstance(value, int | float):
                experiment = replace_at(experiment, path, value)
        return experiment

    def _trial(self, number: int, values: Mapping[str, Any]) -> Trial:
        plain = {path: read for path, value in values.items() if (read := number_of(value)) is not None}
        name, prototype = self._prototype(values, plain)
        numbers, recorded = dict(prototype.numbers), {}
        for path in values:
            node = prototype.nodes[path]
            if path in plain and path in numbers:
                try:
                    checked = codec.from_json(plain[path], node.annotation, self.base.names)
                except RequestError as error:
                    raise RequestError(f"{path}: {error}") from None
                numbers[path] = np.asarray(checked, numbers[path].dtype)
                recorded[path] = codec.to_json(checked, self.base.names, annotation=node.annotation)
            else:
                recorded[path] = codec.to_json(node.value, self.base.names, False, node.annotation)
        return Trial(number, recorded, prototype.structure, numbers, name, values)

    def _prototype(self, values: Mapping[str, Any], plain: Mapping[str, Any]) -> tuple[str, _Prototype]:
        """Returns what trials share that differ in numbers of the program alone, and what it is called."""
        form, made = self._key(values, plain), None
        if form not in self._number_paths:
            made = self._made(values)
            self._number_paths[form] = [path for path in plain if path in made.numbers]
        # The other plain numbers are structure, such as a width.
        key = self._key(values, self._number_paths[form])
        if key not in self._prototypes:
            self._prototypes[key] = made or self._made(values)
        return key, self._prototypes[key]

    def _key(self, values: Mapping[str, Any], plain: Collection[str]) -> str:
        texts = {path: "#" if path in plain else _shown(value, self.base) for path, value in values.items()}
        return ", ".join(
            f"{path}={text if isinstance(text, str) else write_text(text)}" for path, text in texts.items()
        )

    def _made(self, values: Mapping[str, Any]) -> _Prototype:
        experiment = self.base
        for path in sorted(values, key=lambda path: path.count(".")):
            nodes = {node.path: node for node in walk(experiment)}
            if path not in nodes:
                raise RequestError(f"there is no field {path}{did_you_mean(path, nodes)}")
            experiment = replace_at(experiment, path, self._value(values[path], nodes[path]))
        recorded = {node.path: node for node in walk(experiment)}
        resolved = check_fields(experiment)
        structure, numbers = split(resolved)
        name = codec.canonical(structure.to_json())
        self._structures.setdefault(name, resolved)
        return _Prototype(resolved, experiment, name, numbers, {path: recorded[path] for path in values})

    def _value(self, value: Any, node: Node) -> Any:
        names = self.base.names
        try:
            if isinstance(value, Text):
                return codec.parse(value, node.annotation, names)
            if isinstance(value, Recorded):
                return codec.from_json(value.data, node.annotation, names)
            return codec.from_json(codec.to_json(value, names), node.annotation, names)
        except RequestError as error:
            raise RequestError(f"{node.path}: {error}") from None


def number_of(value: Any) -> float | None:
    """Returns a plain number, which may be an argument of the program; None: it is something else."""
    if isinstance(value, Text):
        try:
            value = read_text(value)
        except RequestError:
            return None
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _shown(value: Any, base: Experiment) -> Any:
    if isinstance(value, Text):
        return str(value)
    if isinstance(value, Recorded):
        return value.data
    try:
        return codec.to_json(value, base.names, False)
    except RequestError:
        return repr(value)
