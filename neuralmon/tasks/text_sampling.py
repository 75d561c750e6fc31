"""What a trained language model writes, and what it looks at while it reads."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from neuralmon.data.text.vocabularies import Vocabulary
from neuralmon.errors import RequestError
from neuralmon.inspection import inspect
from neuralmon.models.generation import stream
from neuralmon.sampling import SampleRequest
from neuralmon.tasks.trained import Trained

_LENGTH = 500  # tokens that are written if nothing else is said
_BEGINNING = 5  # tokens of the data that a sample begins with if no token begins a text
_PASSAGE = 24  # tokens of which the attention is drawn
_PANELS = 4  # heads of a block that are drawn


def write(trained: Trained, request: SampleRequest) -> Iterator[str]:
    """Yields texts piece by piece as they are written: the prompt, then what the model adds to it.

    Several samples are written together; the first one is yielded as it comes, the others when it is done.

    Raises:
      RequestError: the model cannot write, the data has no vocabulary, or the prompt has characters it does not know.
    """
    flags = ("prompt", "num_samples", "length", "temperature", "top_k", "top_p", "repetition_penalty", "stop", "seed")
    request.only(*flags, what="a language model")
    if problem := cannot_write(trained):
        raise RequestError(problem)
    model, vocabulary = trained.model, trained.dataset.vocabulary  # type: ignore[attr-defined]
    prompt = _prompt(vocabulary, request.prompt)
    said = request.prompt or ""
    texts = [_Text(vocabulary, prompt, request.stop) for _ in range(request.num_samples)]
    several = request.num_samples > 1
    yield f"--- sample 1 ---\n{said}" if several else said
    written = stream(
        model,
        trained.variables,
        [prompt] * request.num_samples,
        request.length or _LENGTH,
        jax.random.key(request.seed),
        temperature=request.temperature,
        top_k=request.top_k,
        top_p=request.top_p,
        repetition_penalty=None if request.repetition_penalty == 1 else request.repetition_penalty,
    )
    for tokens in written:
        for text, row in zip(texts, tokens, strict=True):
            text.add(row)
        yield texts[0].fresh()
        if all(text.done for text in texts):
            break
    yield texts[0].fresh(last=True)
    for number, text in enumerate(texts[1:], 2):
        yield f"\n\n--- sample {number} ---\n{said}{text.fresh(last=True)}"
    yield "\n"


def sample_text(trained: Trained, split: str, length: int = _LENGTH, temperature: float = 0.8) -> str:
    """Returns a text as it would be written without a prompt; if no token begins one, after a split's first words."""
    vocabulary, prompt = trained.dataset.vocabulary, None  # type: ignore[attr-defined]
    try:
        _prompt(vocabulary, None)
    except RequestError:
        prompt = vocabulary.decode(np.asarray(trained.prepared(split, 1)["inputs"])[0, :_BEGINNING])
    return "".join(write(trained, SampleRequest(prompt=prompt, length=length, temperature=temperature)))


def attention_figure(trained: Trained, split: str) -> tuple[str, Mapping[str, Any]]:
    """Returns what the figure "attention" is drawn of: heads of a GPT's first and last block, reading a passage."""
    vocabulary, model = trained.dataset.vocabulary, trained.model  # type: ignore[attr-defined]
    tokens = np.asarray(trained.prepared(split, 1)["inputs"])[:1, :_PASSAGE]
    path = "layers/attention/attention_weights"
    seen = jax.jit(lambda variables: inspect(model, variables, tokens, path)[path])(trained.variables)
    weights = np.asarray(seen)[:, 0]
    blocks = [0, len(weights) - 1] if len(weights) > 1 else [0]
    heads = range(min(weights.shape[1], _PANELS))
    labels = [vocabulary.label(token) for token in tokens[0]]
    return "attention", {
        "weights": np.stack([weights[block, head] for block in blocks for head in heads]),
        "panels": [f"block {block + 1}, head {head + 1}" for block in blocks for head in heads],
        "queries": labels,
        "keys": labels,
        "columns": len(heads),
    }


def cannot_write(trained: Trained) -> str | None:
    """Returns why a model cannot write, or why nobody knows what its tokens are; None: it can."""
    model, name = trained.model, type(trained.model).__name__
    if not all(hasattr(model, method) for method in ("decode", "empty_cache", "unstacked")):
        return f"{name} cannot write: it has no decode, empty_cache and unstacked as GPT, RNN, LSTM and GRU have them"
    if getattr(model, "bidirectional", False):
        return f"{name}(bidirectional=True) cannot write: it reads what comes later too"
    if getattr(trained.dataset, "vocabulary", None) is None:
        return f"{type(trained.dataset).__name__} has no vocabulary that says which token is which text"
    return None


class _Text:
    """One text that is written: what of it is certain can be shown."""

    def __init__(self, vocabulary: Vocabulary, prompt: np.ndarray, stop: str | None) -> None:
        self.done = False
        self._vocabulary, self._ids, self._stop = vocabulary, prompt.tolist(), stop
        self._start = self._shown = len(vocabulary.decode(prompt))
        self._text = vocabulary.decode(prompt)

    def add(self, tokens: Sequence[int]) -> None:
        """Appends tokens, up to the end of the text."""
        for token in tokens:
            if self.done or token == self._vocabulary.end_id:
                self.done = True
                break
            self._ids.append(int(token))
        self._text = self._vocabulary.decode(self._ids)
        if self._stop is not None and (place := self._text.find(self._stop, self._start)) >= 0:
            self._text, self.done = self._text[:place], True

    def fresh(self, last: bool = False) -> str:
        """Returns what is certain and was not returned yet; `last`: nothing comes after it."""
        end = len(self._text)
        if not (last or self.done):
            # A character may be in several tokens, and what looks like the beginning of `stop` may become it.
            end = len(self._text.rstrip("\ufffd"))
            stop = self._stop or ""
            end -= next((size for size in range(len(stop) - 1, 0, -1) if self._text[:end].endswith(stop[:size])), 0)
        piece = self._text[self._shown : end]
        self._shown = max(end, self._shown)
        return piece


def _prompt(vocabulary: Vocabulary, text: str | None) -> np.ndarray:
    """Returns the tokens of a prompt; without one, what a text begins with: "<begin>", "<end>" or a new line."""
    for special in (vocabulary.begin_id, vocabulary.end_id):
        if not text and special is not None:
            return np.array([special], np.int32)
    try:
        tokens = vocabulary.encode(text or "\n")
    except RequestError as error:
        raise RequestError(f"--prompt: {error}" if text else "give a --prompt: no token begins a text") from None
    if not len(tokens):
        raise RequestError("give a --prompt with a token in it: no token begins a text")
    return tokens
