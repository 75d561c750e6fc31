"""PyTorch's training loop, eager or compiled."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.contenders import torch_models
from benchmarks.job import Job

Choice = dict[str, bool]


def make(name: str, work: str, folder: Path) -> "TorchLoop":
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return TorchLoop(Job.read(folder, "torch"), compiled=name == "torch.compile")


class TorchLoop:
    """Trains with all data in memory as tensors, and nothing on the host that could be left out.

    Attributes:
      details: versions and what was chosen.
    """

    def __init__(self, job: Job, compiled: bool) -> None:
        self.job, self.compiled = job, compiled
        self.order = torch.from_numpy(job.order)
        self.details: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        self.steps: dict[Any, Callable[[int], torch.Tensor]] = {}
        self.choice = {option: values[0] for option, values in self.options().items()}

    def options(self) -> dict[str, tuple[bool, ...]]:
        """What can be done in more than one way, of which the fastest counts; one after the other."""
        options: dict[str, tuple[bool, ...]] = {}
        if self.job.kind in ("CNN", "ResNet"):
            options["channels_last"] = (True, False)
        if self.job.kind in ("GPT", "Transformer"):
            options["joint"] = (True, False)
        options["fused_optimizer"] = (True, False)
        if self.compiled:
            options["compiled_optimizer"] = (False, True)
        return options

    def choose(self, seconds: float) -> None:
        """See `Contender.choose`."""
        if not seconds:
            return
        tried: list[dict[str, Any]] = []
        for option, values in self.options().items():
            choices = [{**self.choice, option: value} for value in values]
            if option == "compiled_optimizer":
                choices[-1]["fused_optimizer"] = False  # what is compiled is fused by that
            steps = 1
            for choice in choices:
                _timed(self._made(choice), 2)
                steps = max(steps, round(seconds / (_timed(self._made(choice), 2) / 2)))
            # In turns, and the best of each, for what disturbs a machine only ever adds.
            times = [[_timed(self._made(choice), steps) for choice in choices] for _ in range(3)]
            best = [steps / min(times) for times in zip(*times, strict=True)]
            tried += [{**choice, "steps_per_second": rate} for choice, rate in zip(choices, best, strict=True)]
            self.choice = choices[best.index(max(best))]
        self.details |= {"choice": self.choice, "tried": tried}

    def losses(self, count: int) -> list[float]:
        self.steps.clear()
        step = self._made(self.choice)
        return [float(step(index)) for index in range(count)]

    def run(self, steps: int) -> float:
        return _timed(self._made(self.choice), steps)

    def _made(self, choice: Choice) -> Callable[[int], torch.Tensor]:
        key = tuple(sorted(choice.items()))
        if key not in self.steps:
            self.steps[key] = self._make(choice)
        return self.steps[key]

    def _make(self, choice: Choice) -> Callable[[int], torch.Tensor]:
        """Returns a function that does step number `index` from the initial weights on, and returns its loss."""
        job, order = self.job, self.order
        options = {name: choice[name] for name in ("joint",) if name in choice}
        network = torch_models.build(job.kind, job.sizes, **options)
        network.load_state_dict(_state_dict(network, job.weights), strict=False)
        *inputs, targets = (_tensor(column, choice) for column in job.columns.values())
        if choice.get("channels_last"):
            network = network.to(memory_format=torch.channels_last)
        parameters = [one for one in network.parameters() if one.requires_grad]
        kinds = {"fused": True} if choice["fused_optimizer"] else {"foreach": True}
        optimizer: torch.optim.Optimizer
        if job.optimizer == "adam":
            optimizer = torch.optim.Adam(parameters, lr=job.learning_rate, **kinds)
        else:
            optimizer = torch.optim.SGD(parameters, lr=job.learning_rate, momentum=0.9, **kinds)

        def loss_of(targets: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
            outputs = network(*inputs)
            return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())

        update: Callable[[], Any] = optimizer.step
        if self.compiled:
            loss_of = torch.compile(loss_of)
        if choice.get("compiled_optimizer"):
            update = torch.compile(optimizer.step)

        def step(index: int) -> torch.Tensor:
            rows = order[index % len(order)]
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(targets[rows], *(column[rows] for column in inputs))
            loss.backward()
            update()
            return loss.detach()

        return step


def _state_dict(network: torch.nn.Module, weights: Any) -> dict[str, torch.Tensor]:
    """Cuts joint projections where the network has three, and checks that nothing is missing."""
    wanted = network.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    for key, array in weights.items():
        tensor = torch.from_numpy(np.array(array))
        if key in wanted:
            tensors[key] = tensor
            continue
        for part, cut in zip(("query", "key", "value"), tensor.chunk(3), strict=True):
            tensors[key.replace("in_proj", part)] = cut
    missing = [key for key in wanted if key not in tensors and not key.endswith("num_batches_tracked")]
    if missing or not tensors.keys() <= wanted.keys():
        raise ValueError(f"these weights are not the network's: {missing} {sorted(tensors.keys() - wanted.keys())}")
    return tensors


def _tensor(column: np.ndarray, choice: Choice) -> torch.Tensor:
    if column.dtype.kind == "i":
        return torch.from_numpy(column.astype(np.int64))
    tensor = torch.from_numpy(column).permute(0, 3, 1, 2) if column.ndim == 4 else torch.from_numpy(column)
    return tensor.contiguous(memory_format=torch.channels_last) if choice.get("channels_last") else tensor.contiguous()


def _timed(step: Callable[[int], torch.Tensor], steps: int) -> float:
    begun = time.perf_counter()
    for index in range(steps):
        loss = step(index)
    if not bool(torch.isfinite(loss)):
        raise ValueError("the loss is not finite")
    return time.perf_counter() - begun
