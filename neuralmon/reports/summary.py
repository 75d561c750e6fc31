"""The summary of an experiment: its five parts, every layer and parameter, and what a step costs.

Everything is found by abstract evaluation: no data is read, nothing is computed or compiled.
"""

import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
from jax.extend.core import jaxprs_in_params

from neuralmon import codec
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.names import Names
from neuralmon.ops import reference
from neuralmon.optim import freezing
from neuralmon.training.program import apply_model, initial_variables

_COLUMNS = ("layer, parameter", "kind", "output, shape", "parameters", "FLOPs", "initialiser")
_MARK = re.compile(r"module<(.*?)>")


def summary(experiment: Experiment) -> str:
    """Returns the text that `--mode=summary` prints for a resolved experiment."""
    batch_size, model, dataset = experiment.training.batch_size, experiment.model, experiment.dataset
    layers: dict[str, nn.Module] = {}
    outputs: dict[str, str] = {}
    examples = dataset.spec().batch(batch_size)
    batch = jax.eval_shape(lambda batch: dataset.prepare(jax.random.key(0), batch, False), examples)
    variables = jax.eval_shape(lambda: initial_variables(experiment, jax.random.key(0)))
    with reference(), nn.intercept_methods(_recorder(layers, outputs)):
        forward = jax.make_jaxpr(lambda variables, inputs: apply_model(model, variables, inputs, train=False))
        flops = _flops(forward(variables, batch["inputs"]).jaxpr, "")
    params = _by_name(variables.get("params", {}))
    frozen = _by_name(freezing.partition(variables.get("params", {}), experiment.optimizer.frozen)[1])

    rows = []
    for path in dict.fromkeys([*layers, *(name.rpartition("/")[0] for name in params), *flops]):
        own = [name for name in params if name.rpartition("/")[0] == path]
        if not own and not flops[path]:
            continue
        kind, fields = (type(layers[path]).__name__, vars(layers[path])) if path in layers else ("", {})
        costs = f"{sum(params[name].size for name in own):,}", f"{flops[path] // batch_size:,}"
        rows.append((path or "(model)", kind, outputs.get(path, ""), *costs, ""))
        for name in sorted(own, key=lambda name: -params[name].ndim):  # kernels come first
            state = "frozen" if name in frozen else "trainable"
            initialiser = _initialiser(fields.get(f"{name.rpartition('/')[2]}_init"), experiment.names)
            rows.append((f"  {name}", state, str(params[name].shape), f"{params[name].size:,}", "", initialiser))

    count, still = (sum(leaf.size for leaf in tree.values()) for tree in (params, frozen))
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in params.values())
    totals = {
        "parameters": f"{count:,}: {count - still:,} trainable, {still:,} frozen",
        "bytes": f"{size:,} of parameters ({', '.join(sorted({leaf.dtype.name for leaf in params.values()}))})",
        **{name: f"{sum(leaf.size for leaf in jax.tree.leaves(variables[name])):,} values, not moved by gradients"
           for name in sorted(variables.keys() - {"params"})},
        "forward": f"{flops.total() // batch_size:,} FLOPs an example: 2 x the multiply-adds of matrix products and "
                   "convolutions; elementwise work is not counted, the body of a `while` loop once",
        "training": f"about {3 * flops.total():.3g} FLOPs a step: 3 x forward x {batch_size} examples",
    }  # fmt: skip
    title = experiment.name or type(model).__name__
    note = f"Output shapes are of a batch of {batch_size}, FLOPs of one example's forward pass."
    sections = ([title], _items(_parts(experiment)), _table(rows), [note], _items(totals))
    return "\n\n".join("\n".join(line.rstrip() for line in section) for section in sections)


def _parts(experiment: Experiment) -> dict[str, str]:
    training, sizes = experiment.training, experiment.dataset.spec().sizes
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


def _recorder(layers: dict[str, nn.Module], outputs: dict[str, str]) -> Callable[..., Any]:
    """Returns an interceptor that notes modules and output shapes by path, and marks their equations with the path."""

    def interceptor(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        path = "/".join(context.module.path)
        layers.setdefault(path, context.module)
        with jax.named_scope(f"module<{path}>"):
            output = call(*args, **kwargs)
        if context.method_name == "__call__":
            outputs[path] = str(jax.tree.map(jax.numpy.shape, output))
        return output

    return interceptor


def _flops(jaxpr: Any, module: str) -> Counter[str]:
    """Returns FLOPs by the path of the innermost module; equations without a mark belong to `module`.

    A convolution's padding counts, but not the zeros that a transposed one puts between its inputs.
    """
    total: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        kind, params = equation.primitive.name, equation.params
        path = (_MARK.findall(str(equation.source_info.name_stack)) or [module])[-1]
        if kind == "dot_general":
            left, ((contracted, _), _) = equation.invars[0].aval.shape, params["dimension_numbers"]
            total[path] += 2 * equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        elif kind == "conv_general_dilated":
            kernel, features = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec[0]
            window = math.prod(size for axis, size in enumerate(kernel) if axis != features)
            total[path] += 2 * equation.outvars[0].aval.size * window // math.prod(params["lhs_dilation"])
        elif bodies := [_flops(body, path) for body in jaxprs_in_params(params)]:
            times = params["length"] if kind == "scan" else 1
            for body in [max(bodies, key=Counter.total)] if kind == "cond" else bodies:  # the costliest branch
                total.update({inner: times * count for inner, count in body.items()})
    return total


def _initialiser(value: Any, names: Names) -> str:
    """Returns what an initialiser is called; flax keeps none, so only an owner's field `<parameter>_init` is known."""
    if value is None:
        return "-"
    try:
        return codec.format(value, names).removeprefix("flax.linen.")
    except RequestError:
        return getattr(value, "__qualname__", "?").partition(".")[0]  # jax's are functions within what makes them
