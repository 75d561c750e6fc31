"""What `--mode=sample` is asked for; nothing here imports jax."""

import dataclasses

from neuralmon.errors import RequestError


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleRequest:
    """What a trained model is to make. Each field is a flag of `--mode=sample`; a task refuses those it has no use for.

    Attributes:
      prompt: what a text begins with.
      input: what is translated or described: a text, or the path of a file with one in each line.
      num_samples: how many samples are made.
      label: the one class that pictures are made of, by its name; None: all classes.
      length: tokens that are added to a prompt, or the most that a translation has; None: as the task says.
      temperature: what logits are divided by: below 1 the likely becomes likelier; 0: always the likeliest.
      top_k: only so many of the likeliest tokens are drawn from; None: all.
      top_p: only the likeliest tokens that have this probability together are drawn from; None: all.
      repetition_penalty: above 1, tokens that are there already become less likely.
      stop: a text that ends a sample, and is no part of it.
      seed: of the random choices.
      beam_size: beams of beam search; 1: the likeliest token at each place.
      length_penalty: exponent of the length by which the score of a beam is divided.
      output: the file that pictures are written to.
    """

    prompt: str | None = None
    input: str | None = None
    num_samples: int = 1
    label: str | None = None
    length: int | None = None
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    repetition_penalty: float = 1.0
    stop: str | None = None
    seed: int = 0
    beam_size: int = 1
    length_penalty: float = 0.6
    output: str | None = None

    def __post_init__(self) -> None:
        allowed = {
            "num_samples": (self.num_samples >= 1, "1 or more"),
            "length": (self.length is None or self.length >= 1, "1 or more"),
            "temperature": (self.temperature >= 0, "0 or more"),
            "top_k": (self.top_k is None or self.top_k >= 1, "1 or more"),
            "top_p": (self.top_p is None or 0 < self.top_p <= 1, "more than 0 and at most 1"),
            "repetition_penalty": (self.repetition_penalty > 0, "more than 0"),
            "stop": (self.stop != "", "any text but the empty one"),
            "beam_size": (self.beam_size >= 1, "1 or more"),
            "length_penalty": (self.length_penalty >= 0, "0 or more"),
        }
        for name, (fits, what) in allowed.items():
            if not fits:
                raise RequestError(f"--{name}={getattr(self, name)} is out of range: allowed is {what}")

    def only(self, *names: str, what: str) -> None:
        """Raises RequestError if a field other than `names` was given.

        Args:
          *names: the fields that mean something.
          what: what they mean something to, such as "a language model".
        """
        for field in dataclasses.fields(self):
            if field.name not in names and getattr(self, field.name) != field.default:
                flags = ", ".join(f"--{name}" for name in names)
                raise RequestError(f"--{field.name} means nothing to {what}; it takes {flags}")
