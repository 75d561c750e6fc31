"""The summary of an experiment: its five parts, every layer and parameter, and what a step costs.

Everything is found by abstract evaluation: no data is read, nothing is computed or compiled.
"""

import dataclasses
import inspect
import math
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax

from neuralmon import codec
from neuralmon.errors import RequestError
from neuralmon.experiment import Experiment
from neuralmon.layers import VarianceScaling
from neuralmon.names import Names, field_names
from neuralmon.ops import reference
from neuralmon.optim import freezing
from neuralmon.training.program import apply_model, initial_variables

_WIDTH = 100
_COLUMNS = ("layer, parameter", "kind", "output, shape", "parameters", "FLOPs", "initialiser")
_MARK = re.compile(r"module<(.*?)>")


def summary(experiment: Experiment) -> str:
    """Returns the text that `--mode=summary` prints for a resolved experiment."""
    batch_size, model, dataset = experiment.training.batch_size, experiment.model, experiment.dataset
    made: dict[str, _Layer] = {}
    called: dict[str, _Layer] = {}
    key = jax.eval_shape(lambda: jax.random.key(0))
    batch = jax.eval_shape(lambda key, batch: dataset.prepare(key, batch, False), key, dataset.spec().batch(batch_size))
    with nn.intercept_methods(_recorder(made)):
        variables = jax.eval_shape(lambda key: initial_variables(experiment, key), key)
    with reference(), nn.intercept_methods(_recorder(called)):
        forward = jax.make_jaxpr(lambda variables, inputs: apply_model(model, variables, inputs, train=False))
        flops = _flops(forward(variables, batch["inputs"]).jaxpr, "")
    params = _by_name(variables.get("params", {}))
    frozen = _by_name(freezing.partition(variables.get("params", {}), experiment.optimizer.frozen)[1])

    rows = []
    for path in dict.fromkeys([*made, *(name.rpartition("/")[0] for name in params), *flops]):
        # Kernels come first: they have the most dimensions.
        own = sorted((name for name in params if name.rpartition("/")[0] == path), key=lambda name: -params[name].ndim)
        if not own and not flops[path]:
            continue
        layer, count = made.get(path, _Layer("")), sum(params[name].size for name in own)
        output = called.get(path, layer).output
        rows.append((path or "(model)", layer.kind, output, f"{count:,}", f"{flops[path] // batch_size:,}", ""))
        for name in own:
            state = "frozen" if name in frozen else "trainable"
            initialiser = _initialiser(layer.initialisers.get(f"{name.rpartition('/')[2]}_init"), experiment.names)
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
    note = f"Output shapes are of a batch of {batch_size}, FLOPs of one example's forward pass."
    title = experiment.name or type(model).__name__
    sections = ([title], _items(_parts(experiment)), _table(rows), [note], _items(totals))
    return "\n\n".join("\n".join(line.rstrip() for line in section) for section in sections)


def _parts(experiment: Experiment) -> dict[str, str]:
    training, sizes = experiment.training, experiment.dataset.spec().sizes
    names = ("dataset", "model", "task", "optimizer", "training")
    return {
        **{name: codec.format(getattr(experiment, name), experiment.names) for name in names},
        "steps": f"{training.num_steps(sizes['train']):,} of {training.batch_size:,} examples; "
                 f"an epoch has {training.steps_per_epoch(sizes['train']):,}",
        "examples": ", ".join(f"{size:,} {split}" for split, size in sizes.items()),
    }  # fmt: skip


def _items(items: Mapping[str, str]) -> Iterator[str]:
    options: dict[str, Any] = {"break_long_words": False, "break_on_hyphens": False, "subsequent_indent": " " * 12}
    for name, text in items.items():
        yield from textwrap.wrap(text, _WIDTH, initial_indent=f"{name:<11} ", **options)


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    for row in (_COLUMNS, tuple("-" * width for width in widths), *rows):
        yield "  ".join(f"{text:{side}{width}}" for text, width, side in zip(row, widths, "<<<>><", strict=True))


def _by_name(tree: Any) -> dict[str, Any]:
    return {freezing.path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@dataclasses.dataclass
class _Layer:
    """A module that was called: its type, those of its fields that are initialisers, its output's shape."""

    kind: str
    initialisers: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    output: str = ""


def _recorder(layers: dict[str, _Layer]) -> Callable[..., Any]:
    """Returns an interceptor that notes the modules called, by path, and marks their equations with the path."""

    def interceptor(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        module, path = context.module, "/".join(context.module.path)
        fields = {name: getattr(module, name) for name in field_names(type(module)) if name.endswith("_init")}
        layer = layers.setdefault(path, _Layer(type(module).__name__, fields))
        with jax.named_scope(f"module<{path}>"):
            output = call(*args, **kwargs)
        if context.method_name == "__call__" or not layer.output:
            shapes = [str(leaf.shape) for leaf in jax.tree.leaves(output) if hasattr(leaf, "shape")]
            layer.output = f"{shapes[0]} and {len(shapes) - 1} more" if len(shapes) > 1 else "".join(shapes)
        return output

    return interceptor


def _flops(jaxpr: Any, module: str) -> Counter[str]:
    """Returns FLOPs by the path of the innermost module; equations without a mark belong to `module`.

    Of the branches of a condition the costliest counts. A convolution's padding counts, but not the zeros that a
    transposed one puts between its inputs.
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
        elif bodies := [_flops(body, path) for value in params.values() for body in _jaxprs(value)]:
            times = params["length"] if kind == "scan" else 1
            for body in [max(bodies, key=Counter.total)] if kind == "cond" else bodies:
                total.update({inner: times * count for inner, count in body.items()})
    return total


def _jaxprs(value: Any) -> list[Any]:
    parts = [getattr(part, "jaxpr", part) for part in (value if isinstance(value, tuple) else (value,))]
    return [part for part in parts if hasattr(part, "eqns")]


def _initialiser(value: Any, names: Names) -> str:
    """Returns what an initialiser is called; flax keeps none, so only an owner's field `<parameter>_init` is known."""
    if value is None:
        return "-"
    if name := names.of_value(value):
        return name.rpartition(".")[2]
    try:
        return codec.format(value, names)
    except RequestError:
        # jax's are functions called `init`, within the function that makes them.
        maker = getattr(value, "__qualname__", type(value).__name__).partition(".<locals>")[0]
    held = inspect.getclosurevars(value).nonlocals if inspect.isfunction(value) else {}
    if maker != "variance_scaling" or not held.keys() >= {"scale", "mode", "distribution"}:
        return maker
    same = VarianceScaling(held["scale"], held["mode"], held["distribution"])
    return (names.of_value(same) or maker).rpartition(".")[2]
