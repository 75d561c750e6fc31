"""An experiment: five values, and what can be done with them before anything is compiled."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from neuralmon import codec
from neuralmon.data import Dataset, Spec
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt, SeedNumber
from neuralmon.names import Names, annotations, field_names
from neuralmon.optim import Optimizer
from neuralmon.tasks import Task

__all__ = ["Experiment", "Training"]

Numbers = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How long, how often, from which seed.

    Attributes:
      batch_size: examples of a step, over all devices.
      epochs: passes through the training data; the last one ends with a full batch.
      steps: updates in all, in place of `epochs`; None: as the epochs say.
      seed: of the initial parameters, the order of the examples, dropout and augmentation.
      steps_per_chunk: steps done in one call of the compiled program, over which training metrics are averaged.
      evaluate_every: steps from one evaluation to the next; None: once an epoch.
      checkpoint_every: steps from one checkpoint to the next; None: after each evaluation.
      keep_last: newest checkpoints that are kept, beside the best one.
    """

    batch_size: PositiveInt = 128
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None
    seed: SeedNumber = 0
    steps_per_chunk: PositiveInt = 50
    evaluate_every: PositiveInt | None = None
    checkpoint_every: PositiveInt | None = None
    keep_last: PositiveInt = 2

    def num_steps(self, train_size: int) -> int:
        """Returns the number of updates of the whole run."""
        return self.steps or self.epochs * self.steps_per_epoch(train_size)

    def steps_per_epoch(self, train_size: int) -> int:
        """Returns how many batches it takes to see every example, rounded up."""
        return math.ceil(train_size / self.batch_size)

    def boundary_after(self, step: int, train_size: int) -> int:
        """Returns where the chunk that starts at `step` ends.

        A function of the step alone, never of when the process started: so a resumed run cuts as an uninterrupted one.
        """
        every = (self.steps_per_chunk, self.evaluation_interval(train_size), self.checkpoint_interval(train_size))
        return min(self.num_steps(train_size), *((step // interval + 1) * interval for interval in every))

    def evaluation_interval(self, train_size: int) -> int:
        """Returns the steps from one evaluation to the next."""
        return self.evaluate_every or self.steps_per_epoch(train_size)

    def checkpoint_interval(self, train_size: int) -> int:
        """Returns the steps from one checkpoint to the next."""
        return self.checkpoint_every or self.evaluation_interval(train_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that decides a run.

    Attributes:
      dataset: what the examples are, how they are normalised and augmented.
      model: the structure: any Linen module.
      task: what the output means: loss, metrics, prediction.
      optimizer: how parameters move, and which stand still.
      training: how long, how often, from which seed.
      name: what runs are filed under; loading an experiment fills it in.
      names: the public names of the file it came from.
    """

    dataset: Dataset
    model: nn.Module
    task: Task
    optimizer: Optimizer
    training: Training = Training()
    name: str = ""
    names: Names = dataclasses.field(
        default_factory=Names, repr=False, compare=False, metadata={"recorded": False}
    )  # fmt: skip

    @property
    def source(self) -> str | None:
        """The text of the file that the experiment came from, or None."""
        return getattr(self.names.module, "__source__", None)

    def to_json(self) -> dict[str, Any]:
        """Returns every leaf as JSON-ready data; equal experiments give equal data."""
        return codec.to_json(self, self.names)

    @classmethod
    def from_json(cls, data: Any, names: Names) -> "Experiment":
        """Returns the experiment of `to_json`'s data."""
        return dataclasses.replace(codec.from_json(data, cls, names), names=names)

    def resolve(self) -> "Experiment":
        """Returns the experiment with the sizes that the model leaves to the data filled in."""
        sizes = self.dataset.spec().model_sizes()

        def fill(node: Node) -> Any:
            size = sizes.get(node.field)
            return size if node.value is None and size is not None and isinstance(node.owner, nn.Module) else node.value

        return _rebuild(self, fill)

    def check(self) -> None:
        """Checks every field against its annotation, and the fields against each other.

        Raises:
          RequestError: something is not allowed; the message names the field, its value and what is.
        """
        for node in walk(self):
            try:
                if dataclasses.is_dataclass(node.value):
                    codec.check_kind(node.value, node.annotation)
                elif node.is_leaf and not node.has_default:
                    codec.build(codec.describe(node.value, self.names), node.annotation, self.names)
            except RequestError as error:
                raise RequestError(f"{node.path}: {error}") from None
        self._check_sizes(self.dataset.spec())

    def check_recordable(self) -> None:
        """Checks that a record of the experiment can be read again with nothing but its file.

        Raises:
          RequestError: a type in it has no public name in the file.
        """
        for node in walk(self):
            if dataclasses.is_dataclass(node.value):
                try:
                    self.names.check_public(type(node.value))
                except RequestError as error:
                    raise RequestError(f"{node.path}: {error}") from None

    def _check_sizes(self, spec: Spec) -> None:
        from neuralmon.data.permutation import MAX_POSITION

        size, batch_size = spec.sizes["train"], self.training.batch_size
        if batch_size > size:
            raise RequestError(f"training.batch_size: {batch_size} is more than the {size:,} training examples")
        if self.training.num_steps(size) * batch_size > MAX_POSITION:
            raise RequestError(
                f"training: {self.training.num_steps(size):,} steps of {batch_size} examples are more than a run can "
                f"count ({MAX_POSITION:,} examples)"
            )


@dataclasses.dataclass(frozen=True)
class Node:
    """One place in an experiment: a field, or an element of a tuple.

    Attributes:
      path: field names from the experiment down, joined by dots.
      value: what stands there.
      annotation: what may stand there.
      owner: the object whose field it is.
    """

    path: str
    value: Any
    annotation: Any
    owner: Any

    @property
    def field(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def is_leaf(self) -> bool:
        """Whether there is nothing below."""
        return not _children(self)

    @property
    def has_default(self) -> bool:
        """Whether it is a field that has its default."""
        return dataclasses.is_dataclass(self.owner) and codec.has_default(self.owner, self.field)

    @property
    def number_type(self) -> type | None:
        """Float or int if it is an argument of the compiled program, else None."""
        return codec.number_type(self.annotation, self.value)


def _children(node: Node) -> list[Node]:
    prefix = f"{node.path}." if node.path else ""
    value = node.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = annotations(type(value))
        return [Node(prefix + name, getattr(value, name), hints[name], value) for name in field_names(type(value))]
    if isinstance(value, tuple) and any(dataclasses.is_dataclass(element) for element in value):
        return [Node(f"{prefix}{index}", element, Any, value) for index, element in enumerate(value)]
    return []


def walk(value: Any) -> Iterator[Node]:
    """Yields every place below `value`, from shallow to deep and in the order of the fields."""

    def visit(node: Node) -> Iterator[Node]:
        for child in _children(node):
            yield child
            yield from visit(child)

    return visit(Node("", value, Any, None))


def _rebuild(value: Any, change: Callable[[Node], Any]) -> Any:
    """Returns a copy of `value` with each leaf replaced by what `change` makes of it."""

    def visit(node: Node) -> Any:
        children = _children(node)
        if not children:
            return change(node)
        changed = {child.field: visit(child) for child in children}
        if all(changed[child.field] is child.value for child in children):
            return node.value
        if isinstance(node.value, tuple):
            return tuple(changed.values())
        if isinstance(node.value, nn.Module):
            return node.value.clone(**changed)
        return dataclasses.replace(node.value, **changed)

    return visit(Node("", value, Any, None))


def replace_at(experiment: Experiment, path: str, value: Any) -> Experiment:
    """Returns the experiment with another value at a path, whole parts included."""

    def visit(current: Any, parts: list[str]) -> Any:
        if not parts:
            return value
        if isinstance(current, tuple):
            index = int(parts[0])
            return (*current[:index], visit(current[index], parts[1:]), *current[index + 1 :])
        changed = {parts[0]: visit(getattr(current, parts[0]), parts[1:])}
        return current.clone(**changed) if isinstance(current, nn.Module) else dataclasses.replace(current, **changed)

    return visit(experiment, path.split("."))


@dataclasses.dataclass(frozen=True)
class _Placeholder:
    """Stands in a structure where a number belongs."""


_NUMBER = _Placeholder()


def split(experiment: Experiment) -> tuple[Experiment, dict[str, np.ndarray]]:
    """Returns (structure, numbers): numbers are the compiled program's arguments, by path; structure is the rest."""
    numbers = {
        node.path: np.asarray(node.value, np.float32 if node.number_type is float else np.int32)
        for node in walk(experiment)
        if node.number_type
    }
    return _rebuild(experiment, lambda node: _NUMBER if node.number_type else node.value), numbers


def merge(structure: Experiment, numbers: Numbers) -> Experiment:
    """Returns the experiment with numbers, traced ones too, where `split` took them out."""
    return _rebuild(structure, lambda node: numbers[node.path] if node.value is _NUMBER else node.value)
