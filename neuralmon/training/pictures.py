"""What one looks at in a run's folder: figures, drawn by a process of their own, and texts."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from neuralmon import figures
from neuralmon.data import Spec
from neuralmon.data.permutation import batch_indices_numpy
from neuralmon.errors import first_line
from neuralmon.experiment import Experiment
from neuralmon.optim import Schedule
from neuralmon.state import TrainState
from neuralmon.tasks import Findings
from neuralmon.training.evaluation import glimpse, monitor, trained_of
from neuralmon.training.feed import Feed
from neuralmon.training.flops import trace_forward
from neuralmon.training.program import Numbers, Program
from neuralmon.training.step import batch_keys

_PREVIEWED = 32
_JUDGED = 10_000  # examples among which the worst mistakes are looked for
_POINTS = 500  # of curves and clouds


class Pictures:
    """Draws into a run's folder while and after it trains; a context manager.

    Nothing that goes wrong here harms the run: it becomes a notice.
    """

    def __init__(
        self, experiment: Experiment, program: Program, numbers: Numbers, folder: Path, notice: Callable[[str], None]
    ) -> None:
        self._experiment, self._program, self._numbers = experiment, program, numbers
        self._folder, self._notice = folder, notice
        self._failures: list[str] = []  # told at the end: `begin` runs in a thread, where nothing may be recorded
        self._spec = experiment.dataset.spec()
        self._drawing = figures.Drawing(folder / "figures")

    def __enter__(self) -> Self:
        self._drawing.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: Any) -> None:
        self._drawing.__exit__(kind, error, traceback)

    def begin(self, feed: Feed) -> None:
        """Draws the first training batch as the model sees it, with its labels."""
        if self._spec.vocab_size is not None:
            return  # numbers of tokens are no picture
        with self._harmless("data"):
            training, dataset = self._experiment.training, self._experiment.dataset
            size = self._spec.sizes["train"]
            rows = batch_indices_numpy(training.seed, 0, training.batch_size, size)
            batch = {**feed.examples("train", rows), "weights": np.ones(len(rows), np.float32)}
            prepare = jax.jit(partial(dataset.prepare, train=True))
            shown = jax.device_get(prepare(batch_keys(training.seed, 0)[0], batch))
            if isinstance(shown["inputs"], np.ndarray):
                self._drawing.draw(
                    "data",
                    inputs=shown["inputs"][: _PREVIEWED if shown["inputs"].ndim > 2 else _POINTS],
                    labels=_labels(self._spec, shown),
                    class_names=self._spec.class_names,
                    feature_names=self._feature_names(),
                )

    def glimpse(self, state: TrainState, feed: Feed) -> None:
        """Draws and writes what the task has to show of the model as it is, with the step in each file's name."""
        with self._harmless("of the model while it trains"):
            self._found(glimpse(self._experiment, trained_of(self._experiment, state, feed)), f"_{int(state.step):06d}")

    def end(self, state: TrainState, metrics: Mapping[str, Mapping[str, Any]], feed: Feed, findings: Findings) -> None:
        """Draws what there is to see of the trained model, and waits until it is done."""
        split = "validation" if "validation" in metrics else next(iter(metrics), None)
        with self._harmless("learning_curves"):
            self._drawing.draw(
                "learning_curves",
                rows=self._folder / "metrics.jsonl",
                learning_rate=self._learning_rate(),
                monitor=list(monitor(self._experiment)),
            )
        with self._harmless("of the task"):
            self._found(findings)
        if self._spec.vocab_size is None:  # the first kernel of a model of tokens sees no picture
            with self._harmless("first_layer_filters"):
                self._filters(state)
        if split is not None:
            with self._harmless("confusion_matrix"):
                self._classes(split, metrics[split])
            with self._harmless("worst_mistakes"):
                self._examples(split, state, feed)
            with self._harmless("decision_regions"):
                self._regions(split, state, feed)
        for text in (*self._failures, *self._drawing.finish()):
            self._notice(text)

    @contextlib.contextmanager
    def _harmless(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failures.append(f"figure {name} not drawn: {type(error).__name__}: {first_line(error)}")

    def _found(self, findings: Findings, suffix: str = "") -> None:
        for name, found in findings.figures.items():
            figure, data = found() if callable(found) else found
            self._drawing.draw(name + suffix, figure, **data)
        for name, text in findings.texts.items():
            file = self._folder / "samples" / f"{name}{suffix}.txt"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text() if callable(text) else text, encoding="utf-8")

    def _classes(self, split: str, metrics: Mapping[str, Any]) -> None:
        names = list(self._spec.class_names)
        if "confusion" in metrics and len(metrics["confusion"]) <= 200:
            title = f"Confusion matrix ({split})"
            self._drawing.draw("confusion_matrix", counts=metrics["confusion"], class_names=names, title=title)
        if "per_class" in metrics:
            title = f"Precision, recall and F1 of each class ({split})"
            self._drawing.draw("per_class", table=metrics["per_class"], title=title)

    def _filters(self, state: TrainState) -> None:
        params = state.variables["params"]
        for path in trace_forward(self._experiment).modules:
            node = params
            for part in filter(None, path.split("/")):
                node = node.get(part, {}) if isinstance(node, Mapping) else {}
            if isinstance(node, Mapping) and "kernel" in node and not isinstance(node["kernel"], Mapping):
                kernel = np.asarray(node["kernel"], np.float32)
                shape = self._spec.features["inputs"].shape
                if "first_layer_filters" in figures.drawable(shape, kernel=kernel.shape):
                    self._drawing.draw("first_layer_filters", kernel=kernel, image_shape=shape)
                return

    def _examples(self, split: str, state: TrainState, feed: Feed) -> None:
        """Worst mistakes of a classifier; predicted against true numbers of a regression."""
        raw, said, losses = self._judged(split, state, feed)
        names, count = self._spec.class_names, len(losses)
        of = f"the first {count:,} {split} examples" if count < self._spec.sizes[split] else f"{split} examples"
        if "class" in said and names and raw["targets"].ndim == 1:
            wrong = np.flatnonzero(said["class"] != raw["targets"])
            shown = wrong if len(wrong) else np.arange(count)
            worst = shown[np.argsort(-losses[shown])][:_PREVIEWED]
            title = f"{'The' if len(wrong) <= len(worst) else 'The worst of'} {len(wrong):,} mistakes among {of}"
            if not len(wrong):
                title = f"No mistake among {of}: those with the highest loss"
            self._drawing.draw(
                "worst_mistakes",
                inputs=feed.examples(split, worst)["inputs"],
                true=[names[target] for target in raw["targets"][worst]],
                predicted=[names[taken] for taken in said["class"][worst]],
                probabilities=said["probabilities"][worst, said["class"][worst]],
                losses=losses[worst],
                feature_names=self._feature_names(),
                title=title,
            )
        elif "prediction" in said and count == said["prediction"].size == raw["targets"].size:
            predicted, targets = said["prediction"].reshape(-1), raw["targets"].reshape(-1)
            self._drawing.draw("regression", predicted=predicted, targets=targets, title=f"Predictions of {of}")

    def _regions(self, split: str, state: TrainState, feed: Feed) -> None:
        shape, names = self._spec.features["inputs"].shape, self._spec.class_names
        if "decision_regions" not in figures.drawable(shape, num_classes=len(names) or None):
            return
        train, other = (feed.examples(name, np.arange(min(self._spec.sizes[name], 1500))) for name in ("train", split))
        if train["targets"].ndim != 1:
            return
        grid = figures.decision_grid(np.concatenate([train["inputs"], other["inputs"]]))
        said = jax.device_get(self._program.predict(self._numbers, state, grid.astype(train["inputs"].dtype)))
        self._drawing.draw(
            "decision_regions",
            grid=grid,
            probabilities=said["probabilities"],
            inputs=train["inputs"],
            targets=train["targets"],
            validation_inputs=other["inputs"] if split == "validation" else None,
            validation_targets=other["targets"] if split == "validation" else None,
            class_names=names,
            feature_names=self._feature_names(),
        )

    def _judged(self, split: str, state: TrainState, feed: Feed) -> tuple[Any, Any, np.ndarray]:
        """Returns the targets of examples as stored, what the model says of them, and their losses."""
        count, batch_size = min(self._spec.sizes[split], _JUDGED), self._experiment.training.batch_size
        kept: list[Any] = []
        for start in range(0, count, batch_size):
            rows = np.arange(start, start + batch_size)
            batch = feed.examples(split, np.minimum(rows, count - 1))
            weighted = {**batch, "weights": np.ones(batch_size, np.float32)}
            said, losses = jax.device_get(self._program.judge(self._numbers, state, weighted))
            del batch["inputs"]  # those that are drawn are read again: together they may be more than the memory
            kept.append(jax.tree.map(itemgetter(slice(count - start)), (batch, said, losses)))
        raw, said, losses = jax.tree.map(lambda *leaves: np.concatenate(leaves), *kept)
        return raw, said, losses

    def _feature_names(self) -> list[str]:
        facts = getattr(self._experiment.dataset, "facts", None)
        columns = facts.columns if facts is not None else ()
        return [f"{c.name}={word}" if word else c.name for c in columns for word in (c.categories or ("",))]

    def _learning_rate(self) -> np.ndarray:
        """Returns (points, 2): steps, and the learning rate of the update from there."""
        num_steps = self._experiment.training.num_steps(self._spec.sizes["train"])
        steps = np.unique(np.linspace(0, num_steps - 1, min(num_steps, _POINTS)).astype(np.int32))
        rate = self._experiment.optimizer.learning_rate
        if isinstance(rate, Schedule):
            schedule = rate
            values = jax.jit(jax.vmap(lambda step: schedule.value(step, num_steps)))(jnp.asarray(steps))
        else:
            values = np.full(len(steps), rate)
        return np.stack([steps, np.asarray(values)], axis=1)


