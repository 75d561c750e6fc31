"""From text to the numbers of tokens and back."""

import abc
import dataclasses
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from neuralmon.errors import RequestError

UNKNOWN = "<unknown>"
_PIECE = 2**16
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary(abc.ABC):
    """The tokens of a tokenizer, numbered from 0. It is plain data, and recorded with a run.

    Attributes:
      special: number of each token that is no text: "<pad>", "<begin>", "<end>", "<unknown>" and the like. No text is
        encoded as one of them but what is unknown; decoding leaves out all but the unknown.
    """

    special: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """Number of tokens, the special ones included."""

    @abc.abstractmethod
    def encode(self, text: str) -> np.ndarray:
        """Returns the tokens of a text, (tokens,) int32.

        Raises:
          RequestError: there is something in it that is not known, and no token "<unknown>".
        """

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Returns the tokens of each text; of many short ones sooner than `encode`."""
        return [self.encode(text) for text in texts]

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of tokens."""

    @property
    def pad_id(self) -> int | None:
        """The token that fills up short texts; None: there is none."""
        return self.special.get("<pad>")

    @property
    def begin_id(self) -> int | None:
        """The token before a text; None: there is none."""
        return self.special.get("<begin>")

    @property
    def end_id(self) -> int | None:
        """The token behind a text; None: there is none."""
        return self.special.get("<end>")

    @property
    def unknown_id(self) -> int | None:
        """The token of what is not known; None: there is none."""
        return self.special.get(UNKNOWN)

    def token_characters(self) -> np.ndarray | None:
        """Returns how many characters of text each token stands for, (size,); None: decoding does not give them back.

        Over a text they add up to its characters: of a character in several tokens, the first has it.
        """
        return None

    def label(self, token: int) -> str:
        """Returns a token as a person reads it on its own, special ones too."""
        names = {number: name for name, number in self.special.items()}
        return names.get(int(token)) or self.decode([int(token)])

    def _text(self, ids: Iterable[int], hidden: bool = True) -> np.ndarray:
        """Returns the numbers without those that are no text, checked to be tokens at all."""
        ids = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), np.int64).reshape(-1)
        if len(ids) and not 0 <= ids.min() <= ids.max() < self.size:
            wrong = ids[(ids < 0) | (ids >= self.size)][0]
            raise RequestError(f"{wrong} is no token: there are 0 to {self.size - 1}")
        left_out = [number for name, number in self.special.items() if name != UNKNOWN]
        return ids[~np.isin(ids, left_out)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CharacterVocabulary(Vocabulary):
    """Special tokens, then characters.

    Attributes:
      characters: them, each once.
    """

    characters: str

    @property
    def size(self) -> int:
        """See `Vocabulary.size`."""
        return len(self.special) + len(self.characters)

    def encode(self, text: str) -> np.ndarray:
        """See `Vocabulary.encode`."""
        codes, numbers = _codes(text), _numbers(self.characters)
        known = codes < len(numbers)
        known[known] = numbers[codes[known]] >= 0
        if self.unknown_id is None and not known.all():
            place = int(np.argmin(known))
            line, column = text.count("\n", 0, place) + 1, place - (text.rfind("\n", 0, place) + 1) + 1
            what = f"the character {text[place]!r} (U+{ord(text[place]):04X}) is not known"
            raise RequestError(f"line {line}, column {column}: {what}; the vocabulary has {_sample(self.characters)}")
        found = np.full(len(codes), self.unknown_id or 0, np.int32)
        found[known] = numbers[codes[known]] + len(self.special)
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """See `Vocabulary.decode`; what is unknown is U+FFFD."""
        places = self._text(ids) - len(self.special)
        return "".join(self.characters[place] if place >= 0 else "\ufffd" for place in places.tolist())

    def token_characters(self) -> np.ndarray:
        """See `Vocabulary.token_characters`."""
        none = [number for name, number in self.special.items() if name != UNKNOWN]
        return ~np.isin(np.arange(self.size), none)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WordVocabulary(Vocabulary):
    """Special tokens, then words and punctuation marks. Spaces are not kept: decoding puts one between all.

    Attributes:
      words: them, each once, with spaces between.
      lowercase: whether text is put into small letters first.
    """

    words: str
    lowercase: bool = True

    @property
    def size(self) -> int:
        """See `Vocabulary.size`."""
        return len(self.special) + len(_words(self.words)[0])

    def encode(self, text: str) -> np.ndarray:
        """See `Vocabulary.encode`."""
        numbers, start = _words(self.words)[1], len(self.special)
        found = [numbers.get(word, -1 - start) + start for word in words_of(text, self.lowercase)]
        if self.unknown_id is None and -1 in found:
            text = text.lower() if self.lowercase else text
            match = next(itertools.islice(_WORD.finditer(text), found.index(-1), None))
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - (text.rfind("\n", 0, match.start()) + 1) + 1
            raise RequestError(f"line {line}, column {column}: the word {match.group()!r} is not in the vocabulary")
        ids = np.asarray(found, np.int32)
        return ids if self.unknown_id is None else np.where(ids < 0, np.int32(self.unknown_id), ids)

    def decode(self, ids: Iterable[int]) -> str:
        """See `Vocabulary.decode`."""
        words, start = _words(self.words)[0], len(self.special)
        return " ".join(words[number - start] if number >= start else UNKNOWN for number in self._text(ids).tolist())


@dataclasses.dataclass(frozen=True, kw_only=True)
class BytePairVocabulary(Vocabulary):
    """Tokens of bytes. A token is written as GPT-2's files write it: a printable character for each byte.

    Attributes:
      tokens: in the order of their numbers, with spaces between, the special ones in their places.
      merges: pairs of tokens that become one, a line each, those that come first first.
    """

    tokens: str
    merges: str

    @property
    def size(self) -> int:
        """See `Vocabulary.size`."""
        return self.tokens.count(" ") + 1

    def encode(self, text: str) -> np.ndarray:
        """See `Vocabulary.encode`; nothing is unknown."""
        library = _library(self.tokens, self.merges, frozenset(self.special.values()))
        encodings = library.encode_batch_fast(list(pieces(text, _PIECE)), add_special_tokens=False)
        return np.concatenate([np.zeros(0, np.int32), *(np.asarray(one.ids, np.int32) for one in encodings)])

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """See `Vocabulary.encode_all`."""
        library = _library(self.tokens, self.merges, frozenset(self.special.values()))
        return [np.asarray(one.ids, np.int32) for one in library.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids: Iterable[int]) -> str:
        """See `Vocabulary.decode`; bytes that are no UTF-8 become U+FFFD."""
        spelt = _bytes(self.tokens, frozenset(self.special.values()))
        return b"".join(spelt[number] for number in self._text(ids).tolist()).decode("utf-8", errors="replace")

    def label(self, token: int) -> str:
        """See `Vocabulary.label`; bytes that are only a part of a character are written as \\xc3."""
        text = super().label(token)
        if "\ufffd" not in text:
            return text
        own = _bytes(self.tokens, frozenset(self.special.values()))[int(token)]
        return own.decode("utf-8", errors="backslashreplace")

    def token_characters(self) -> np.ndarray:
        """See `Vocabulary.token_characters`."""
        spelt = _bytes(self.tokens, frozenset(self.special.values()))
        # In UTF-8 all bytes of a character but the first are 10......
        return np.array([sum(byte & 0xC0 != 0x80 for byte in token) for token in spelt])


def words_of(text: str, lowercase: bool) -> list[str]:
    """Returns the words and punctuation marks of a text."""
    return _WORD.findall(text.lower() if lowercase else text)


def pieces(text: str, size: int) -> Iterator[str]:
    """Yields a text in pieces of about `size` characters, cut where no token of any tokenizer reaches across.

    That is where white space follows something else; a text without such places is one piece.
    """
    start = 0
    while start < len(text):
        end = cut(text, start + size)
        yield text[start:end]
        start = end


def cut(text: str, least: int) -> int:
    """Returns the first place from `least` on where a text may be cut (see `pieces`), or its length."""
    for match in re.compile(r"(?<=\S)[ \n]").finditer(text, least):
        return match.start()
    return len(text)


@functools.cache
def byte_characters() -> frozenset[str]:
    """Returns the 256 characters that stand for the bytes in GPT-2's files."""
    return frozenset(_byte_of())


@functools.cache
def _byte_of() -> dict[str, int]:
    # Printable bytes stand for themselves; the others, in order, are the characters from U+0100 on.
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in own]
    return {chr(byte): byte for byte in own} | {chr(256 + index): byte for index, byte in enumerate(others)}


