"""Random strings with what is to be written of them: tasks whose rule is known."""

import abc
import dataclasses

import numpy as np

from neuralmon.data.text.parallel import Pairs, Parallel
from neuralmon.data.text.tokenizers import Characters, Tokenizer
from neuralmon.errors import RequestError
from neuralmon.fields import NonNegativeInt, PositiveInt


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strings(Parallel):
    """Random strings of letters, all lengths equally often. A subclass says what the answer is.

    Strings of the validation and of the test do not occur in the training; nor do the longer ones, of `longer_texts`.

    Attributes:
      letters: what strings are made of, each as often as the others.
      longest: most letters of a string; the least is 1.
      longer: most letters of the strings that are longer than any in the training.
      train_size: number of strings to learn from.
      held_out_size: number of strings of the validation, as of the test.
      seed: of the strings; it has nothing to do with `training.seed`.
    """

    tokenizer: Tokenizer = dataclasses.field(default_factory=Characters)
    letters: str = "abcdefghijklmnopqrstuvwxyz"
    longest: PositiveInt = 20
    longer: PositiveInt = 30
    train_size: PositiveInt = 20_000
    held_out_size: PositiveInt = 1_000
    seed: NonNegativeInt = 0

    @abc.abstractmethod
    def answer(self, text: str) -> str:
        """Returns what is to be written."""

    def read_pairs(self) -> dict[str, Pairs]:
        """See `Parallel.read_pairs`."""
        if len(set(self.letters)) != len(self.letters) or len(self.letters) < 2:
            raise RequestError(f"dataset.letters={self.letters}: give at least two letters, each once")
        # At least half of the longest ones have to be new.
        if len(self.letters) ** self.longest < 2 * (self.train_size + self.held_out_size):
            what = f"there are only {len(self.letters) ** self.longest:,} strings of {self.longest} letters"
            raise RequestError(f"dataset.longest={self.longest}: {what}; raise it, or make train_size smaller")
        sizes = {"train": self.train_size, "validation": self.held_out_size, "test": self.held_out_size}
        seen: set[str] = set()
        pairs: dict[str, Pairs] = {}
        for stream, (name, size) in enumerate(sizes.items()):
            texts = self._drawn(stream, size, (1, self.longest), seen)
            pairs[name] = texts, [self.answer(text) for text in texts]
            seen |= set(texts) if name == "train" else set()
        return pairs

    def longer_texts(self) -> Pairs:
        """Returns strings that are longer than those of the training, and their answers."""
        if self.longer <= self.longest:
            return [], []
        texts = self._drawn(3, self.held_out_size, (self.longest + 1, self.longer), set())
        return texts, [self.answer(text) for text in texts]

    def _drawn(self, stream: int, size: int, lengths: tuple[int, int], seen: set[str]) -> list[str]:
        bits = np.random.PCG64([self.seed, stream])  # NumPy promises them for all its versions
        texts: list[str] = []
        while len(texts) < size:
            length = lengths[0] + bits.random_raw() % (lengths[1] + 1 - lengths[0])
            text = "".join(self.letters[number % len(self.letters)] for number in bits.random_raw(length).tolist())
            if text not in seen:
                texts.append(text)
        return texts


@dataclasses.dataclass(frozen=True, kw_only=True)
class Copy(Strings):
    """The answer is the string itself."""

    def answer(self, text: str) -> str:
        """See `Strings.answer`."""
        return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reverse(Strings):
    """The answer is the string from its end to its beginning."""

    def answer(self, text: str) -> str:
        """See `Strings.answer`."""
        return text[::-1]
