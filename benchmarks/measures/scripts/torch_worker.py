"""PyTorch's side of what is measured in one process: `checkpoint`, `generation` or `evaluation FOLDER SIZE`."""

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.contenders import torch_models
from benchmarks.job import Job
from benchmarks.measures.processes import requests

torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def checkpoint() -> None:
    """Answers how long `torch.save` and `torch.load` of a network and its Adam take."""
    widths = (784, 2048, 2048, 2048, 10)
    network = nn.Sequential(*(nn.Linear(*pair) for pair in itertools.pairwise(widths)))
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(2, 784)).sum().backward()
    optimizer.step()
    with tempfile.TemporaryDirectory() as folder:
        for step, (_, answer) in enumerate(requests()):
            path = Path(folder) / str(step)  # a new file each time, of which two are kept, as neuralmon does
            begun = time.perf_counter()
            torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, path)
            (Path(folder) / str(step - 2)).unlink(missing_ok=True)
            saved = time.perf_counter()
            state = torch.load(path)
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
            answer(blocked=saved - begun, restore=time.perf_counter() - saved)


def generation() -> None:
    """Answers how long a number of streams took to grow by a number of tokens, with Hugging Face's cache."""
    from transformers import GPT2Config, GPT2LMHeadModel  # type: ignore[import-not-found]

    network = GPT2LMHeadModel(GPT2Config()).eval()
    for request, answer in requests():
        prompts = torch.randint(0, 50_257, (request["streams"], request["prompt"]))
        options = {"max_new_tokens": request["tokens"], "min_new_tokens": request["tokens"], "pad_token_id": 50_256}
        begun = time.perf_counter()
        with torch.inference_mode():
            texts = network.generate(
                prompts, attention_mask=torch.ones_like(prompts), do_sample=False, use_cache=True, **options
            )
        seconds = time.perf_counter() - begun
        answer(shape=(len(texts), texts.shape[1] - request["prompt"]), seconds=seconds)


def evaluation(folder: str, size: str) -> None:
    """Answers how long going through the first examples took, and the mean loss."""
    job = Job.read(Path(folder), "torch")
    # One fixed choice each; nothing is tried out here, as the training benchmark does.
    options = {} if job.kind == "CNN" else {"joint": True}
    network = torch_models.build(job.kind, job.sizes, **options).eval()
    network.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in job.weights.items()})
    columns = [
        torch.from_numpy(column if column.dtype.kind == "f" else column.astype(np.int64))
        for column in job.columns.values()
    ]
    columns = [column[: int(size)] for column in columns]
    *inputs, targets = (column.permute(0, 3, 1, 2) if column.ndim == 4 else column for column in columns)
    if job.kind == "CNN":
        network = network.to(memory_format=torch.channels_last)
    for _, answer in requests():
        begun = time.perf_counter()
        loss = correct = 0.0
        with torch.inference_mode():
            for start in range(0, len(targets), job.batch_size):
                end = start + job.batch_size
                outputs = network(*(column[start:end] for column in inputs)).flatten(0, -2)
                wanted = targets[start:end].flatten()
                loss += F.cross_entropy(outputs, wanted, reduction="sum").item()
                correct += (outputs.argmax(-1) == wanted).sum().item()
        answer(seconds=time.perf_counter() - begun, loss=loss / targets.numel(), accuracy=correct / targets.numel())


if __name__ == "__main__":
    measures: dict[str, Callable[..., None]]
    measures = {"checkpoint": checkpoint, "generation": generation, "evaluation": evaluation}
    measures[sys.argv[1]](*sys.argv[2:])
