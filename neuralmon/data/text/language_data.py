"""What all texts for language models share: tokens stored once, windows of them, a split by place."""

import abc
import collections
import dataclasses
import functools
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from neuralmon.data.dataset import Batch, Spec
from neuralmon.data.splits import ChronologicalSplit
from neuralmon.data.text.reading import parts, read_text
from neuralmon.data.text.token_files import Tokens, stored_tokens, token_type
from neuralmon.data.text.tokenizers import Characters, Tokenizer, Words
from neuralmon.data.text.vocabularies import UNKNOWN, Vocabulary
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextFacts:
    """What only the text can decide; found once and recorded with the run, so that a folder encodes and decodes.

    Attributes:
      vocabulary: the tokens.
      lengths: number of tokens of each split.
      ends: the place in the text, in characters, at which each split ends.
      fingerprint: SHA-256 of the text.
    """

    vocabulary: Vocabulary
    lengths: Mapping[str, int]
    ends: Mapping[str, int]
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Windows:
    """Pieces of `width` tokens, one every `stride` tokens: a `Column` of which nothing is copied but what is read.

    Attributes:
      column: all tokens, in memory or memory-mapped.
      stride: from the start of one piece to the start of the next.
      width: tokens of a piece.
      count: number of pieces.
      latest: where a piece starts at the latest; those that would start later overlap.
      nothing: what stands behind the end of the text.
    """

    column: np.ndarray
    stride: int
    width: int
    count: int
    latest: int
    nothing: int

    @property
    def shape(self) -> tuple[int, int]:
        """See `Column.shape`."""
        return self.count, self.width

    @property
    def dtype(self) -> np.dtype:
        """See `Column.dtype`."""
        return self.column.dtype

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """See `Column.__getitem__`."""
        starts = np.minimum(np.asarray(rows, np.int64) * self.stride, self.latest)
        places = starts[:, None] + np.arange(self.width)
        found = np.asarray(self.column[np.minimum(places, len(self.column) - 1)])
        return np.where(places < len(self.column), found, self.dtype.type(self.nothing))


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDataset(abc.ABC):
    """A text whose next token is predicted: inputs (context_length,) int32, targets the same, one token further.

    Training reads windows at random places: a piece of twice the context is stored for each `context_length` tokens,
    and where in it the window begins is drawn with each batch, so that an epoch has about every token once and no two
    epochs the same windows. Evaluation reads windows that lie side by side: each token but a split's first is
    predicted exactly once, and each window begins anew. Windows know nothing of where a document ends but by the token
    "<end>" between documents.

    The text is cut by place: its first part is for training, the next for validation, the last for the test. Characters
    are those of the whole text; words and byte pairs are learnt from the training part alone.

    Attributes:
      tokenizer: what a token is.
      context_length: tokens that are read together.
      split: how the text is cut.
      cache: folder for the tokens of a text of over 32 million characters; None: neuralmon's folder among the caches of
        the user. Shorter ones are tokenised in memory.
      pipeline: "device": all tokens live on the device; "stream": batches are read while training goes on; "auto":
        stream what is larger than a quarter of the memory.
      facts: what only the text can decide; leave it out, it is filled in.
    """

    tokenizer: Tokenizer = dataclasses.field(default_factory=Characters)
    context_length: PositiveInt = 256
    split: ChronologicalSplit = dataclasses.field(default_factory=ChronologicalSplit)
    cache: str | None = None
    pipeline: Literal["auto", "device", "stream"] = "auto"
    facts: TextFacts | None = None

    @abc.abstractmethod
    def documents(self) -> Iterator[Iterator[str]]:
        """Yields the documents, each in pieces cut where no token reaches across."""

    @property
    @abc.abstractmethod
    def source(self) -> str:
        """What the text is called in messages."""

    @property
    def separated(self) -> bool:
        """Whether documents end with a token "<end>"."""
        return False

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of a resolved dataset."""
        return self._facts.vocabulary

    def resolve(self) -> "TextDataset":
        """See `Dataset`."""
        return self if self.facts is not None else dataclasses.replace(self, facts=self._examine())

    def spec(self) -> Spec:
        """See `Dataset.spec`. "inputs" are tokens as stored: the windows are cut out by `prepare`."""
        lengths, dtype = self._facts.lengths, token_type(self.vocabulary.size)
        sizes = {split: self._windows(split, np.zeros(0, dtype)).count for split in lengths}
        features = {"inputs": jax.ShapeDtypeStruct((self._stored_width,), dtype)}
        return Spec(features, sizes, vocab_size=self.vocabulary.size)

    def load(self) -> dict[str, dict[str, Any]]:
        """See `Dataset.load`."""
        return {split: {"inputs": self._windows(split, tokens)} for split, tokens in self._tokens(self._facts).items()}

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """Returns inputs and targets (batch, context_length); a target of -1 is none and does not count.

        In evaluations also "characters" (batch, context_length): how many characters each target stands for.
        """
        stored, length = batch["inputs"], self.context_length
        places = jnp.arange(length + 1)
        if train:
            starts = jax.random.randint(key, (stored.shape[0], 1), 0, self._stored_width - length)
            window = jnp.take_along_axis(stored, starts + places, axis=1)
        else:
            window = stored[:, : length + 1]
        window = window.astype(jnp.int32)
        known = window < self.vocabulary.size
        prepared = {
            **batch,
            "inputs": jnp.where(known, window, 0)[:, :-1],
            "targets": jnp.where(known, window, -1)[:, 1:],
        }
        characters = self.vocabulary.token_characters()
        if not train and characters is not None:
            prepared["characters"] = jnp.asarray(characters, jnp.float32)[jnp.maximum(prepared["targets"], 0)]
        return prepared

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns ("tokens 1 to 256", ...) and the windows of another text file, as stored.

        Raises:
          RequestError: it cannot be read, or there is a character in it that the vocabulary does not have.
        """
        text = read_text(path, "--input")
        try:
            tokens = self.vocabulary.encode(text).astype(token_type(self.vocabulary.size))
        except RequestError as error:
            raise RequestError(f"{path}, {error}") from None
        length = self.context_length
        windows = Windows(
            tokens, length, self._stored_width, -(-len(tokens) // length), len(tokens), self.vocabulary.size
        )
        names = [f"tokens {start + 1} to {min(start + length, len(tokens))}" for start in range(0, len(tokens), length)]
        return names, windows[np.arange(windows.count)]

    @functools.cached_property
    def _facts(self) -> TextFacts:
        return self.facts or self._examine()

    @property
    def _stored_width(self) -> int:
        return min(2 * self.context_length, self._facts.lengths["train"])

    def _windows(self, split: str, tokens: np.ndarray) -> Windows:
        size, length, width = self._facts.lengths[split], self.context_length, self._stored_width
        if split == "train":
            count, latest = -(-(size - width) // length) + 1, size - width
        else:
            count, latest = -(-(size - 1) // length), size
        return Windows(tokens, length, width, count, latest, self.vocabulary.size)

    def _pieces(self) -> Iterator[str | None]:
        """Yields the text in pieces, and None where a document ends."""
        for document in self.documents():
            yield from document
            if self.separated:
                yield None

    def _examine(self) -> TextFacts:
        special = (("<end>",) if self.separated else ()) + ((UNKNOWN,) if isinstance(self.tokenizer, Words) else ())
        sha256, size = hashlib.sha256(), 0

        def read() -> Iterator[str]:
            nonlocal size
            for piece in self._pieces():
                sha256.update(b"\xff" if piece is None else piece.encode())
                size += len(piece or "")
                yield piece or ""
            if not size:
                raise RequestError(f"{self.source} is empty")

        vocabulary = self.tokenizer.learn(read(), special) if self.tokenizer.needs_all else None
        if vocabulary is None:
            collections.deque(read(), maxlen=0)  # only to find out how long it is
        try:
            counts = self.split.counts(size, of="characters")
        except RequestError as error:
            raise RequestError(f"{self.source}: {error}") from None
        ends = dict(zip(counts, np.cumsum(list(counts.values())).tolist(), strict=True))
        if vocabulary is None:
            text = parts((piece for piece in self._pieces() if piece), ends.values())
            vocabulary = self.tokenizer.learn((piece for part, piece in text if part == 0), special)
        facts = TextFacts(vocabulary=vocabulary, lengths={}, ends=ends, fingerprint=sha256.hexdigest())
        lengths = {split: len(tokens) for split, tokens in self._tokens(facts).items()}
        for split in ends:
            if (found := lengths.get(split, 0)) <= self.context_length:
                what = f"{self.source}: the split {split!r} has {found:,} tokens"
                advice = "give more text, a smaller dataset.context_length, or another dataset.split"
                raise RequestError(f"{what}, and a window has {self.context_length + 1:,}; {advice}")
        return dataclasses.replace(facts, lengths=lengths)

    def _tokens(self, facts: TextFacts) -> Tokens:
        names, size = list(facts.ends), list(facts.ends.values())[-1]

        def tokenise() -> Iterator[tuple[str, np.ndarray]]:
            sha256, at = hashlib.sha256(), 0
            for piece in self._pieces():
                sha256.update(b"\xff" if piece is None else piece.encode())
                if piece is None:
                    split = next(name for name, end in facts.ends.items() if at <= end)
                    yield split, np.array([facts.vocabulary.end_id])
                    continue
                for part, text in parts([piece], [end - at for end in facts.ends.values()]):
                    try:
                        yield names[part], facts.vocabulary.encode(text)
                    except RequestError:
                        raise self._changed() from None  # what it was learnt from has no unknown characters
                at += len(piece)
            if sha256.hexdigest() != facts.fingerprint:
                raise self._changed()

        key = f"{facts.fingerprint} {facts.vocabulary!r} {facts.ends}"
        return stored_tokens(key, tokenise, size, token_type(facts.vocabulary.size), self.cache)

    def _changed(self) -> RequestError:
        return RequestError(f"{self.source} is not the text that the run began with (its SHA-256 is another)")
