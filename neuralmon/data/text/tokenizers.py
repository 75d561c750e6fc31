"""How a text is cut into tokens: a `Tokenizer` says in which way, the `Vocabulary` that it learns does it."""

import abc
import collections
import dataclasses
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, ClassVar

from neuralmon.data.text.vocabularies import (
    BytePairVocabulary,
    CharacterVocabulary,
    Vocabulary,
    WordVocabulary,
    byte_characters,
    words_of,
)
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt, Range

END_OF_TEXT = "<|endoftext|>"  # as GPT-2's vocabulary calls it


class Tokenizer(abc.ABC):
    """What a vocabulary is made of. Implementations are frozen dataclasses.

    Class attributes:
      needs_all: whether what it has not seen while learning cannot be encoded, so that it has to see all of a corpus.
    """

    needs_all: ClassVar[bool] = False

    @abc.abstractmethod
    def learn(self, texts: Iterable[str], special: Sequence[str] = ()) -> Vocabulary:
        """Returns the vocabulary of some texts, which are read once.

        Args:
          texts: pieces of text.
          special: tokens that are no text, such as "<pad>", "<begin>", "<end>" and "<unknown>".

        Raises:
          RequestError: there is no text to learn from, or a file of the tokenizer cannot be used.
        """


@dataclasses.dataclass(frozen=True)
class Characters(Tokenizer):
    """Each character is a token; special tokens come first, then the characters in the order of Unicode."""

    needs_all: ClassVar[bool] = True

    def learn(self, texts: Iterable[str], special: Sequence[str] = ()) -> CharacterVocabulary:
        """See `Tokenizer.learn`."""
        found = set[str]().union(*texts)
        if not found:
            raise _nothing()
        return CharacterVocabulary(characters="".join(sorted(found)), special=_first(special))


@dataclasses.dataclass(frozen=True)
class Words(Tokenizer):
    """Each word and each punctuation mark is a token: special tokens first, then the words, the most frequent first.

    A word is letters, digits and underscores, with apostrophes inside it; spaces are not kept.

    Attributes:
      vocab_size: most tokens, the special ones included; None: no limit.
      min_count: how often a word must occur to be a token.
      lowercase: whether capitals count as small letters.
    """

    vocab_size: PositiveInt | None = 20_000
    min_count: PositiveInt = 2
    lowercase: bool = True

    def learn(self, texts: Iterable[str], special: Sequence[str] = ()) -> WordVocabulary:
        """See `Tokenizer.learn`."""
        counts = collections.Counter[str]()
        for text in texts:
            counts.update(words_of(text, self.lowercase))
        if not counts:
            raise _nothing()
        # Of equally frequent ones the first in the alphabet: the order of the texts does not matter.
        known = sorted(
            (word for word, count in counts.items() if count >= self.min_count), key=lambda w: (-counts[w], w)
        )
        if self.vocab_size is not None:
            known = known[: max(self.vocab_size - len(special), 0)]
        if not known:
            raise RequestError(f"Words(min_count={self.min_count}, vocab_size={self.vocab_size}) leaves no word")
        return WordVocabulary(words=" ".join(known), lowercase=self.lowercase, special=_first(special))


