"""What all datasets of texts with classes share: tokens of one length, a vocabulary learnt from the training texts."""

import abc
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from neuralmon.data.dataset import Spec
from neuralmon.data.labelled import Facts, LabelledDataset
from neuralmon.data.tables.csv_text import read_text
from neuralmon.data.text.tokenizers import Tokenizer, Words
from neuralmon.data.text.vocabularies import Vocabulary
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt

_SPECIAL = ("<pad>", "<begin>", "<end>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledTextFacts(Facts):
    """What only the texts can decide.

    Attributes:
      vocabulary: the tokens of the training texts, or of the run they were taken from.
    """

    vocabulary: Vocabulary


@dataclasses.dataclass(frozen=True)
class Source:
    """Texts as they lie there.

    Attributes:
      texts: of each split.
      targets: the class of each of its texts, int32.
      class_names: names of the classes.
      names: where each text is, for messages.
      fingerprint: a hash over all of it.
    """

    texts: Mapping[str, list[str]]
    targets: Mapping[str, np.ndarray]
    class_names: tuple[str, ...]
    names: Mapping[str, list[str]]
    fingerprint: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledText(LabelledDataset):
    """Texts with classes. A subclass says where they are (`source`).

    A text is stored as `length` tokens, int32: "<begin>", its own, "<end>", and "<pad>" up to the length. Models get
    {"sequence": tokens (batch, length), "lengths": (batch,)}, so that padding is nothing to them. The vocabulary is
    learnt from the training texts alone; what is not in it is the token "<unknown>".

    Attributes:
      tokenizer: what a token is.
      length: tokens of an example, with "<begin>" and "<end>"; longer texts are cut.
      keep: which part of a longer text is kept: its "start" or its "end".
      vocabulary_of: the folder of a run whose vocabulary is taken, so that this one can begin with its parameters
        (--init_from); the tokenizer is then not asked. Special tokens that it lacks are put behind its own.
      facts: what only the data can decide; leave it out, it is filled in.
    """

    tokenizer: Tokenizer = dataclasses.field(default_factory=Words)
    length: PositiveInt = 256
    keep: Literal["start", "end"] = "start"
    vocabulary_of: str | None = None
    facts: LabelledTextFacts | None = None

    @abc.abstractmethod
    def source(self) -> Source:
        """Reads the texts."""

    def examine(self) -> LabelledTextFacts:
        """See `LabelledDataset.examine`."""
        if self.augment:
            raise RequestError("dataset.augment: it changes images; there is no augmentation of texts")
        if self.length < 3:
            raise RequestError(f"dataset.length: {self.length} leaves no room for a text between <begin> and <end>")
        source = self.source()
        counts = np.bincount(source.targets["train"], minlength=len(source.class_names))
        if counts.min() < 1:
            name = source.class_names[int(counts.argmin())]
            raise RequestError(f"no text of the class {name!r} is among the training examples: add some")
        if self.vocabulary_of is not None:
            vocabulary = vocabulary_of_run(self.vocabulary_of)
        else:
            vocabulary = self.tokenizer.learn(source.texts["train"], (*_SPECIAL, "<unknown>"))
        return LabelledTextFacts(
            sizes={name: len(texts) for name, texts in source.texts.items()},
            shape=(self.length,),
            dtype="int32",
            class_names=source.class_names,
            class_counts=tuple(counts.tolist()),
            fingerprint=source.fingerprint,
            vocabulary=vocabulary,
        )

    def read(self) -> dict[str, dict[str, np.ndarray]]:
        """See `LabelledDataset.read`."""
        source = self.source()
        if source.fingerprint != self._facts().fingerprint:
            raise RequestError("the texts are not those that the run began with: restore them, or start a new run")
        return {
            name: {"inputs": self.encode(texts, source.names[name]), "targets": source.targets[name]}
            for name, texts in source.texts.items()
        }

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens of a resolved dataset, without the special ones that a vocabulary taken from a run lacks."""
        return self._facts().vocabulary

    def spec(self) -> Spec:
        """See `Dataset.spec`."""
        vocabulary = self.vocabulary
        missing = sum(name not in vocabulary.special for name in _SPECIAL)
        return dataclasses.replace(super().spec(), vocab_size=vocabulary.size + missing)

    def to_float(self, inputs: Array) -> Array:
        """Returns tokens as they are: numbers of tokens are no numbers."""
        return inputs

    def normalize(self, inputs: Int[Array, "batch length"]) -> Any:
        """Returns {"sequence": tokens, "lengths": how many of each text are no padding}."""
        return {"sequence": inputs, "lengths": (inputs != _special(self.vocabulary)[0]).sum(axis=1, dtype=jnp.int32)}

    def encode(self, texts: list[str], names: list[str]) -> Int[np.ndarray, "texts length"]:
        """Returns texts as they are stored; `names` say in errors which one is meant.

        Raises:
          RequestError: there is no token in a text, or one that is not known.
        """
        vocabulary = self.vocabulary
        pad, begin, end = _special(vocabulary)
        tokens = np.full((len(texts), self.length), pad, np.int32)
        for row, text in enumerate(texts):
            try:
                own = vocabulary.encode(text)
            except RequestError as error:
                raise RequestError(f"{names[row]}: {error}") from None
            if not len(own):
                raise RequestError(f"{names[row]}: the text is empty")
            room = self.length - 2
            own = own[:room] if self.keep == "start" else own[-room:]
            tokens[row, : len(own) + 2] = [begin, *own, end]
        return tokens

    def read_inputs(self, path: str) -> tuple[list[str], np.ndarray]:
        """Returns ("line 1", ...) and the texts of a file, one a line; empty lines are left out.

        Of a folder each .txt file, those of its folders too, is one text, and its path the name.

        Raises:
          RequestError: there is no such file or folder, or no text in it.
        """
        folder = Path(path).expanduser()
        if folder.is_dir():
            files = sorted(file for file in folder.rglob("*.txt") if file.is_file())
            if not files:
                raise RequestError(f"{folder} holds no .txt files")
            texts = [read_text(str(file), "a text file")[0] for file in files]
            return [str(file.relative_to(folder)) for file in files], self.encode(texts, [str(file) for file in files])
        text, _ = read_text(path, "a text file")
        lines = [(f"line {number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not lines:
            raise RequestError(f"{path} holds no text")
        names = [name for name, _ in lines]
        return names, self.encode([line for _, line in lines], [f"{path}, {name}" for name in names])

    def _facts(self) -> LabelledTextFacts:
        return self.facts or self.examine()


def vocabulary_of_run(folder: str) -> Vocabulary:
    """Returns the vocabulary that a run was trained with.

    Raises:
      RequestError: the folder holds no run, or one without a vocabulary.
    """
    # The grammar stands above data: it is asked only here, where a record is read.
    from neuralmon import codec
    from neuralmon.names import Names

    file = Path(folder).expanduser() / "experiment.json"
    try:
        record = json.loads(file.read_text("utf-8"))["experiment"]["dataset"]
    except FileNotFoundError:
        raise RequestError(f"{folder} holds no run: there is no {file}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RequestError(f"{file} is no record of a run: {type(error).__name__}: {error}") from None
    vocabulary = getattr(codec.from_json(record, Any, Names()), "vocabulary", None)
    if not isinstance(vocabulary, Vocabulary):
        raise RequestError(f"the run in {folder} has no vocabulary: it was not trained on text")
    return vocabulary


def _special(vocabulary: Vocabulary) -> tuple[int, int, int]:
    """Returns the numbers of padding, begin and end; those that the vocabulary lacks stand behind its own tokens."""
    missing = [name for name in _SPECIAL if name not in vocabulary.special]
    behind = {name: vocabulary.size + index for index, name in enumerate(missing)}
    pad, begin, end = ({**behind, **vocabulary.special}[name] for name in _SPECIAL)
    return pad, begin, end
