"""The words of the plays with the words around them, for word embeddings."""

import dataclasses
import functools
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from neuralmon.data.dataset import Batch, Spec
from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.text import shakespeare
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveFloat, PositiveInt

_PASSAGE = 2_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShakespeareWords:
    """Words of Shakespeare's plays, for each a word near it, and words drawn at random: what a skip-gram learns from.

    Words are lower-cased, with apostrophes inside them ("o'er"). The text is cut into passages of 2,000 words and these
    are split, so that each play has a part in the training. The vocabulary, its frequencies and the noise are those of
    the training passages alone; a word that is not in the vocabulary is left out of the text.

    An example is stored as a window of the text, 2 window + 1 word numbers with the centre in their middle, so that an
    epoch has each word as the centre once. Which of its neighbours is the context is drawn when the batch is made: a
    word at distance d with a probability in proportion to window + 1 - d, as if a window's size were drawn from 1 to
    `window` each time. The noise is drawn with it. While evaluating, both draws depend on the window's words alone.

    Source: Mikolov et al., "Efficient Estimation of Word Representations in Vector Space", arXiv:1301.3781, section
    3.2; and "Distributed Representations of Words and Phrases and their Compositionality", arXiv:1310.4546, sections
    2.2 (noise: unigram frequency to the power 3/4) and 2.3 (eq. 5, which words are left out).

    Attributes:
      window: how many words away a context may be.
      negatives: noise words for each true context.
      min_count: how often a word occurs in the training passages to be in the vocabulary.
      subsample: frequency t above which an occurrence of a word is left out of the text with probability
        1 - sqrt(t / frequency), drawn once; None: every occurrence stays.
      split: how the passages are split.
      pipeline: "device": all examples live on the device; "stream": batches are read while training goes on; "auto":
        stream what is larger than a quarter of the memory.
    """

    window: PositiveInt = 5
    negatives: PositiveInt = 5
    min_count: PositiveInt = 10
    subsample: PositiveFloat | None = 1e-3
    split: Split = dataclasses.field(default_factory=lambda: RandomSplit(validation=0.05, test=0.05))
    pipeline: Literal["auto", "device", "stream"] = "auto"

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary: the word of each number, the most frequent one first."""
        return _corpus(self).words

    def spec(self) -> Spec:
        """See `Dataset.spec`."""
        windows = _corpus(self).windows
        sizes = {name: len(part) for name, part in windows.items()}
        features = {"inputs": jax.ShapeDtypeStruct((2 * self.window + 1,), np.int32)}
        return Spec(features, sizes, vocab_size=len(self.words))

    def load(self) -> dict[str, dict[str, np.ndarray]]:
        """See `Dataset.load`."""
        return {name: {"inputs": windows} for name, windows in _corpus(self).windows.items()}

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """Returns inputs {"center": (batch,), "contexts": (batch, 1 + negatives)}, the true context first."""
        windows = batch["inputs"]
        draws = (1 + self.negatives,)
        if train:
            uniform = jax.random.uniform(key, (windows.shape[0], *draws))
        else:
            keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), _hash(windows))
            uniform = jax.vmap(lambda key: jax.random.uniform(key, draws))(keys)

        distances = np.array([d for d in range(-self.window, self.window + 1) if d])
        place = self.window + jnp.asarray(distances)[_drawn(self.window + 1 - abs(distances), uniform[:, :1])]
        context = jnp.take_along_axis(windows, place, axis=1)
        noise = _drawn(_corpus(self).counts ** 0.75, uniform[:, 1:])
        contexts = jnp.concatenate([context, noise], axis=1)
        prepared: dict[str, Any] = {**batch, "inputs": {"center": windows[:, self.window], "contexts": contexts}}
        return prepared


def tokenize(text: str) -> list[str]:
    """Returns the words of a text in lower case, without punctuation and digits."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower())


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
    """A text in numbers.

    Attributes:
      words: the word of each number, the most frequent one first; of equally frequent ones the first in the alphabet.
      counts: how often each word occurs in the training passages.
      windows: (examples, 2 window + 1) int32 of each split: all windows of its passages, without what was left out.
    """

    words: tuple[str, ...]
    counts: np.ndarray
    windows: dict[str, np.ndarray]


@functools.cache
def _text() -> tuple[np.ndarray, np.ndarray]:
    """Returns the different words, and the whole text as their numbers."""
    words, text = np.unique(tokenize(shakespeare.read()), return_inverse=True)
    return words, text.astype(np.int32)


@functools.lru_cache(maxsize=4)
def _corpus(dataset: ShakespeareWords) -> Corpus:
    words, text = _text()
    passages = np.split(text, range(_PASSAGE, len(text), _PASSAGE))
    splits = {name: [passages[row] for row in rows] for name, rows in dataset.split.rows(len(passages)).items()}
    training = np.concatenate(splits["train"])
    occurring = np.bincount(training, minlength=len(words))
    known = np.argsort(-occurring, kind="stable")[: (occurring >= dataset.min_count).sum()]
    if not len(known):
        raise RequestError(f"dataset.min_count: no word occurs {dataset.min_count} times in the training passages")
    numbers = np.full(len(words), -1, np.int32)
    numbers[known] = np.arange(len(known))
    counts = occurring[known]
    keep = np.ones(len(known))
    if dataset.subsample is not None:
        keep = np.sqrt(dataset.subsample * len(training) / counts)
    bits = np.random.PCG64(0)  # NumPy promises them for all its versions
    width = 2 * dataset.window + 1

    def windows(passage: np.ndarray) -> np.ndarray:
        row = numbers[passage]
        row = row[row >= 0]
        row = row[bits.random_raw(len(row)) / 2**64 < keep[row]]
        return np.lib.stride_tricks.sliding_window_view(row, width) if len(row) >= width else row[:0].reshape(0, width)

    found = {name: np.concatenate([windows(passage) for passage in passages]) for name, passages in splits.items()}
    if empty := [name for name, part in found.items() if not len(part)]:
        what = f"{width} words, {dataset.window} on each side of one"
        raise RequestError(f"dataset.window: no passage of the split {empty[0]!r} has as many as {what}")
    return Corpus(tuple(words[known].tolist()), counts, found)


def _drawn(weights: np.ndarray, uniform: Float[Array, "..."]) -> Int[Array, "..."]:
    """Returns numbers 0 ... len(weights) - 1 drawn in proportion to the weights, one for each number from [0, 1)."""
    ends = np.cumsum(weights, dtype=np.float64)
    # The last end may be rounded to less than 1.
    found = jnp.searchsorted(jnp.asarray(ends / ends[-1], jnp.float32), uniform, side="right")
    return jnp.minimum(found, len(weights) - 1).astype(jnp.int32)


def _hash(windows: Int[Array, "batch width"]) -> UInt32[Array, " batch"]:
    """Returns a number for each window that depends on all of its words (FNV-1a)."""
    start = jnp.full(windows.shape[0], 0x811C9DC5, jnp.uint32)
    columns = windows.astype(jnp.uint32).T
    return functools.reduce(lambda value, column: (value ^ column) * jnp.uint32(0x01000193), columns, start)
