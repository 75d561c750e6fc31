"""One word in several sentences: a skip-gram has one vector for it, a language model one in each sentence.

    python -m neuralmon.reports.contexts runs/skipgram_shakespeare runs/gpt_shakespeare --word=light --output=light.png

A GPT's vector of a word is what its last block gives where it has read the word's last token, and all before it. The
vectors of all words in the sentences have a large part in common, their mean, which is taken off before cosines are
taken: else everything would be like everything.

Source: Ethayarajh, "How Contextual are Contextualized Word Representations?", EMNLP 2019, sections 3.2 and 3.3, where
the same is measured and corrected for in another way.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from neuralmon import figures
from neuralmon.data.text import shakespeare
from neuralmon.data.text.reading import read_text
from neuralmon.errors import RequestError
from neuralmon.figures import style
from neuralmon.inspection import inspect
from neuralmon.models import GPT
from neuralmon.tasks import Trained
from neuralmon.tasks.word_vectors import WordVectors
from neuralmon.training import load_run

_WORD = re.compile(r"\w+(?:'\w+)*")
_BEFORE, _BEHIND = 36, 20  # characters that are shown of a sentence, on either side of the word


def contexts(
    static: Trained, contextual: Trained, word: str, sentences: Sequence[str] = (), count: int = 8
) -> dict[str, Any]:
    """Returns what the figure "contexts" is drawn of: how alike a word's vectors are in several sentences.

    Args:
      static: a trained skip-gram.
      contextual: a trained GPT.
      word: the word.
      sentences: what it stands in, each sentence once for each time it does; (): passages of Shakespeare's plays.
      count: how many occurrences are compared at most, spread over the sentences.

    Raises:
      RequestError: the word stands in fewer than two places, or the runs are no such runs.
    """
    vectors = WordVectors.of(static)
    nearest = vectors.nearest(word.lower(), 5)
    places = _places(word, sentences or _passages())
    if len(places) < 2:
        raise RequestError(f"{word!r} stands in {len(places)} places of the sentences: two are needed to compare them")
    chosen = [places[index] for index in np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int)]
    cosines = _cosines(contextual, chosen)
    return {
        "sentences": [_shown(text, *span) for text, span in chosen],
        "cosines": {
            f"skip-gram: one vector, near {', '.join(near for near, _ in nearest)}": np.ones_like(cosines),
            f"{type(contextual.model).__name__}: a vector in each sentence": cosines,
        },
        "title": f"How alike the vectors of {word!r} are from sentence to sentence (cosine)",
    }


def _cosines(trained: Trained, places: Sequence[tuple[str, tuple[int, int]]]) -> Float[np.ndarray, "places places"]:
    """Returns the cosines of a word's vectors in these places."""
    model, vocabulary = trained.model, getattr(trained.dataset, "vocabulary", None)
    if not isinstance(model, GPT) or vocabulary is None:
        raise RequestError(f"contextual vectors are those of a GPT trained on text, not of a {type(model).__name__}")
    tokens = np.zeros((len(places), model.context_length), np.int32)
    ends: list[list[int]] = []  # in each row the last token of each word, that of the word itself behind all
    for row, (text, (_, end)) in zip(tokens, places, strict=True):
        own = vocabulary.encode(text[:end])
        cut = max(0, len(own) - len(row))
        row[: len(own) - cut] = own[cut:]
        words = [len(vocabulary.encode(text[: match.end()])) - 1 for match in _WORD.finditer(text, 0, end)]
        ends.append([place - cut for place in words if place >= cut])
    # It looks at nothing behind a place, so that padding there changes nothing.
    read = jax.jit(lambda variables: inspect(model, variables, tokens, "layers")["layers"][-1])
    states = np.asarray(read(trained.variables), np.float64)
    common = np.concatenate([states[row, places] for row, places in enumerate(ends)]).mean(axis=0)
    own = np.stack([states[row, places[-1]] for row, places in enumerate(ends)]) - common
    own /= np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-12)
    return own @ own.T


def _places(word: str, sentences: Iterable[str]) -> list[tuple[str, tuple[int, int]]]:
    """Returns each sentence with the place of the word in it, once for each time it stands there."""
    pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    return [(text, match.span()) for text in sentences for match in pattern.finditer(text)]


def _passages() -> list[str]:
    """Returns the paragraphs of the plays, each a speech."""
    return [text for text in re.split(r"\n\s*\n", shakespeare.read()) if text.strip()]


def _shown(text: str, start: int, end: int) -> str:
    """Returns the word in brackets between some of the words around it."""
    before, behind = text[:start].split(), text[end:].split(" ")
    while sum(map(len, before)) + len(before) > _BEFORE:
        before = ["…", *before[2 if before[0] == "…" else 1 :]]
    while sum(map(len, behind)) + len(behind) > _BEHIND and len(behind) > 1:
        behind = [*behind[: -2 if behind[-1] == "…" else -1], "…"]
    # What stands right before the word, such as an opening quote, belongs to it.
    gap = " " if text[:start][-1:].isspace() else ""
    return " ".join(f"{' '.join(before)}{gap}[{text[start:end]}]{' '.join(behind)}".split())


def main(arguments: list[str] | None = None) -> int:
    """Does what the command line asks for and returns the exit code: 2 if it cannot be done."""
    parser = argparse.ArgumentParser(
        prog="python -m neuralmon.reports.contexts", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("static", metavar="SKIPGRAM", help="the folder of a skip-gram's run")
    parser.add_argument("contextual", metavar="GPT", help="the folder of a GPT's run")
    parser.add_argument("--word", default="light", help="the word (default: light)")
    parser.add_argument("--sentences", help="a text file with a sentence in each line (default: the plays)")
    parser.add_argument("--count", type=int, default=8, help="how many places are compared (default: 8)")
    parser.add_argument("--output", help="the picture (default: figures/WORD_in_context.png of the GPT's run)")
    asked = parser.parse_args(arguments)
    try:
        folder = Path(asked.contextual) / "figures"
        output = Path(asked.output) if asked.output else folder / f"{asked.word}_in_context.png"
        sentences = read_text(asked.sentences, "--sentences").splitlines() if asked.sentences else ()
        static, contextual = load_run(asked.static).trained, load_run(asked.contextual).trained
        drawn = contexts(static, contextual, asked.word, sentences, asked.count)
        try:
            output.parent.mkdir(exist_ok=True)
            figure = figures.figure("contexts", **drawn)
            with style.applied():
                output.write_bytes(style.png(figure))
        except OSError as error:
            raise RequestError(f"--output={output}: it cannot be written: {error.strerror}") from None
    except RequestError as error:
        print(f"neuralmon: error: {error}", file=sys.stderr)
        return 2
    print(_told(drawn))
    print(output)
    return 0


def _told(drawn: dict[str, Any]) -> str:
    """Returns, for each sentence, the one in which the word's vector is most like its own."""
    *_, cosines = drawn["cosines"].values()
    others = np.where(np.eye(len(cosines), dtype=bool), -np.inf, cosines)
    lines = [
        f"{sentence}\n  {row.max():.2f}  {drawn['sentences'][int(row.argmax())]}"
        for sentence, row in zip(drawn["sentences"], others, strict=True)
    ]
    return "\n".join([*drawn["cosines"], "", *lines])


if __name__ == "__main__":
    sys.exit(main())
