"""Every optimizer and every schedule on the textbook's network (experiments/mlp_mnist.py).

  python benchmarks/optimizers.py > optimizers.md

The learning rate of each is chosen on the validation split, from a grid of half decades around the value that is usual
for it, with seed 0; the chosen one is then trained from other seeds. All other numbers have their defaults. Optimizers
have a cosine schedule with a warm-up of a tenth of the run; schedules have the experiment's AdamW. Accuracies are the
mean and standard deviation over the seeds in percent; a star says that the best learning rate lies at the end of the
grid. The test split is measured, and nothing is chosen by it.

Learning rates and seeds are arguments of the compiled program, so each row compiles in its first run only: should a
later one compile anything, the command says so and ends with exit code 1.
"""

import argparse
import dataclasses
import fnmatch
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import jax

import neuralmon as nm
from neuralmon.training.progress import Silent

optim = nm.optim
Tuned = Callable[[float], optim.Optimizer]  # from a learning rate
_COMPILED = "/jax/core/compile/backend_compile_duration"

# The learning rate that is usual for a method, and the method.
OPTIMIZERS: dict[str, tuple[float, Callable[[optim.Schedule], optim.Optimizer]]] = {
    "SGD": (0.3, lambda rate: optim.SGD(learning_rate=rate)),
    "SGD, momentum": (0.1, lambda rate: optim.SGD(learning_rate=rate, momentum=0.9)),
    "SGD, Nesterov": (0.1, lambda rate: optim.SGD(learning_rate=rate, momentum=0.9, nesterov=True)),
    "Adam": (1e-3, lambda rate: optim.Adam(learning_rate=rate)),
    "AdamW": (1e-3, lambda rate: optim.AdamW(learning_rate=rate)),
    "NAdam": (1e-3, lambda rate: optim.NAdam(learning_rate=rate)),
    "RAdam": (1e-3, lambda rate: optim.RAdam(learning_rate=rate)),
    "AdaGrad": (3e-2, lambda rate: optim.AdaGrad(learning_rate=rate)),
    "AdaDelta": (1.0, lambda rate: optim.AdaDelta(learning_rate=rate)),
    "RMSprop": (1e-3, lambda rate: optim.RMSprop(learning_rate=rate)),
    "RMSprop, centred": (1e-3, lambda rate: optim.RMSprop(learning_rate=rate, centered=True)),
    "RMSprop, momentum": (3e-4, lambda rate: optim.RMSprop(learning_rate=rate, momentum=0.9)),
    "Lion": (3e-4, lambda rate: optim.Lion(learning_rate=rate)),
    "Adafactor": (1e-2, lambda rate: optim.Adafactor(learning_rate=rate)),
    "LAMB": (1e-2, lambda rate: optim.LAMB(learning_rate=rate)),
    "Muon": (3e-3, lambda rate: optim.Muon(learning_rate=rate)),
}
SCHEDULES: dict[str, Callable[[float], optim.Schedule]] = {
    "Constant": lambda peak: optim.Constant(peak),
    "Constant, warm-up": lambda peak: optim.Constant(peak, warmup=0.1),
    "Linear": lambda peak: optim.Linear(peak, warmup=0.1),
    "Polynomial": lambda peak: optim.Polynomial(peak, warmup=0.1),
    "Cosine": lambda peak: optim.Cosine(peak, warmup=0.1),
    "CosineRestarts": lambda peak: optim.CosineRestarts(peak, warmup=0.1),
    "OneCycle": lambda peak: optim.OneCycle(peak),
    "Step": lambda peak: optim.Step(peak, warmup=0.1),
    "Exponential": lambda peak: optim.Exponential(peak, warmup=0.1),
    "InverseSquareRoot": lambda peak: optim.InverseSquareRoot(peak, warmup=0.1),
}


