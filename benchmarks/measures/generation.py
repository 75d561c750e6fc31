"""Tokens a second with a cache, GPT-2 small's shape with random weights, the likeliest token each time."""

import contextlib

from benchmarks.measures.processes import Worker, installed
from benchmarks.rows import OURS, Row

_PROMPT = 32


def measure(quick: bool) -> list[Row]:
    """Returns a row for 1 stream and one for 16; each contender's first answer, which compiles, is not counted."""
    tokens, rows = 24 if quick else 128, []
    with contextlib.ExitStack() as stack:
        workers = {OURS: stack.enter_context(Worker("neuralmon_worker", "generation"))}
        if installed("transformers"):
            workers["Hugging Face"] = stack.enter_context(Worker("torch_worker", "generation"))
        for streams in (1, 16):
            request = {"streams": streams, "prompt": _PROMPT, "tokens": tokens}
            rounds = []
            for _ in range(2 if quick else 4):
                answers = {name: worker.ask(**request) for name, worker in workers.items()}
                if any(answer["shape"] != [streams, tokens] for answer in answers.values()):
                    raise RuntimeError(f"not the tokens that were asked for: {answers}")
                rounds.append({name: streams * tokens / answer["seconds"] for name, answer in answers.items()})
            what = f"GPT-2 small, {streams} stream{'s' * (streams > 1)}, {_PROMPT} + {tokens} tokens"
            rows.append(Row(f"generation: {what}", "tokens/s", rounds[1:]))
    return rows
