"""An experiment: five values, and what can be done with them before anything is compiled."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from neuralmon import codec
from neuralmon.data import Dataset
from neuralmon.data.permutation import MAX_POSITION
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveFloat, PositiveInt, SeedNumber
from neuralmon.names import Names, annotations
from neuralmon.optim import Optimizer
from neuralmon.tasks import Task

__all__ = ["Epochs", "Experiment", "Training"]


@dataclasses.dataclass(frozen=True)
class Epochs:
    """A number of passes through the training data where a number of steps could stand: Epochs(2), Epochs(0.5).

    Attributes:
      count: how many; rounded to whole steps, at least one.
    """

    count: PositiveFloat = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """How long, how often, from which seed.

    Attributes:
      batch_size: examples of a step, over all devices.
      epochs: passes through the training data; the last one ends with a full batch.
      steps: updates in all, in place of `epochs`; None: as the epochs say.
      seed: of the initial parameters, the order of the examples, dropout and augmentation.
      steps_per_chunk: steps done in one call of the compiled program, over which training metrics are averaged.
      evaluate_every: steps from one evaluation to the next, or Epochs(...).
      checkpoint_every: steps from one checkpoint to the next, or Epochs(...); None: after each evaluation.
      keep_last: newest checkpoints that are kept, beside the best one.
      micro_batches: parts in which a batch goes through the model one after the other, to save memory; their gradients
        are summed, so the update is that of the whole batch.
      patience: evaluations in a row without a better validation metric after which training ends and the best state
        counts as the run's; None: never.
      monitor: the validation metric that says which state is best, with a minus before it ("-wer") if less of it is
        better, which of losses and errors such as rmse is known; None: the task's own.
    """

    batch_size: PositiveInt = 128
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None
    seed: SeedNumber = 0
    steps_per_chunk: PositiveInt = 50
    evaluate_every: PositiveInt | Epochs = Epochs()
    checkpoint_every: PositiveInt | Epochs | None = None
    keep_last: PositiveInt = 2
    micro_batches: PositiveInt = 1
    patience: PositiveInt | None = None
    monitor: str | None = None

    def num_steps(self, train_size: int) -> int:
        """Returns the number of updates of the whole run."""
        return self.steps or self.epochs * self.steps_per_epoch(train_size)

    def steps_per_epoch(self, train_size: int) -> int:
        """Returns how many batches it takes to see every example, rounded up."""
        return math.ceil(train_size / self.batch_size)

    def boundary_after(self, step: int, train_size: int) -> int:
        """Returns where the chunk from `step` ends: a function of the step alone, so that a resumed run cuts alike."""
        every = (self.steps_per_chunk, self.evaluation_interval(train_size), self.checkpoint_interval(train_size))
        return min(self.num_steps(train_size), *((step // interval + 1) * interval for interval in every))

    def evaluates_at(self, step: int, train_size: int) -> bool:
        """Returns whether there is an evaluation after so many steps."""
        return step % self.evaluation_interval(train_size) == 0 or step == self.num_steps(train_size)

    def saves_at(self, step: int, train_size: int) -> bool:
        """Returns whether a checkpoint is due after so many steps."""
        return step % self.checkpoint_interval(train_size) == 0 or step == self.num_steps(train_size)

    def evaluation_interval(self, train_size: int) -> int:
        """Returns the steps from one evaluation to the next."""
        return self._steps(self.evaluate_every, train_size)

    def checkpoint_interval(self, train_size: int) -> int:
        """Returns the steps from one checkpoint to the next."""
        return self._steps(self.checkpoint_every or self.evaluate_every, train_size)

    def _steps(self, interval: int | Epochs, train_size: int) -> int:
        if isinstance(interval, int):
            return interval
        return max(1, round(interval.count * self.steps_per_epoch(train_size)))


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
    names: Names = dataclasses.field(default_factory=Names, repr=False, compare=False, metadata={"recorded": False})

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
        """Returns the experiment with what only the data can decide filled in: its facts, and the model's sizes."""
        find = getattr(self.dataset, "resolve", None)
        experiment = dataclasses.replace(self, dataset=find()) if find else self
        spec = experiment.dataset.spec()
        sizes = {
            "num_classes": self.task.num_outputs(spec),
            "vocab_size": spec.vocab_size,
            "source_vocab_size": spec.source_vocab_size,
        }

        def fill(node: Node) -> Any:
            left_open = node.value is None and isinstance(node.owner, nn.Module)
            return sizes.get(node.field) if left_open else node.value

        return _rebuild(experiment, fill)

    def check(self) -> None:
        """Raises RequestError if a field is not what its annotation allows, or if the fields do not fit each other."""
        for node in walk(self):
            try:
                if isinstance(node.value, np.ndarray):
                    continue  # an array says itself what it is
                if dataclasses.is_dataclass(node.value):
                    codec.check_kind(node.value, node.annotation)
                elif node.is_leaf and not (isinstance(node.owner, tuple) or codec.has_default(node.owner, node.field)):
                    codec.from_json(codec.to_json(node.value, self.names), node.annotation, self.names)
            except RequestError as error:
                raise RequestError(f"{node.path}: {error}") from None
        training = self.training
        if training.batch_size % training.micro_batches:
            raise RequestError(
                f"training.micro_batches: a batch of {training.batch_size} cannot be cut into {training.micro_batches} "
                "equal parts"
            )

    def check_fit(self) -> None:
        """Raises RequestError if the training does not fit the data; for a resolved experiment."""
        spec, batch_size = self.dataset.spec(), self.training.batch_size
        sizes = spec.sizes
        for node in walk(self.model):
            # A token beyond the table would silently be taken for another.
            tokens = {"vocab_size": spec.vocab_size, "source_vocab_size": spec.source_vocab_size}.get(node.field)
            if tokens is not None and node.value < tokens:
                what = f"{node.value:,} are fewer than the {tokens:,} tokens of the data"
                raise RequestError(f"model.{node.path}: {what}; leave it out, and the data decides")
        size = sizes["train"]
        if self.training.patience is not None and "validation" not in sizes:
            raise RequestError("training.patience: the data has no validation split to wait for")
        if batch_size > size:
            raise RequestError(f"training.batch_size: {batch_size} is more than the {size:,} training examples")
        if (steps := self.training.num_steps(size)) * batch_size > MAX_POSITION:
            what = f"{steps:,} steps of {batch_size} examples are more than a run can count"
            raise RequestError(f"training: {what} ({MAX_POSITION:,} examples)")

    def check_recordable(self) -> None:
        """Raises RequestError if a record of the experiment could not be read again with nothing but its file."""
        for node in walk(self):
            cls = type(node.value)
            if dataclasses.is_dataclass(cls) and self.names.of_value(cls) is None:
                what, file = f"{node.path}: {cls.__qualname__} of {cls.__module__}", f"{self.name}.py"
                raise RequestError(f"{what} has no public name in {file}, so it cannot be recorded: import it there")