@dataclasses.dataclass(frozen=True)
class BytePair(Tokenizer):
    """Byte-pair encoding of bytes: the 256 bytes, then again and again the most frequent pair of neighbours is a token.

    Pairs do not reach across words (GPT-2's rule: a word has the space before it). Whatever is not known is spelt in
    bytes, so that every text can be encoded, and decoding gives it back as it was. Special tokens come first.

    Source: Sennrich, Haddow & Birch, "Neural Machine Translation of Rare Words with Subword Units", ACL 2016, section
    3.2; of bytes: Radford et al. 2019 (GPT-2), section 2.2. Learnt by the library `tokenizers`.

    Attributes:
      vocab_size: most tokens, the special ones included; a short text may give fewer.
      min_count: how often a pair must occur to become a token.
    """

    vocab_size: Annotated[int, Range(256)] = 2_000
    min_count: PositiveInt = 2

    def learn(self, texts: Iterable[str], special: Sequence[str] = ()) -> BytePairVocabulary:
        """See `Tokenizer.learn`."""
        from tokenizers import Tokenizer as Library
        from tokenizers import models, pre_tokenizers, trainers

        library = Library(models.BPE())
        library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=max(self.vocab_size - len(special), 256),
            min_frequency=self.min_count,
            initial_alphabet=sorted(byte_characters()),
            show_progress=False,
        )
        texts, some = _counted(texts)
        library.train_from_iterator(texts, trainer)
        if not some():
            raise _nothing()
        model = json.loads(library.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return BytePairVocabulary(
            tokens=" ".join([*special, *tokens]), merges=_merges(model["merges"]), special=_first(special)
        )


@dataclasses.dataclass(frozen=True)
class Gpt2(Tokenizer):
    """GPT-2's own tokens, from files that you have: 50,257 of them, the last of which is the end of a text.

    Nothing is learnt. The special token "<end>" is the vocabulary's own `<|endoftext|>`; others are put behind.

    Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2.

    Attributes:
      path: a folder with vocab.json and merges.txt, or with tokenizer.json; or a file tokenizer.json.
    """

    path: str

    def learn(self, texts: Iterable[str], special: Sequence[str] = ()) -> BytePairVocabulary:
        """See `Tokenizer.learn`; the texts are not read."""
        ids, merges = _read_gpt2(Path(self.path).expanduser())
        tokens = sorted(ids, key=ids.__getitem__)
        numbered = [ids[token] for token in tokens] == list(range(len(tokens)))
        if not numbered or not byte_characters() <= ids.keys() or not byte_characters() >= set().union(*tokens):
            what = "its tokens are not numbered 0, 1, 2, ..., or not spelt in bytes, or not all bytes are among them"
            raise RequestError(f"Gpt2.path: {self.path} is no byte-level vocabulary as GPT-2's is: {what}")
        names = {name: END_OF_TEXT if name == "<end>" and END_OF_TEXT in ids else name for name in special}
        tokens += [own for own in names.values() if own not in ids]
        return BytePairVocabulary(
            tokens=" ".join(tokens),
            merges=_merges(merges),
            special={name: tokens.index(own) for name, own in names.items()},
        )


def _read_gpt2(path: Path) -> tuple[dict[str, int], list]:
    """Returns the number of each token, and the merges."""
    if not path.exists():
        raise RequestError(f"Gpt2.path: there is no {path}; give a folder with vocab.json and merges.txt")
    one = path if path.is_file() else path / "tokenizer.json"
    two = (path / "vocab.json", path / "merges.txt")
    try:
        if one.exists():
            data = json.loads(one.read_text("utf-8"))
            added = {token["content"]: token["id"] for token in data.get("added_tokens", ())}
            return {**data["model"]["vocab"], **added}, data["model"]["merges"]
        if all(file.exists() for file in two):
            lines = two[1].read_text("utf-8").split("\n")
            # The first line may say a version; after it every line is two tokens.
            return json.loads(two[0].read_text("utf-8")), [x for x in lines if x and not x.startswith("#version")]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise RequestError(
            f"Gpt2.path: {path} is no vocabulary as GPT-2's is: {type(error).__name__}: {error}"
        ) from None
    raise RequestError(f"Gpt2.path: {path} has neither vocab.json and merges.txt nor tokenizer.json")


def _merges(merges: Sequence[str | Sequence[str]]) -> str:
    return "\n".join(merge if isinstance(merge, str) else " ".join(merge) for merge in merges)


def _first(special: Sequence[str]) -> dict[str, int]:
    return {name: index for index, name in enumerate(special)}


def _nothing() -> RequestError:
    return RequestError("there is no text to learn a vocabulary from: it is empty")


def _counted(texts: Iterable[str]) -> tuple[Iterable[str], Callable[[], bool]]:
    """Returns the texts, and a function that says, once they are read, whether there was a character in them."""
    seen = [False]

    def read() -> Iterable[str]:
        for text in texts:
            seen[0] |= bool(text)
            yield text

    return read(), lambda: seen[0]
