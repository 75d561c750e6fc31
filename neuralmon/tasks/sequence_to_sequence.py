"""One sequence written from another: translations, captions, answers."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
from jaxtyping import Array, Float

from neuralmon.data import Batch, Spec
from neuralmon.errors import RequestError
from neuralmon.fields import FractionNumber, NonNegativeInt, PositiveInt, Range
from neuralmon.models import Captioner, Transformer
from neuralmon.sampling import SampleRequest
from neuralmon.tasks.averages import average_of_classes
from neuralmon.tasks.language_model import LanguageModel
from neuralmon.tasks.shapes import output_shape, said, target_shape
from neuralmon.tasks.sums import mean
from neuralmon.tasks.task import Sums
from neuralmon.tasks.trained import Findings, Trained
from neuralmon.tasks.translating import attention_figure, bleu, looking_figure, read_sources, write

_SHOWN = 100  # texts that are kept for reading
_AT_ONCE = 256  # lines of a file after which what was written is shown


@dataclasses.dataclass(frozen=True)
class SequenceToSequence:
    """Logits (batch, time, vocab_size) against a target's tokens (batch, time), all but the last of which it was given.

    While training, the model is told the true tokens before each place ("teacher forcing"). The loss is the smoothed
    cross-entropy of a token, averaged over all real tokens, whatever the lengths of the texts they are in. After the
    training the model writes on its own, by beam search, and what it wrote is compared with the targets: BLEU over the
    whole split (Papineni et al. 2002, by sacrebleu with its defaults), and the share that is exactly right.

    Source: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 5.4; beam search and length penalty: Wu
    et al., arXiv:1609.08144, eq. 14.

    Attributes:
      label_smoothing: probability that is taken off the true token and spread evenly over all.
      pad_id: the token that is padding where it is a target, and not counted.
      beam_size: beams of the search after the training; 1: the likeliest token at each place.
      length_penalty: exponent of the length by which the score of a beam is divided.
      bleu: whether there is BLEU; it counts words, so it says nothing where texts have no spaces.
    """

    label_smoothing: FractionNumber = 0.1
    pad_id: NonNegativeInt = 0
    beam_size: PositiveInt = 4
    length_penalty: Annotated[float, Range(0)] = 0.6
    bleu: bool = True

    def num_outputs(self, spec: Spec) -> int | None:
        """See `Task.num_outputs`."""
        return spec.vocab_size

    def loss(self, outputs: Float[Array, "batch time vocab_size"], batch: Batch) -> tuple[tuple[Array, Array], Sums]:
        """See `Task.loss`."""
        return LanguageModel(self.label_smoothing, self.pad_id).loss(outputs, batch)

    def metrics(self, outputs: Float[Array, "batch time vocab_size"], batch: Batch) -> Sums:
        """See `Task.metrics`. "nats" is the loss without smoothing, which the perplexity is made of."""
        return LanguageModel(self.label_smoothing, self.pad_id).metrics(outputs, batch)

    def report(self, sums: Mapping[str, tuple[np.ndarray, np.ndarray]], spec: Spec) -> dict[str, Any]:
        """Returns loss, accuracy of tokens and, from evaluations, nats and perplexity of a token."""
        result = {name: float(mean(sums[name])) for name in ("loss", "accuracy", "nats") if name in sums}
        # Beyond what a float can hold it is a diverged model, not an error.
        return result | ({"perplexity": float(np.exp(min(result["nats"], 700.0)))} if "nats" in result else {})

    def predict(self, outputs: Float[Array, "batch time vocab_size"], spec: Spec) -> dict[str, Array]:
        """Returns `token` (batch, time), the likeliest at each place, and `probability` (batch, time), what it has."""
        return LanguageModel().predict(outputs, spec)

    def average(self, outputs: Float[Array, "members batch time vocab_size"]) -> Float[Array, "batch time vocab_size"]:
        """Returns what models say together: the mean of their probabilities."""
        return average_of_classes(outputs)

    def check(self, outputs: jax.ShapeDtypeStruct, spec: Spec) -> str | None:
        """See `Task.check`."""
        targets = target_shape(spec)
        if spec.vocab_size is None or targets is None or len(targets) != 1:
            return f"SequenceToSequence needs data with targets of tokens, (time,); this data has {targets}"
        shape = output_shape(outputs)
        if shape is None or shape[1:] != (*targets, spec.vocab_size):
            return (
                f"SequenceToSequence of {spec.vocab_size} tokens needs outputs of shape (batch, {targets[0]}, "
                f"{spec.vocab_size}); the model's are {said(outputs)}"
            )
        return None

    def monitor(self) -> tuple[str, Literal["max", "min"]]:
        """See `Task.monitor`."""
        return "loss", "min"

    def study(self, trained: Trained, split: str) -> Findings:
        """Returns how good what the model writes about a split is, and some of it.

        The data has to have `texts(split)`, `encode_sources(sources)` and `vocabulary`, as `nm.data.Parallel` has them
        for texts and `nm.data.SpeltDigits` for images; of other data nothing is found. With `longer_texts()` a table
        and a figure say how many texts of each length are right.
        """
        dataset: Any = trained.dataset
        if not hasattr(dataset, "texts"):
            return Findings()
        sources, references = dataset.texts(split)
        written = self._written(trained, sources)
        figures: dict[str, Any] = {}
        right = [own == reference for own, reference in zip(written, references, strict=True)]
        metrics: dict[str, Any] = {"exact_match": float(np.mean(right))}
        head = f"{split}: {metrics['exact_match']:.1%} of {len(right):,} exactly as the target"
        if self.bleu:
            metrics["bleu"], signature = bleu(written, references)
            head += f"; BLEU {metrics['bleu']:.2f} ({signature})"
        if split == "test" and hasattr(dataset, "longer_texts"):
            longer, answers = dataset.longer_texts()
            right += [own == answer for own, answer in zip(self._written(trained, longer), answers, strict=True)]
            table = metrics["exact_match_by_length"] = _by_length([len(text) for text in (*sources, *longer)], right)
            drawn = {"lengths": [int(n) for n in table], "exact": [row["exact_match"] for row in table.values()]}
            figures["by_length"] = "by_length", {**drawn, "longest_trained": max(map(len, sources))}
        shown = list(zip(sources, references, written, strict=True))[:_SHOWN]
        texts = [f"target   {target}\nwritten  {own}\n" for _, target, own in shown]
        if isinstance(sources[0], str):
            texts = [f"source   {source}\n{text}" for (source, *_), text in zip(shown, texts, strict=True)]
            if isinstance(trained.model, Transformer):
                figures["cross_attention"] = partial(attention_figure, trained, sources[:_SHOWN], written)
        else:
            if isinstance(trained.model, Captioner):
                figures["cross_attention"] = partial(looking_figure, trained, sources[:_SHOWN], written[:_SHOWN])
            figures["written"] = (
                "data",
                {
                    "inputs": sources[:_SHOWN],
                    "labels": [own if own == target else f"{own} ({target})" for _, target, own in shown],
                    "title": f"What is written about images of {split}; in brackets what should be",
                },
            )
        return Findings(metrics, figures, {f"written_{split}": "\n".join([head, "", *texts])})

    def sample(self, trained: Trained, request: SampleRequest) -> Iterator[str]:
        """Yields what the model writes about each line, or each image, of `request.input`, in a line of its own."""
        request.only("input", "length", "beam_size", "length_penalty", what="a model that writes one text from another")
        _, sources = read_sources(trained, request.input)
        options = request.beam_size, request.length_penalty, request.length
        for start in range(0, len(sources), _AT_ONCE):
            for line in write(trained, sources[start : start + _AT_ONCE], *options):
                yield f"{line}\n"

    def answers(self, trained: Trained, path: str) -> list[dict[str, Any]] | None:
        """Returns what the model writes about each line of a file, or each image of a folder, by the task's own search.

        Raises:
          RequestError: there is no such file, or something in it that the model does not know.
        """
        if not hasattr(trained.dataset, "encode_sources"):
            return None
        if not (hasattr(trained.dataset, "read_inputs") or Path(path).expanduser().exists()):
            raise RequestError(f"--input={path}: there is no such file; --mode=sample takes a text as well")
        names, sources = read_sources(trained, path)
        written = write(trained, sources, self.beam_size, self.length_penalty)
        return [{"input": name, "written": text} for name, text in zip(names, written, strict=True)]

    def _written(self, trained: Trained, texts: Sequence[str]) -> list[str]:
        dataset: Any = trained.dataset
        return write(trained, dataset.encode_sources(texts), self.beam_size, self.length_penalty)


def _by_length(lengths: Sequence[int], right: Sequence[bool]) -> dict[str, dict[str, Any]]:
    """Returns, for each length in characters, the share of texts that are right, and how many there are."""
    own = {length: [ok for n, ok in zip(lengths, right, strict=True) if n == length] for length in sorted({*lengths})}
    return {str(length): {"exact_match": float(np.mean(ok)), "texts": len(ok)} for length, ok in own.items()}