@dataclasses.dataclass
class Bench:
    """Trains one experiment with other optimizers.

    Attributes:
      experiment: what is trained.
      num_rates: how many learning rates are tried.
      num_seeds: how many seeds the chosen one is trained from.
      compilations: how many programs were compiled so far; jax's monitoring counts.
      compiled_late: rows that compiled after their first run.
    """

    experiment: nm.Experiment
    num_rates: int
    num_seeds: int
    compilations: int = 0
    compiled_late: list[str] = dataclasses.field(default_factory=list)

    def row(self, name: str, usual: float, tuned: Tuned) -> str:
        """Tunes and trains; returns a line of the table."""
        offsets = [place - (self.num_rates - 1) // 2 for place in range(self.num_rates)]
        rates = [float(f"{usual * 10 ** (offset / 2):.2g}") for offset in offsets]
        first, *rest = rates
        scores = {first: self.accuracies(tuned(first), seed=0)["validation"]}
        compilations = self.compilations
        scores |= {rate: self.accuracies(tuned(rate), seed=0)["validation"] for rate in rest}
        best = max(scores, key=lambda rate: scores[rate])
        start = time.perf_counter()
        runs = [self.accuracies(tuned(best), seed) for seed in range(1, self.num_seeds + 1)]
        seconds = (time.perf_counter() - start) / self.num_seeds
        if self.compilations > compilations:
            self.compiled_late.append(name)
        star = " *" if best in (rates[0], rates[-1]) else ""
        cells = [_mean_and_deviation([run[split] for run in runs]) for split in ("validation", "test")]
        return f"| {name} | {best:g}{star} | {' | '.join(cells)} | {seconds:.1f} |"

    def accuracies(self, optimizer: optim.Optimizer, seed: int) -> dict[str, float]:
        """Returns accuracies by split; those of a run that diverged are 0."""
        training = dataclasses.replace(self.experiment.training, seed=seed)
        experiment = dataclasses.replace(self.experiment, optimizer=optimizer, training=training)
        try:
            metrics = nm.train(experiment, workdir=None, progress=Silent()).metrics
        except nm.RunError:
            return {"validation": 0.0, "test": 0.0}
        return {split: metrics[split]["accuracy"] for split in ("validation", "test")}

    def count(self, event: str, duration_secs: float, **_: str | int) -> None:
        """Counts compilations, as a listener of jax.monitoring."""
        self.compilations += event == _COMPILED


def _mean_and_deviation(values: Sequence[float]) -> str:
    deviation = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{deviation}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=5, help="passes through the training data of each run (5)")
    parser.add_argument("--rates", type=int, default=5, help="learning rates that are tried for each row (5)")
    parser.add_argument("--seeds", type=int, default=3, help="runs with the chosen learning rate (3)")
    parser.add_argument("--only", default="*", help="rows whose name matches this pattern, such as 'SGD*'")
    parser.add_argument("--quick", action="store_true", help="two rates and one seed, to see that it works")
    arguments = parser.parse_args()
    for name in ("epochs", "rates", "seeds"):
        if getattr(arguments, name) < 1:
            parser.error(f"--{name} must be at least 1")
    if not any(fnmatch.fnmatch(name, arguments.only) for name in (*OPTIMIZERS, *SCHEDULES)):
        parser.error(f"--only={arguments.only} matches no row; there are {', '.join((*OPTIMIZERS, *SCHEDULES))}")
    return arguments


def main() -> int:
    """Prints the two tables; returns the exit code."""
    arguments = _arguments()
    experiment = nm.load_experiment("mlp_mnist")
    training = dataclasses.replace(experiment.training, epochs=arguments.epochs)
    rates, seeds = (2, 1) if arguments.quick else (arguments.rates, arguments.seeds)
    bench = Bench(dataclasses.replace(experiment, training=training), rates, seeds)
    jax.monitoring.register_event_duration_secs_listener(bench.count)
    adamw = experiment.optimizer

    optimizers = {
        name: (usual, lambda rate, make=make: make(optim.Cosine(rate, warmup=0.1)))
        for name, (usual, make) in OPTIMIZERS.items()
    }
    schedules = {
        name: (2e-3, lambda peak, make=make: dataclasses.replace(adamw, learning_rate=make(peak)))
        for name, make in SCHEDULES.items()
    }
    print(f"{arguments.epochs} epochs, {rates} learning rates, {seeds} seeds; jax {jax.__version__}", flush=True)
    for title, column, rows in (("Optimizer", "learning rate", optimizers), ("Schedule of AdamW", "peak", schedules)):
        print(f"\n| {title} | {column} | validation % | test % | seconds a run |\n| --- | ---: | ---: | ---: | ---: |")
        for name, (usual, tuned) in rows.items():
            if fnmatch.fnmatch(name, arguments.only):
                print(bench.row(name, usual, tuned), flush=True)
    if bench.compiled_late:
        print(f"compiled after the first run: {', '.join(bench.compiled_late)}", file=sys.stderr)
    return bool(bench.compiled_late)


if __name__ == "__main__":
    sys.exit(main())
