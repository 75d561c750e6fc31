"""Passages of Shakespeare's plays, and the play that each is from."""

import dataclasses
import functools
import hashlib
import re

import numpy as np

from neuralmon.data.splits import RandomSplit, Split
from neuralmon.data.text import shakespeare
from neuralmon.data.text.labelled import LabelledText, Source
from neuralmon.errors import RequestError
from neuralmon.fields import PositiveInt

_PLAY = re.compile(r"^(.+)\n\n+ACT I\n", re.MULTILINE)
# In a paragraph, what is between two runs of brackets; some are the other way round, or doubled: ]\[Aside to ARIEL][.
_BRACKETS = r"\\?[\[\]](?:\\?[\[\]])*"
_DIRECTION = re.compile(rf"{_BRACKETS}[^\[\]]*?(?:{_BRACKETS}|$)")
_SPEECH = re.compile(r"^[^\n]{1,60}:\n(.+)", re.DOTALL)  # a paragraph: the speaker's name, then the lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShakespearePassages(LabelledText):
    """Which play is it from? Passages of what is said in the last seven plays, from The Tempest to Timon.

    They lie in the last fifth of the shipped text, so that a language model trained on `nm.data.Shakespeare`, whose
    default is to learn from the first four fifths, has not read them. Speakers' names, stage directions and headings
    are left out: they would tell. Passages of one play lie side by side and do not overlap.

    Attributes:
      words: words of a passage.
      train_size: so many training passages are taken, the first of a random order; None: all.
      split: how the passages are cut.
    """

    words: PositiveInt = 40
    train_size: PositiveInt | None = None
    split: Split = dataclasses.field(default_factory=lambda: RandomSplit(validation=0.2, test=0.2))

    def source(self) -> Source:
        """See `LabelledText.source`."""
        texts, targets = [], []
        for number, said in enumerate(_said().values()):
            words = said.split()
            starts = range(0, len(words) - self.words + 1, self.words)
            texts += [" ".join(words[start : start + self.words]) for start in starts]
            targets += [number] * len(starts)
        if not texts:
            raise RequestError(f"dataset.words: no play has as many as {self.words:,}")
        rows = self.split.rows(len(texts))
        if self.train_size is not None:
            if self.train_size > len(rows["train"]):
                raise RequestError(f"dataset.train_size: there are {len(rows['train']):,} training passages only")
            order = RandomSplit(seed=1).order(len(rows["train"]))
            rows = {**rows, "train": np.sort(rows["train"][order[: self.train_size]])}
        labels = np.array(targets, np.int32)
        return Source(
            texts={name: [texts[row] for row in part] for name, part in rows.items()},
            targets={name: labels[part] for name, part in rows.items()},
            class_names=tuple(_said()),
            names={name: [f"passage {row + 1}" for row in part] for name, part in rows.items()},
            fingerprint=hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        )


@functools.cache
def _said() -> dict[str, str]:
    """Returns what is said in each of the plays that begin in the last fifth of the text."""
    text = shakespeare.read()
    starts = list(_PLAY.finditer(text))
    ends = [*(match.start() for match in starts[1:]), len(text)]
    plays = {m[1]: text[m.end() : end] for m, end in zip(starts, ends, strict=True) if m.start() >= 0.8 * len(text)}
    said = {}
    for title, play in plays.items():
        paragraphs = (_DIRECTION.sub("", paragraph) for paragraph in re.split(r"\n\s*\n", play))
        said[title] = "\n".join(match[1] for match in map(_SPEECH.match, paragraphs) if match)
    return said
