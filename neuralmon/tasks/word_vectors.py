"""Which words are near each other, and which complete an analogy."""

import dataclasses
from collections.abc import Iterable

import numpy as np

from neuralmon.errors import RequestError, did_you_mean
from neuralmon.tasks.trained import Trained


@dataclasses.dataclass(frozen=True, eq=False)
class WordVectors:
    """Words and their vectors.

        vectors = WordVectors.of(nm.load_run("runs/skipgram_shakespeare").trained)
        vectors.nearest("king")
        vectors.analogy("king", "queen", "he")

    Attributes:
      words: the word of each row.
      vectors: (words, dimensions).
    """

    words: tuple[str, ...]
    vectors: np.ndarray

    @classmethod
    def of(cls, trained: Trained) -> "WordVectors":
        """Returns the vectors of a trained `SkipGram`, with the words of its dataset.

        Raises:
          RequestError: it is no such model, or its data has no words.
        """
        words, params = getattr(trained.dataset, "words", None), trained.variables["params"]
        if words is None or "embedding" not in params:
            raise RequestError("word vectors need a run of a SkipGram on a dataset of words")
        vectors = np.asarray(params["embedding"])
        if len(vectors) != len(words):
            raise RequestError(f"the model has {len(vectors):,} vectors and its data {len(words):,} words")
        return cls(tuple(words), vectors)

    def nearest(self, word: str, count: int = 10) -> list[tuple[str, float]]:
        """Returns the `count` words whose vectors have the largest cosine with that of `word`, and the cosines."""
        return self._most_similar(self._unit[self._row(word)], count, (word,))

    def analogy(self, a: str, b: str, c: str, count: int = 10) -> list[tuple[str, float]]:
        """Returns the words that are to `c` what `b` is to `a`: with the largest cosine to b - a + c, of unit vectors.

        None of the three is among them.

        Source: Mikolov, Yih & Zweig, "Linguistic Regularities in Continuous Space Word Representations", NAACL 2013;
        called 3CosAdd by Levy & Goldberg, "Linguistic Regularities in Sparse and Explicit Word Representations", 2014.
        """
        first, second, third = (self._unit[self._row(word)] for word in (a, b, c))
        sought = second - first + third
        return self._most_similar(sought / np.linalg.norm(sought), count, (a, b, c))

    def similarity(self, a: str, b: str) -> float:
        """Returns the cosine of two words' vectors."""
        return float(self._unit[self._row(a)] @ self._unit[self._row(b)])

    @property
    def _unit(self) -> np.ndarray:
        return self.vectors / np.maximum(np.linalg.norm(self.vectors, axis=1, keepdims=True), 1e-12)

    def _row(self, word: str) -> int:
        try:
            return self.words.index(word)
        except ValueError:
            raise RequestError(
                f"{word!r} is not among the {len(self.words):,} words{did_you_mean(word, self.words)}"
            ) from None

    def _most_similar(self, direction: np.ndarray, count: int, without: Iterable[str]) -> list[tuple[str, float]]:
        cosines = self._unit @ direction
        cosines[[self._row(word) for word in without]] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(count, len(self.words) - len(set(without)))]
        return [(self.words[row], float(cosines[row])) for row in best]