@dataclasses.dataclass(frozen=True)
class Node:
    """One place in an experiment, at `path`: a field of `owner`, or an element of a tuple."""

    path: str
    value: Any
    annotation: Any = Any
    owner: Any = None

    @property
    def field(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]

    @property
    def children(self) -> list["Node"]:
        """The fields, or the elements of a tuple of parts."""
        value, prefix = self.value, f"{self.path}." if self.path else ""
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            hints = annotations(type(value)).items()
            return [Node(prefix + name, getattr(value, name), hint, value) for name, hint in hints]
        if isinstance(value, tuple) and any(dataclasses.is_dataclass(element) for element in value):
            kinds = codec.element_annotations(self.annotation, len(value))
            return [Node(f"{prefix}{index}", one, kinds[index], value) for index, one in enumerate(value)]
        return []

    @property
    def is_leaf(self) -> bool:
        """Whether there is nothing below."""
        return not self.children

    @property
    def number_type(self) -> type | None:
        """Float or int if it is an argument of the compiled program, else None."""
        return codec.number_type(self.annotation, self.value)


def walk(value: Any) -> Iterator[Node]:
    """Yields every place below `value`, from shallow to deep and in the order of the fields."""
    waiting = Node("", value).children
    while waiting:
        node, *waiting = waiting
        yield node
        waiting = node.children + waiting


def _rebuild(value: Any, change: Callable[[Node], Any]) -> Any:
    """Returns a copy of `value` with each place replaced by what `change` makes of it, from shallow to deep."""

    def visit(node: Node) -> Any:
        changed, children = change(node), node.children
        if changed is not node.value:
            return changed
        parts = {child.field: visit(child) for child in children}
        if all(parts[child.field] is child.value for child in children):
            return node.value
        if isinstance(node.value, tuple):
            return tuple(parts.values())
        if isinstance(node.value, nn.Module):
            return node.value.clone(**parts)
        return dataclasses.replace(node.value, **parts)

    return visit(Node("", value))


def replace_at(root: Any, path: str, value: Any) -> Any:
    """Returns an experiment, or any part of one, with another value at a path, whole parts included."""
    return _rebuild(root, lambda node: value if node.path == path else node.value)


_NUMBER = "<number>"  # stands in a structure where a number belongs


def split(experiment: Experiment) -> tuple[Experiment, dict[str, np.ndarray]]:
    """Returns (structure, numbers): numbers are the compiled program's arguments, by path; structure is the rest."""
    numbers = {
        node.path: np.asarray(node.value, np.float32 if node.number_type is float else np.int32)
        for node in walk(experiment)
        if node.number_type
    }
    return _rebuild(experiment, lambda node: _NUMBER if node.path in numbers else node.value), numbers


def merge(structure: Experiment, numbers: Mapping[str, Any]) -> Experiment:
    """Returns the experiment with numbers, traced ones too, where `split` took them out."""
    return _rebuild(structure, lambda node: numbers[node.path] if node.value is _NUMBER else node.value)
