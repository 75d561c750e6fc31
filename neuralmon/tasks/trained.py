"""What is done with a trained model beyond one pass over the examples.

A task may have any of these methods beside those of `Task`:

- `study(trained, split) -> Findings`: after training and in `--mode=evaluate`, what takes more than outputs and
  targets, such as the BLEU of translations, forecasts that go on from themselves, or how far samples are from
  real images;
- `glimpse(trained) -> Findings`: the same for what one wants to see at each evaluation while the model trains;
- `answers(trained, path) -> rows | None`: `--mode=predict --input=path`, where what `predict` says of an example would
  tell a person nothing: a dict of texts and numbers for each row that is printed, the first of them "input"; None: of
  this data nothing else can be said;
- `sample(trained, request) -> Iterator[str]`: `--mode=sample`; pieces of text that are printed as they come. Pictures
  go to `request.output`, and what is said is where they are.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import numpy as np

from neuralmon.data import Batch, Dataset
from neuralmon.inspection import with_train

Figure: TypeAlias = tuple[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A model with what it has learnt, and the data it learnt from.

    Attributes:
      model: the model, every size filled in.
      variables: its variables; with `Optimizer.ema_decay` the averaged parameters.
      dataset: the data, with what was found in it filled in.
      read: (split, numbers of examples) -> these examples as stored.
      history: a row per chunk ("train") and evaluation ("validation") so far: step, split and metrics.
    """

    model: nn.Module
    variables: Any
    dataset: Dataset
    read: Callable[[str, np.ndarray], Mapping[str, np.ndarray]]
    history: Sequence[Mapping[str, Any]] = ()

    def examples(self, split: str, count: int | None = None) -> dict[str, np.ndarray]:
        """Returns the first `count` examples of a split, or all, as stored."""
        size = self.dataset.spec().sizes[split]
        return dict(self.read(split, np.arange(size if count is None else min(count, size))))

    def prepared(self, split: str, count: int | None = None) -> Batch:
        """Returns the first `count` examples of a split, or all, as the model takes them, each with weight 1."""
        batch = self.examples(split, count)
        size = len(next(iter(batch.values())))
        weighted = {**batch, "weights": np.ones(size, np.float32)}
        return jax.jit(functools.partial(self.dataset.prepare, train=False))(jax.random.key(0), weighted)

    def apply(self, inputs: Any) -> Any:
        """Returns the model's outputs for prepared inputs."""
        return _apply(self.model, self.variables, inputs)


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: nn.Module, variables: Any, inputs: Any) -> Any:
    return model.apply(variables, inputs, **with_train(model, {}, False))


@dataclasses.dataclass(frozen=True, eq=False)
class Findings:
    """What was found out about a trained model.

    Attributes:
      metrics: floats, and tables as nested dicts; they stand beside the task's own in the run's result.
      figures: by their files' names without `.png`: the name of a figure (see `neuralmon.figures.FIGURES`), and what it
        is drawn of; or a function that returns both, called only if the figure is drawn.
      texts: by their files' names without `.txt`: the text; or a function that returns it, likewise.
    """

    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    figures: Mapping[str, Figure | Callable[[], Figure]] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, str | Callable[[], str]] = dataclasses.field(default_factory=dict)