def _labels(spec: Spec, batch: Mapping[str, np.ndarray]) -> list[str]:
    """Returns what each example of a prepared batch is, mixtures with their shares."""
    first = _named(spec, batch["targets"])
    if "second_targets" not in batch:
        return first
    second = _named(spec, batch["second_targets"])
    shares = batch["weights"] / np.maximum(batch["weights"] + batch["second_weights"], 1e-8)
    mixed = [f"{a} {s:.1f} + {b} {1 - s:.1f}" for a, b, s in zip(first, second, shares, strict=True)]
    # Of what is nearly nothing else, only the name.
    pure = [a if s > 0.95 else b if s < 0.05 else "" for a, b, s in zip(first, second, shares, strict=True)]
    return [name or text for name, text in zip(pure, mixed, strict=True)]


def _named(spec: Spec, targets: np.ndarray) -> list[str]:
    names = spec.class_names
    if names and targets.ndim == 1:
        return [names[int(target)] for target in targets]
    if names and targets.ndim == 2 and (targets.shape[1] != len(names) or not np.isin(targets, (0, 1)).all()):
        return ["".join(names[int(target)] for target in row if target >= 0) for row in targets]
    if names and targets.ndim == 2:
        return [" ".join(name for name, held in zip(names, row, strict=True) if held) or "none" for row in targets]
    mean, stddev = spec.target_mean or (0.0,), spec.target_stddev or (1.0,)
    rows = targets.reshape(len(targets), -1) * np.asarray(stddev) + np.asarray(mean)
    return [" ".join(f"{value:.4g}" for value in row) for row in rows]
