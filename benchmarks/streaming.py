"""What streaming costs: training steps with data on the device and with data that is streamed, in turns.

python benchmarks/streaming.py                         # cnn_mnist, both ways, 6 rounds
python benchmarks/streaming.py --data_workers=1        # read by a worker process, not by threads
"""

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

import neuralmon as nm
from neuralmon import process
from neuralmon.experiment import replace_at
from neuralmon.training.check import check
from neuralmon.training.feed import Feed, Resident, Streamed, resident
from neuralmon.training.program import compiled


def runner(
    experiment: nm.Experiment, pipeline: str, workers: int | None, rounds: int, steps: int
) -> tuple[Callable[[], float], Feed]:
    """Returns a function that trains `steps` updates and says how many seconds they took."""
    experiment = check(replace_at(experiment, "dataset.pipeline", pipeline))
    training = dataclasses.replace(experiment.training, steps=None, epochs=1000, evaluate_every=10**9)
    experiment = dataclasses.replace(experiment, training=training)
    program, numbers, mesh = compiled(experiment)
    feed: Feed
    if program.window is None:
        feed = Resident(resident(experiment.dataset, mesh))
    else:
        feed = Streamed(experiment, mesh, program.window, 0, workers=workers)
    state = program.init(numbers)
    size, step = experiment.dataset.spec().sizes["train"], 0

    def run() -> float:
        nonlocal state, step
        begun, end = time.perf_counter(), step + steps
        while step < end:
            boundary = min(training.boundary_after(step, size), end)
            for length, data in feed.train(step, boundary):
                state, _ = program.chunk(numbers, state, data, np.int32(length))
            step = boundary
        jax.block_until_ready(state)
        return time.perf_counter() - begun

    run()  # compiles
    return run, feed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="cnn_mnist")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=100, help="steps of a round")
    parser.add_argument("--data_workers", type=int, default=None)
    options = parser.parse_args()
    process.configure()
    experiment = nm.load_experiment(options.experiment)
    ways = {
        pipeline: runner(experiment, pipeline, options.data_workers, options.rounds, options.steps)
        for pipeline in ("device", "stream")
    }
    ratios = []
    for number in range(options.rounds):
        seconds = {pipeline: run() for pipeline, (run, _) in ways.items()}
        ratios.append(seconds["stream"] / seconds["device"])
        shown = "  ".join(f"{pipeline} {1000 * value / options.steps:6.2f} ms" for pipeline, value in seconds.items())
        print(f"round {number + 1}: a step with {shown}  ratio {ratios[-1]:.3f}", flush=True)
    for _, feed in ways.values():
        feed.close()
    print(f"streaming takes {statistics.median(ratios):.3f} times as long (median of {options.rounds} rounds)")


if __name__ == "__main__":
    main()
