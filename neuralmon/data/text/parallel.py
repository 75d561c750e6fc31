"""Texts in pairs, each of which a model writes when it is given the other: what all such datasets share."""

import abc
import dataclasses
import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from neuralmon.data.dataset import Batch, Spec
from neuralmon.data.text.packing import filled, rows_of
from neuralmon.data.text.tokenizers import BytePair, Tokenizer
from neuralmon.data.text.vocabularies import Vocabulary
from neuralmon.errors import RequestError, RunError
from neuralmon.fields import PositiveInt

Pairs: TypeAlias = tuple[Sequence[str], Sequence[str]]  # sources, and the target of each


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParallelFacts:
    """What only the texts can decide. It is found once and recorded with the run, so that a folder tells all of it.

    Attributes:
      sizes: number of rows of each split.
      num_pairs: number of pairs in them.
      left_out: number of pairs of each split that are too long.
      source_length: tokens of a row of sources.
      target_length: tokens of a row of targets.
      vocabulary: the tokens of the targets, and of the sources too if these have none of their own.
      source_vocabulary: the tokens of the sources; None: those of the targets.
      fingerprint: a hash over all texts, by which others are noticed.
    """

    sizes: Mapping[str, int]
    num_pairs: Mapping[str, int]
    left_out: Mapping[str, int]
    source_length: int
    target_length: int
    vocabulary: Vocabulary
    source_vocabulary: Vocabulary | None = None
    fingerprint: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parallel(abc.ABC):
    """Pairs of texts, as rows of tokens. A subclass says which (`read_pairs`).

    A row of "inputs" is a source with `<end>` behind it, one of "targets" its target with `<end>`, both padded by token
    0. Prepared they are {"source": ..., "target": ...} as `nm.models.Transformer` takes them: the target one place
    later, behind `<begin>`. With `pack` a row holds several pairs, one behind the other, and "source_segments" and
    "target_segments" number them: nothing but speed changes, since each is computed as if alone.

    Attributes:
      tokenizer: how texts become tokens; it learns from the training pairs, from both sides.
      source_tokenizer: how sources become tokens of their own numbers; None: sources and targets share them.
      max_tokens: most tokens of a source or target, `<end>` included; longer pairs are left out; None: all stay.
      pack: tokens of a row into which short pairs are packed; None: each pair is a row, padded to the longest.
      pipeline: "device": all examples live on the device; "stream": batches are read while training goes on; "auto":
        stream what is larger than a quarter of the memory.
      facts: what only the texts can decide; leave it out, it is filled in.
    """

    tokenizer: Tokenizer = dataclasses.field(default_factory=lambda: BytePair(vocab_size=8_000))
    source_tokenizer: Tokenizer | None = None
    max_tokens: PositiveInt | None = None
    pack: PositiveInt | None = None
    pipeline: Literal["auto", "device", "stream"] = "auto"
    facts: ParallelFacts | None = None

    @abc.abstractmethod
    def read_pairs(self) -> Mapping[str, Pairs]:
        """Returns the texts of every split; what is wrong with them is a RequestError."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the targets."""
        return self._resolved().vocabulary

    @property
    def source_vocabulary(self) -> Vocabulary:
        """The tokens of the sources."""
        facts = self._resolved()
        return facts.source_vocabulary or facts.vocabulary

    def texts(self, split: str) -> Pairs:
        """Returns all sources and targets of a split, those that are too long for a row too."""
        return self.read_pairs()[split]

    def encode_sources(self, texts: Iterable[str]) -> list[Int[np.ndarray, " tokens"]]:
        """Returns the tokens of each source, `<end>` behind them.

        Raises:
          RequestError: a text has something in it that the vocabulary does not know.
        """
        vocabulary = self.source_vocabulary
        return [np.append(vocabulary.encode(text), np.int32(_end(vocabulary))) for text in texts]

    def resolve(self) -> "Parallel":
        """See `Dataset`."""
        if self.facts is not None:
            return self
        pairs = self.read_pairs()
        for name, (sources, targets) in pairs.items():
            if not len(sources) == len(targets) > 0:
                raise RequestError(f"dataset: {len(sources)} sources and {len(targets)} targets in the split {name!r}")
        vocabulary, own = self._learn(pairs)
        encoded = self._encode(pairs, own or vocabulary, vocabulary)
        lengths = {name: _lengths(sides) for name, sides in encoded.items()}
        longest = np.maximum.reduce([own.max(axis=0) for own in lengths.values()])
        room = np.full(2, self.pack) if self.pack else np.minimum(longest, self.max_tokens or longest)
        limit = np.minimum(room, self.max_tokens or room)
        left_out = {name: int((own > limit).any(axis=1).sum()) for name, own in lengths.items()}
        if left_out["train"] and self.max_tokens is None:
            what = f"{left_out['train']} training pairs are longer, the longest {longest.max()} tokens"
            raise RequestError(f"dataset.pack={self.pack}: {what}; raise it, or leave them out by dataset.max_tokens")
        if any(left_out.values()):
            counted = ", ".join(f"{count:,} of {len(lengths[name]):,} in {name}" for name, count in left_out.items())
            warnings.warn(f"pairs of more than {limit.max()} tokens are left out: {counted}", stacklevel=2)
        facts = ParallelFacts(
            sizes={},
            num_pairs={name: len(own) - left_out[name] for name, own in lengths.items()},
            left_out=left_out,
            source_length=int(room[0]),
            target_length=int(room[1]),
            vocabulary=vocabulary,
            source_vocabulary=own,
            fingerprint=_fingerprint(pairs),
        )
        if empty := [name for name, count in facts.num_pairs.items() if not count]:
            what = f"no pair of the split {empty[0]!r} has so few tokens"
            raise RequestError(f"dataset.max_tokens={self.max_tokens}: {what}")
        splits = {name: self._rows(sides, facts) for name, sides in encoded.items()}
        facts = dataclasses.replace(facts, sizes={name: len(rows["inputs"]) for name, rows in splits.items()})
        resolved = dataclasses.replace(self, facts=facts)
        _recent[:] = [(resolved, splits)]
        return resolved

    def spec(self) -> Spec:
        """See `Dataset.spec`."""
        facts = self._resolved()
        return Spec(
            features={
                "inputs": jax.ShapeDtypeStruct((facts.source_length,), np.int32),
                "targets": jax.ShapeDtypeStruct((facts.target_length,), np.int32),
            },
            sizes=facts.sizes,
            vocab_size=facts.vocabulary.size,
            source_vocab_size=None if facts.source_vocabulary is None else facts.source_vocabulary.size,
        )

    def load(self) -> dict[str, dict[str, np.ndarray]]:
        """See `Dataset.load`."""
        facts, pairs = self._resolved(), self.read_pairs()
        if _fingerprint(pairs) != facts.fingerprint:
            raise RunError("dataset: the texts have changed since the run began; restore them, or start a new run")
        for resolved, splits in _recent:
            if resolved == self:
                return splits
        encoded = self._encode(pairs, self.source_vocabulary, self.vocabulary)
        return {name: self._rows(sides, facts) for name, sides in encoded.items()}

    def prepare(self, key: Array, batch: Batch, train: bool) -> Batch:
        """See `Dataset.prepare`; without targets, the target is its beginning alone."""
        source, begin, end = batch["inputs"], self.vocabulary.special["<begin>"], _end(self.vocabulary)
        target = jnp.full((len(source), 1), begin, jnp.int32)
        if "targets" in batch:
            before = jnp.concatenate([target, batch["targets"][:, :-1]], axis=1)
            target = jnp.where(before == end, begin, before)
        inputs = {"source": source, "target": target}
        if self.pack:
            targets = batch.get("targets", target)
            inputs["source_segments"] = _segments(source, _end(self.source_vocabulary))
            inputs["target_segments"] = _segments(targets, end)
        prepared: dict[str, Any] = {**batch, "inputs": inputs}
        return prepared

    def _resolved(self) -> ParallelFacts:
        return self.facts or self.resolve().facts  # type: ignore[return-value]

    def _learn(self, pairs: Mapping[str, Pairs]) -> tuple[Vocabulary, Vocabulary | None]:
        """Returns the vocabulary of the targets, and that of the sources if they have their own."""

        def learn(tokenizer: Tokenizer, sides: tuple[int, ...]) -> Vocabulary:
            # What cannot be spelt otherwise has to be known in all splits.
            seen = list(pairs) if tokenizer.needs_all else ["train"]
            special = ("<pad>", "<begin>", "<end>", *(() if tokenizer.needs_all else ("<unknown>",)))
            vocabulary = tokenizer.learn(
                (text for side in sides for name in seen for text in pairs[name][side]), special
            )
            if vocabulary.pad_id != 0:
                what = f"{type(tokenizer).__name__}'s <pad> is token {vocabulary.pad_id}"
                raise RequestError(f"dataset.tokenizer: padding has to be token 0, and {what}: use one that learns")
            return vocabulary

        if self.source_tokenizer is None:
            return learn(self.tokenizer, (0, 1)), None
        return learn(self.tokenizer, (1,)), learn(self.source_tokenizer, (0,))

    def _encode(self, pairs: Mapping[str, Pairs], *vocabularies: Vocabulary) -> dict[str, tuple[list[np.ndarray], ...]]:
        """Returns the tokens of the sources and of the targets of each split, with their ends."""
        ends = [np.int32(_end(vocabulary)) for vocabulary in vocabularies]
        return {
            name: tuple(
                [np.append(tokens, end) for tokens in vocabulary.encode_all(side)]
                for side, vocabulary, end in zip(sides, vocabularies, ends, strict=True)
            )
            for name, sides in pairs.items()
        }

    def _rows(self, sides: tuple[list[np.ndarray], ...], facts: ParallelFacts) -> dict[str, np.ndarray]:
        room = np.array([facts.source_length, facts.target_length])
        lengths = _lengths(sides)
        kept = np.flatnonzero((lengths <= np.minimum(room, self.max_tokens or room)).all(axis=1))
        rows = rows_of(lengths[kept], room) if self.pack else np.arange(len(kept))
        columns = (
            filled([side[pair] for pair in kept], rows, width) for side, width in zip(sides, room.tolist(), strict=True)
        )
        return dict(zip(("inputs", "targets"), columns, strict=True))


# The rows of the dataset that was resolved last, which is mostly the one that is loaded next.
_recent: list[tuple[Parallel, dict[str, dict[str, np.ndarray]]]] = []


def _end(vocabulary: Vocabulary) -> int:
    return vocabulary.special["<end>"]


def _lengths(sides: tuple[list[np.ndarray], ...]) -> np.ndarray:
    return np.array([[len(tokens) for tokens in side] for side in sides]).T


def _segments(tokens: Int[Array, "batch time"], end: int) -> Int[Array, "batch time"]:
    """Returns the number of the text that each place belongs to, from 1 on; 0 for padding."""
    ends = tokens == end
    return jnp.where(tokens == 0, 0, jnp.cumsum(ends, axis=1) - ends + 1)


def _fingerprint(pairs: Mapping[str, Pairs]) -> str:
    digest = hashlib.sha256()
    for name, sides in pairs.items():
        for side in sides:
            # Lines hold no line ends: these tell where one text ends, and two where all of a side do.
            digest.update("\n".join([name, *side, "", ""]).encode())
    return digest.hexdigest()
