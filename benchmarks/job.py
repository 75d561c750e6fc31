"""A work as files, for contenders that know nothing of neuralmon: sizes, data, order of the batches, weights."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

_ORDERED = 6_000  # batches whose examples are listed; then it begins again


@dataclasses.dataclass(frozen=True)
class Job:
    """What there is to do.

    Attributes:
      kind: the network: "MLP", "CNN", "ResNet", "LSTM", "GPT" or "Transformer".
      sizes: what it is built from.
      batch_size: examples of a step.
      optimizer: "adam" or "momentum" (0.9).
      learning_rate: of all steps.
      columns: all examples: what the network takes, in the order of its arguments, and "targets".
      order: (batches, batch_size), which examples make each batch.
      weights: initial weights by key or path, in the layout of one side.
    """

    kind: str
    sizes: Mapping[str, Any]
    batch_size: int
    optimizer: str
    learning_rate: float
    columns: Mapping[str, np.ndarray]
    order: np.ndarray
    weights: Mapping[str, np.ndarray]

    @classmethod
    def read(cls, folder: Path, side: str) -> "Job":
        """Returns the job with the weights of one side, "torch" or "flax"."""
        described = json.loads((folder / "job.json").read_text())
        arrays = {name: dict(np.load(folder / f"{name}.npz")) for name in ("columns", side)}
        columns = {name: arrays["columns"][name] for name in described.pop("inputs")}
        columns["targets"] = arrays["columns"]["targets"]
        order = np.load(folder / "order.npy")
        return cls(**described, columns=columns, order=order, weights=arrays[side])


def prepare(work: Any, folder: Path) -> None:
    """Writes the job of a `Work` into a folder."""
    import jax

    from benchmarks.contenders import weights
    from neuralmon.data.permutation import batch_indices
    from neuralmon.training.program import compiled

    experiment = work.experiment().resolve()
    spec, training = experiment.dataset.spec(), experiment.training
    program, numbers, _ = compiled(experiment)
    variables = jax.device_get(program.init(numbers).variables)
    columns = experiment.dataset.load()["train"]
    size = spec.sizes["train"]

    def batch(step: jax.Array) -> jax.Array:
        return batch_indices(jax.numpy.asarray(training.seed), step, training.batch_size, size)

    order = jax.jit(lambda steps: jax.lax.map(batch, steps))(jax.numpy.arange(_ORDERED))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "order.npy", np.asarray(order, np.int64))
    np.savez(folder / "columns.npz", **columns)  # type: ignore[arg-type] # an array may be called anything
    np.savez(folder / "torch.npz", **weights.to_torch(experiment.model, variables))  # type: ignore[arg-type] # an array may be called anything
    np.savez(folder / "flax.npz", **weights.to_flax(experiment.model, variables))  # type: ignore[arg-type] # an array may be called anything
    described = {
        "kind": type(experiment.model).__name__,
        "sizes": weights.sizes(experiment.model, {name: feature.shape for name, feature in spec.features.items()}),
        "batch_size": training.batch_size,
        "optimizer": work.optimizer,
        "learning_rate": float(experiment.optimizer.learning_rate),
        "inputs": [name for name in ("inputs", "written") if name in columns],
    }
    (folder / "job.json").write_text(json.dumps(described))


def main() -> None:
    """Writes a job: python -m benchmarks.job WORK FOLDER."""
    from neuralmon import process

    process.configure()
    from benchmarks.works import WORKS

    name, folder = sys.argv[1:]
    prepare(WORKS[name], Path(folder))


if __name__ == "__main__":
    main()
