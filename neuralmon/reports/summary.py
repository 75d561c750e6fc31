"""The summary of an experiment: its five parts, every layer and parameter, and what a step costs.

Everything is found by abstract evaluation: no data is read, nothing is computed or compiled.
"""

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from neuralmon import codec
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.names import Names
from neuralmon.optim import freezing
from neuralmon.optim.layer_rates import LayerRate, rate_of_each
from neuralmon.training.flops import Forward, trace_forward, trace_model

_COLUMNS = ("layer, parameter", "kind", "output, shape", "parameters", "FLOPs", "initialiser")


def summary(experiment: Experiment) -> str:
    """Returns the text that `--mode=summary` prints for a resolved experiment."""
    forward, optimizer = trace_forward(experiment), experiment.optimizer
    batch_size = experiment.training.batch_size
    frozen = _by_name(freezing.partition(forward.variables.get("params", {}), optimizer.frozen)[1])
    rates = rate_of_each(forward.variables.get("params", {}), optimizer.layer_rates)
    states = {name: "frozen" if name in frozen else _rate(rate) for name, rate in rates.items()}
    title = experiment.name or type(experiment.model).__name__
    notes = ["A rate is the factor of the learning rate."] if optimizer.layer_rates else []
    table = _layers(forward, states, batch_size, experiment.names)
    return _sections(title, _parts(experiment), table, notes, _totals(forward, frozen, batch_size), batch_size)


def model_summary(name: str, model: nn.Module, inputs: Any, names: Names) -> str:
    """Returns the same of a model alone, for one example of `inputs` (shapes without a batch axis)."""
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), inputs)
    forward = trace_model(model, batch)
    states = dict.fromkeys(_by_name(forward.variables.get("params", {})), "trainable")
    said = jax.tree.map(lambda leaf: f"{leaf.shape} {leaf.dtype}", inputs)
    parts = {
        "model": codec.format(model, names),
        "inputs": "; ".join(f"{key} {one}" for key, one in said.items()) if isinstance(said, dict) else said,
    }
    return _sections(name, parts, _layers(forward, states, 1, names), [], _totals(forward, {}, 1), 1)


def _sections(
    title: str,
    parts: Mapping[str, str],
    table: Sequence[tuple[str, ...]],
    notes: Sequence[str],
    totals: Mapping[str, str],
    batch_size: int,
) -> str:
    notes = [f"Output shapes are of a batch of {batch_size}, FLOPs of one example's forward pass.", *notes]
    sections = ([title], _items(parts), _table(table), notes, _items(totals))
    return "\n\n".join("\n".join(line.rstrip() for line in section) for section in sections)


def _layers(forward: Forward, states: Mapping[str, str], batch_size: int, names: Names) -> list[tuple[str, ...]]:
    flops, layers = forward.flops, forward.modules
    params = _by_name(forward.variables.get("params", {}))
    rows: list[tuple[str, ...]] = []
    for path in dict.fromkeys([*layers, *(name.rpartition("/")[0] for name in params), *flops]):
        own = [name for name in params if name.rpartition("/")[0] == path]
        if not own and not flops[path]:
            continue
        kind, fields = (type(layers[path]).__name__, vars(layers[path])) if path in layers else ("", {})
        costs = f"{sum(params[name].size for name in own):,}", f"{flops[path] // batch_size:,}"
        rows.append((path or "(model)", kind, forward.outputs.get(path, ""), *costs, ""))
        for name in sorted(own, key=lambda name: -params[name].ndim):  # kernels come first
            initialiser = _initialiser(fields.get(f"{name.rpartition('/')[2]}_init"), names)
            rows.append((f"  {name}", states[name], str(params[name].shape), f"{params[name].size:,}", "", initialiser))
    return rows


def _totals(forward: Forward, frozen: Mapping[str, Any], batch_size: int) -> dict[str, str]:
    variables, flops = forward.variables, forward.flops.total()
    params = _by_name(variables.get("params", {}))
    count, still = (sum(leaf.size for leaf in tree.values()) for tree in (params, frozen))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in params.values())
    examples = f"{batch_size} examples" if batch_size > 1 else "1 example"
    return {
        "parameters": f"{count:,}: {count - still:,} trainable, {still:,} frozen",
        "bytes": f"{size:,} of parameters ({', '.join(sorted({leaf.dtype.name for leaf in params.values()}))})",
        **{name: f"{sum(leaf.size for leaf in jax.tree.leaves(variables[name])):,} values, not moved by gradients"
           for name in sorted(variables.keys() - {"params"})},
        "forward": f"{flops // batch_size:,} FLOPs an example: 2 x the multiply-adds of matrix products and "
                   "convolutions; elementwise work is not counted, the body of a `while` loop once",
        "training": f"about {3 * flops:.3g} FLOPs a step: 3 x forward x {examples}",
    }  # fmt: skip


def _parts(experiment: Experiment) -> dict[str, str]:
    training, sizes = experiment.training, experiment.dataset.spec().sizes
    # What the data decided is said below, so that the line can be pasted into an experiment.
    dataset: Any = experiment.dataset
    if getattr(dataset, "facts", None) is not None:
        experiment = dataclasses.replace(experiment, dataset=dataclasses.replace(dataset, facts=None))
    return {
        **{name: codec.format(getattr(experiment, name), experiment.names)
           for name in ("dataset", "model", "task", "optimizer", "training")},
        "steps": f"{training.num_steps(sizes['train']):,} of {training.batch_size:,} examples; "
                 f"an epoch has {training.steps_per_epoch(sizes['train']):,}",
        "examples": ", ".join(f"{size:,} {split}" for split, size in sizes.items()),
    }  # fmt: skip


def _items(items: Mapping[str, str]) -> Iterator[str]:
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": " " * 12}
    for name, text in items.items():
        yield from textwrap.wrap(text, 100, initial_indent=f"{name:<11} ", **options)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (_COLUMNS, tuple("-" * width for width in widths), *rows):
        yield "  ".join(f"{text:{side}{width}}" for text, width, side in zip(row, widths, "<<<>><", strict=True))


def _by_name(tree: Any) -> dict[str, Any]:
    return {freezing.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _rate(rate: LayerRate | None) -> str:
    return "trainable" if rate is None else f"rate x {float(rate.factor):g}"


def _initialiser(value: Any, names: Names) -> str:
    """Returns what an initialiser is called; flax keeps none, so only an owner's field `<parameter>_init` is known."""
    if value is None:
        return "-"
    try:
        return codec.format(value, names).removeprefix("flax.linen.")
    except RequestError:
        return getattr(value, "__qualname__", "?").partition(".")[0]  # jax's are functions within what makes them