def _codes(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@functools.lru_cache(maxsize=16)
def _numbers(characters: str) -> np.ndarray:
    """Returns the number of the character of each code, or -1."""
    codes = _codes(characters)
    numbers = np.full(int(codes.max()) + 1, -1, np.int32)
    numbers[codes] = np.arange(len(codes))
    return numbers


@functools.lru_cache(maxsize=16)
def _words(words: str) -> tuple[list[str], dict[str, int]]:
    listed = words.split(" ")
    return listed, {word: number for number, word in enumerate(listed)}


@functools.lru_cache(maxsize=4)
def _library(tokens: str, merges: str, special: frozenset[int]) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocab = {token: number for number, token in enumerate(tokens.split(" ")) if number not in special}
    pairs = [(left, right) for left, _, right in (line.partition(" ") for line in merges.split("\n")) if left]
    library = Tokenizer(models.BPE(vocab, pairs))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return library


@functools.lru_cache(maxsize=4)
def _bytes(tokens: str, special: frozenset[int]) -> list[bytes]:
    """Returns the bytes of each token."""
    byte_of = _byte_of()
    spelt: Sequence[str] = tokens.split(" ")
    return [b"" if n in special else bytes(byte_of[c] for c in token) for n, token in enumerate(spelt)]


def _sample(characters: str) -> str:
    shown = repr(characters[:60])[1:-1]
    return f"{len(characters)} characters: {shown}{'...' if len(characters) > 60 else ''}"
