"""Made-up sequences of any length in which what matters lies far back, to see how long a network remembers."""

import dataclasses

import numpy as np
from jaxtyping import Array

from neuralmon.data.dataset import Spec
from neuralmon.data.labelled import Facts, LabelledDataset
from neuralmon.errors import RequestError
from neuralmon.fields import NonNegativeInt, PositiveInt

_SYMBOLS, _COPIED = 8, 10  # different symbols; symbols that are to be remembered


@dataclasses.dataclass(frozen=True, kw_only=True)
class GeneratedSequences(LabelledDataset):
    """Sequences that are drawn, not collected: those of a split are a function of `seed` and the split's name.

    Attributes:
      train_size: number of training examples.
      validation_size: number of examples on which settings are chosen; 0: none.
      test_size: number of examples that are evaluated once, at the end; 0: none.
      seed: of the draw; it has nothing to do with `training.seed`.
    """

    train_size: PositiveInt = 50_000
    validation_size: NonNegativeInt = 2_000
    test_size: NonNegativeInt = 10_000
    seed: NonNegativeInt = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Number of examples of each split."""
        sizes = {"train": self.train_size, "validation": self.validation_size, "test": self.test_size}
        return {name: size for name, size in sizes.items() if size}

    def generators(self) -> dict[str, np.random.Generator]:
        """Returns what draws each split; one split is drawn the same whatever the sizes of the others."""
        streams = {"train": 0, "validation": 1, "test": 2}
        return {name: np.random.Generator(np.random.PCG64([self.seed, streams[name]])) for name in self.sizes}


@dataclasses.dataclass(frozen=True, kw_only=True)
class AddingProblem(GeneratedSequences):
    """Sequences (length, 2) float32 of a number and a mark at each step; the target is the sum of the two marked ones.

    Numbers are even in [0, 1]. One mark, a 1 among zeros, is in the first half and one in the second, so the first
    marked number has to be kept for half the sequence on average. Always answering 1 has a mean squared error of 1/6.

    Source: Hochreiter & Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, experiment 4; in the
    form, common since, of Le, Jaitly & Hinton 2015 (arXiv:1504.00941) and Arjovsky, Shah & Bengio, "Unitary Evolution
    Recurrent Neural Networks", ICML 2016 (arXiv:1511.06464).

    Attributes:
      length: number of steps.
    """

    length: PositiveInt = 200

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        if self.length < 2:
            raise RequestError(f"dataset.length: two numbers are added; {self.length} step has no room for them")
        return Facts(sizes=self.sizes, shape=(self.length, 2), dtype="float32", target_dtype="float32")

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        return {name: self._draw(random, self.sizes[name]) for name, random in self.generators().items()}

    def _draw(self, random: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        half, rows = self.length // 2, np.arange(size)
        values = random.random((size, self.length), np.float32)
        first, second = random.integers(0, half, size), random.integers(half, self.length, size)
        marks = np.zeros_like(values)
        marks[rows, first] = marks[rows, second] = 1.0
        return {"inputs": np.stack([values, marks], axis=-1), "targets": values[rows, first] + values[rows, second]}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CopyMemory(GeneratedSequences):
    """Ten symbols to be said again after `delay` steps of nothing: tokens (delay + 20,) int32, targets likewise.

    Tokens are 0, nothing; 1 to 8, the symbols; 9, the sign to begin. Inputs are 10 symbols, delay - 1 times nothing,
    the sign and 10 times nothing. Targets are delay + 10 times nothing and the symbols, in their order. Who remembers
    nothing but knows when to speak has a mean cross-entropy of 10 log(8) / (delay + 20).

    The task is `LanguageModel`: with `pad_id=0` only the symbols count.

    Source: after Hochreiter & Schmidhuber 1997; in the form of Arjovsky, Shah & Bengio 2016.

    Attributes:
      delay: steps from the last symbol that is shown to the first that is to be said, the sign's included.
    """

    delay: PositiveInt = 100

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        shape = (self.delay + 2 * _COPIED,)
        return Facts(sizes=self.sizes, shape=shape, dtype="int32", target_shape=shape)

    def spec(self) -> Spec:
        """See `Dataset.spec`."""
        return dataclasses.replace(super().spec(), vocab_size=_SYMBOLS + 2)

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        return {name: self._draw(random, self.sizes[name]) for name, random in self.generators().items()}

    def _draw(self, random: np.random.Generator, size: int) -> dict[str, np.ndarray]:
        symbols = random.integers(1, _SYMBOLS + 1, (size, _COPIED), np.int32)
        inputs, targets = (np.zeros((size, self.delay + 2 * _COPIED), np.int32) for _ in range(2))
        inputs[:, :_COPIED] = targets[:, -_COPIED:] = symbols
        inputs[:, -_COPIED - 1] = _SYMBOLS + 1
        return {"inputs": inputs, "targets": targets}

    def to_float(self, inputs: Array) -> Array:
        """Returns tokens as they are."""
        return inputs
