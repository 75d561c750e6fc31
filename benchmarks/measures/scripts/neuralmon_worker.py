"""neuralmon's side of what is measured in one process: `checkpoint`, `generation` or `evaluation WORK SIZE`."""

import itertools
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measures.processes import requests
from neuralmon import process

process.configure()  # before jax is imported

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import neuralmon as nm  # noqa: E402
from benchmarks.works import WORKS  # noqa: E402
from neuralmon.training.checkpoint import Checkpoints  # noqa: E402
from neuralmon.training.feed import resident  # noqa: E402
from neuralmon.training.program import compiled  # noqa: E402


def checkpoint() -> None:
    """Answers how long `save` kept its caller waiting, how long writing took, and how long reading takes."""
    widths = (784, 2048, 2048, 2048, 10)
    shapes = {
        f"hidden_{index}": {"kernel": pair, "bias": pair[1:]} for index, pair in enumerate(itertools.pairwise(widths))
    }
    leaves = jax.tree.map(lambda shape: jnp.full(shape, 0.5), shapes, is_leaf=lambda node: isinstance(node, tuple))
    state: Any = {name: jax.tree.map(jnp.copy, leaves) for name in ("params", "mu", "nu")}
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
    update = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0.999, state), donate_argnums=0)
    with tempfile.TemporaryDirectory() as folder, Checkpoints(Path(folder) / "run", 2, ("loss", "min"), print) as saved:
        for step, (_, answer) in enumerate(requests(), 1):
            state = jax.block_until_ready(update(state))
            begun = time.perf_counter()
            saved.save(step, state, {})
            blocked = time.perf_counter()
            saved.wait()
            written = time.perf_counter()
            state = jax.block_until_ready(saved.restore(like).state)  # type: ignore[union-attr]
            restored = time.perf_counter()
            answer(blocked=blocked - begun, written=written - begun, restore=restored - written)


def generation() -> None:
    """Answers how long a number of streams took to grow by a number of tokens."""
    model = nm.models.gpt2_small.clone(vocab_size=50_257)
    variables = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8), jnp.int32))
    for request, answer in requests():
        shape = (request["streams"], request["prompt"])
        prompts = np.random.default_rng(0).integers(0, 50_257, shape).astype(np.int32)
        begun = time.perf_counter()
        tokens = nm.models.generate(model, variables, prompts, request["tokens"], jax.random.key(0), temperature=0.0)
        answer(shape=jax.block_until_ready(tokens).shape, seconds=time.perf_counter() - begun)


def evaluation(work: str, size: str) -> None:
    """Answers how long going through the first examples took, and the mean loss."""
    experiment = WORKS[work].experiment().resolve()
    program, numbers, mesh = compiled(experiment)
    data = jax.tree.map(lambda column: column[: int(size)], resident(experiment.dataset, mesh)["train"])
    state = program.init(numbers)
    for _, answer in requests():
        begun = time.perf_counter()
        sums = jax.device_get(program.evaluate(numbers, state, data))
        seconds = time.perf_counter() - begun
        answer(seconds=seconds, loss=float(sums["loss"][0] / sums["loss"][1]))


if __name__ == "__main__":
    measures: dict[str, Callable[..., None]]
    measures = {"checkpoint": checkpoint, "generation": generation, "evaluation": evaluation}
    measures[sys.argv[1]](*sys.argv[2:])
