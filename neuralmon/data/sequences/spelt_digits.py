"""Lines of handwritten digits, and what they say in words: an image of which a text is written."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from neuralmon.data.dataset import Batch, Spec
from neuralmon.data.labelled import Facts
from neuralmon.data.sequences.digit_strings import DigitStrings
from neuralmon.data.text.tokenizers import Characters
from neuralmon.data.text.vocabularies import Vocabulary
from neuralmon.fields import PositiveInt

_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeltDigits(DigitStrings):
    """The images of `DigitStrings`, and the digits in words, letter by letter: "seven zero two".

    Targets are tokens (6 max_length,) int32: letters and spaces, `<end>`, and padding, token 0. Prepared inputs are
    {"images": (batch, 28, 28 max_length, 1), "target": the targets one place later, behind `<begin>`}, as
    `nm.models.Captioner` takes them. The task is `nm.tasks.SequenceToSequence`.

    Attributes:
      max_length: the most digits in a line.
    """

    max_length: PositiveInt = 3

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the texts."""
        return _vocabulary()

    def examine(self) -> Facts:
        """See `LabelledDataset.examine`."""
        longest = self.max_length * max(len(f"{word} ") for word in _WORDS)  # a space, or the end, behind each word
        return dataclasses.replace(super().examine(), class_names=(), target_shape=(longest,))

    def spec(self) -> Spec:
        """See `Dataset.spec`."""
        return dataclasses.replace(super().spec(), vocab_size=self.vocabulary.size)

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        return {
            name: {"inputs": columns["inputs"], "targets": self._encode(_spelt(columns["targets"]))}
            for name, columns in super().read().items()
        }

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """See `Dataset.prepare`; without targets, the target is its beginning alone."""
        prepared: dict[str, Any] = dict(super().prepare(key, batch, train))
        target = jnp.full((len(batch["inputs"]), 1), self.vocabulary.special["<begin>"], jnp.int32)
        if "targets" in batch:
            target = jnp.concatenate([target, batch["targets"][:, :-1]], axis=1)
        return {**prepared, "inputs": {"images": prepared["inputs"], "target": target}}

    def texts(self, split: str) -> tuple[np.ndarray, list[str]]:
        """Returns all images of a split as stored, and what is to be written of each."""
        columns = super().read()[split]
        return columns["inputs"], _spelt(columns["targets"])

    def encode_sources(self, images: np.ndarray) -> Float[np.ndarray, "images height width channels"]:
        """Returns stored images as the model looks at them."""
        return np.asarray(self.normalize(self.to_float(jnp.asarray(images))))

    def _encode(self, texts: list[str]) -> Int[np.ndarray, "texts longest"]:
        tokens = np.zeros((len(texts), self._facts().target_shape[0]), np.int32)
        for row, text in zip(tokens, texts, strict=True):
            own = self.vocabulary.encode(text)
            row[: len(own) + 1] = [*own, self.vocabulary.special["<end>"]]
        return tokens


@functools.cache
def _vocabulary() -> Vocabulary:
    return Characters().learn([" ".join(_WORDS)], ("<pad>", "<begin>", "<end>"))


def _spelt(digits: Int[np.ndarray, "texts length"]) -> list[str]:
    """Returns digits in words; -1 stands behind the last one."""
    return [" ".join(_WORDS[digit] for digit in row if digit >= 0) for row in digits.tolist()]
