"""`cnn_mnist` from the command to the end of its first epoch, without evaluations."""

from benchmarks.measures.processes import installed, seconds_until
from benchmarks.measures.startup import launched
from benchmarks.rows import OURS, Row

_STEPS = 429  # 55,000 images in batches of 128


def measure(quick: bool) -> list[Row]:
    """Returns one row; `quick`: of the first 60 steps. A first launch of neuralmon, not counted, warms its cache."""
    steps = 60 if quick else _STEPS

    def ours() -> float:
        seconds = launched("--experiment=cnn_mnist", f"--training.steps={steps}")
        return seconds["startup"] + seconds["training"]

    ours()
    rounds = []
    for _ in range(1 if quick else 3):
        numbers = {OURS: ours()}
        if installed("torch"):
            numbers["PyTorch eager"] = seconds_until("torch_epoch.py", str(steps), "cnn")
        rounds.append(numbers)
    what = f"{steps} steps" if quick else "its first epoch"
    return [Row(f"cnn_mnist: command to the end of {what}", "s", rounds, more_is_better=False)]
