"""What a trained model writes about texts, and how good it is."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from neuralmon.data.text.parallel_text import read_lines
from neuralmon.errors import RequestError
from neuralmon.inspection import Inspection, inspect
from neuralmon.models import translate
from neuralmon.tasks.trained import Figure, Trained

_BATCH = 64
_WIDTH = 32  # texts are padded to multiples of it: each width is compiled once


def write(
    trained: Trained,
    sources: Sequence[np.ndarray],
    beam_size: int,
    length_penalty: float,
    max_length: int | None = None,
) -> list[str]:
    """Returns what a model writes about each source.

    Args:
      trained: a model that `nm.models.translate` takes, and its data, with a `vocabulary`.
      sources: tokens of each source, or images of one size.
      beam_size: see `nm.models.beam_search`.
      length_penalty: see `nm.models.beam_search`.
      max_length: most tokens that are written about one; None: half as many again as the longest source has, and 8;
        of images as many as a target of the data has.
    """
    dataset: Any = trained.dataset
    vocabulary, limit = dataset.vocabulary, _limit(trained.model)
    # Texts of about the same length together: the search ends with the last of them.
    order = np.argsort([len(tokens) for tokens in sources], kind="stable")
    texts = [""] * len(sources)
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH].tolist()
        # The last batch is filled up: another size would be compiled again.
        some = [sources[row] for row in np.resize(rows, len(rows) if len(order) <= _BATCH else _BATCH)]
        if some[0].ndim == 1:
            batch = _padded(some, limit)
            most = max_length or batch.shape[1] * 3 // 2 + 8
        else:
            batch = np.stack(some)
            most = max_length or dataset.spec().features["targets"].shape[0]
        most = min(most, limit or 2**31)
        ends = vocabulary.begin_id, vocabulary.end_id
        tokens, _ = translate(trained.model, trained.variables, batch, *ends, most, beam_size, length_penalty)
        for row, own in zip(rows, jax.device_get(tokens), strict=False):
            texts[row] = vocabulary.decode(own)
    return texts


def read_sources(trained: Trained, given: str | None) -> tuple[list[str], Sequence[np.ndarray]]:
    """Returns what is to be written about, as a person names it and as the model reads it.

    These are the lines of a text or a file; where the data is made of images, those of a file or folder.

    Raises:
      RequestError: there is none, or a line has something in it that the model does not know.
    """
    if given is None:
        raise RequestError("--mode=sample needs something to write about: --input=TEXT_OR_FILE")
    dataset: Any = trained.dataset
    if hasattr(dataset, "read_inputs"):
        names, inputs = dataset.read_inputs(given)
        return list(names), dataset.encode_sources(inputs)
    lines = list(read_lines(given))
    limit, sources = _limit(trained.model), []
    for number, line in enumerate(lines, start=1):
        try:
            [tokens] = dataset.encode_sources([line])
        except RequestError as error:
            raise RequestError(f"--input, line {number}{str(error).removeprefix('line 1')}") from None
        if limit and len(tokens) > limit:
            what = f"{len(tokens)} tokens are more than the {limit} places that the model has learnt"
            raise RequestError(f"--input, line {number}: {what}; shorten it")
        sources.append(tokens)
    return lines, sources


def _padded(sources: Sequence[np.ndarray], limit: int | None) -> np.ndarray:
    """Returns tokens (sources, width); `limit` is the most that the model can read."""
    longest = max(map(len, sources))
    batch = np.zeros((len(sources), min(-(-longest // _WIDTH) * _WIDTH, limit or longest + _WIDTH)), np.int32)
    for row, tokens in zip(batch, sources, strict=True):
        row[: len(tokens)] = tokens
    return batch


def bleu(written: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Returns BLEU of a whole corpus, 0 to 100, and how it was computed, as sacrebleu says it.

    Sources: Papineni et al., "BLEU: a Method for Automatic Evaluation of Machine Translation", ACL 2002; Post, "A Call
    for Clarity in Reporting BLEU Scores", WMT 2018.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU()
    score = float(metric.corpus_score(list(written), [list(references)]).score)
    return score, str(metric.get_signature())


def attention_figure(trained: Trained, sources: Sequence[str], written: Sequence[str]) -> Figure:
    """Returns what the figure "attention" is drawn of: where the last block looks in the source as it writes a token.

    It is of a Transformer and the source whose tokens are nearest to 16 in number.
    """
    dataset: Any = trained.dataset
    encoded = dataset.encode_sources(sources)
    one = min(range(len(encoded)), key=lambda index: abs(len(encoded[index]) - 16))
    vocabulary = dataset.vocabulary
    tokens = np.append(vocabulary.encode(written[one]), np.int32(vocabulary.end_id))
    target = np.concatenate([np.array([vocabulary.begin_id], np.int32), tokens[:-1]])
    inputs = {"source": encoded[one][None], "target": target[None]}
    path = "decoder/layers_*/cross_attention/attention_weights"
    *_, last = _seen(trained, inputs, path).values()
    return "attention", {
        "weights": np.asarray(last[0]),
        "queries": [vocabulary.label(token) for token in tokens],
        "keys": [dataset.source_vocabulary.label(token) for token in encoded[one]],
        "title": "Each row is a token that is written, and where the last block looks in the source",
    }


def looking_figure(trained: Trained, images: Sequence[np.ndarray], written: Sequence[str]) -> Figure:
    """Returns what the figure "looking" is drawn of: where the last block looks in an image as it writes a token.

    It is of a captioner and the image about which most is written.
    """
    dataset: Any = trained.dataset
    one, vocabulary = max(range(len(images)), key=lambda index: len(written[index])), dataset.vocabulary
    tokens = np.append(vocabulary.encode(written[one]), np.int32(vocabulary.end_id))
    target = np.concatenate([np.array([vocabulary.begin_id], np.int32), tokens[:-1]])
    inputs = {"images": dataset.encode_sources(images[one : one + 1]), "target": target[None]}
    paths = ["feature_map", "decoder/layers_*/cross_attention/attention_weights"]
    seen = _seen(trained, inputs, paths)
    _, *place, _ = seen["feature_map"].shape
    *_, last = (array for path, array in seen.items() if path != "feature_map")
    return "looking", {
        "image": np.asarray(images[one]),
        "weights": np.asarray(last[0]).mean(axis=0).reshape(-1, *place),
        "tokens": [vocabulary.label(token) for token in tokens],
        "title": "Where the last block looks, on average over its heads, as it writes each token",
    }


def _seen(trained: Trained, inputs: Any, paths: str | Sequence[str]) -> Inspection:
    """Looks into the model as one program: operation by operation takes ten times as long."""
    return jax.jit(lambda variables: inspect(trained.model, variables, inputs, paths))(trained.variables)


def _limit(model: Any) -> int | None:
    """Returns how many places a model has learned positions for; None: it needs none."""
    return model.max_length if getattr(model, "positions", None) == "learned" else None
