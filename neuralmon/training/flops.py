"""Floating-point operations: how many a model needs, found by abstract evaluation, and how many the devices can do.

2 x the multiply-adds of matrix products and convolutions; elementwise work is not counted. XLA's own cost analysis
counts the body of a scan once, so the traced program is counted instead, every body as often as it runs.
"""

import dataclasses
import functools
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from neuralmon.data import Batch
from neuralmon.experiment import Experiment
from neuralmon.inspection import with_train
from neuralmon.ops import reference
from neuralmon.parallel import make_mesh
from neuralmon.training.step import apply_model, make_update, model_inputs, own_update

# Peak operations a second of one jax device with bfloat16 inputs (float16 on V100 and T4), without sparsity, as the
# makers publish them: cloud.google.com/tpu/docs (half a chip's where jax makes each of its two cores a device) and the
# data sheets of NVIDIA. The longest name that is all of a device's kind, or its first words, decides.
_PEAKS = {
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v4 lite": 137e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "TPU7x": 1153.5e12,
    "Tesla V100-SXM2": 125e12,
    "Tesla V100-PCIE": 112e12,
    "Tesla T4": 65e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100 80GB": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
}
_MARK = re.compile(r"module<(.*?)>")


@dataclasses.dataclass(frozen=True)
class Forward:
    """A model's forward pass for one batch, traced and never run.

    Attributes:
      variables: shapes of the model's variables.
      modules: every module that was called, by path; the model itself is "".
      outputs: the shape of what each module returned, as text.
      flops: operations of a batch by the path of the innermost module.
    """

    variables: dict[str, Any]
    modules: dict[str, nn.Module]
    outputs: dict[str, str]
    flops: Counter[str]


def trace_forward(experiment: Experiment) -> Forward:
    """Returns what is known of a resolved experiment's forward pass; no data is read, nothing is compiled."""
    batch = _prepared(experiment)
    inputs = jax.eval_shape(lambda batch: model_inputs(experiment, batch, jax.random.key(0)), batch)
    return trace_model(experiment.model, inputs)


def _prepared(experiment: Experiment) -> Batch:
    """Returns the shapes of a batch as `prepare` makes it."""
    examples = experiment.dataset.spec().batch(experiment.training.batch_size)
    return jax.eval_shape(lambda batch: experiment.dataset.prepare(jax.random.key(0), batch, False), examples)


def trace_model(model: nn.Module, inputs: Any) -> Forward:
    """Returns what is known of a model's forward pass for a batch of inputs, of which only the shapes count."""
    modules: dict[str, nn.Module] = {}
    outputs: dict[str, str] = {}
    options = with_train(model, {}, False)
    variables = dict(jax.eval_shape(lambda inputs: model.init(jax.random.key(0), inputs, **options), inputs))
    with reference(), nn.intercept_methods(_recorder(modules, outputs)):
        forward = jax.make_jaxpr(lambda variables, inputs: apply_model(model, variables, inputs, train=False))
        flops = _count(forward(variables, inputs).jaxpr, "")
    return Forward(variables, modules, outputs, flops)


def forward_flops(experiment: Experiment) -> Counter[str]:
    """Returns the operations of one batch's forward pass, by the path of the innermost module."""
    return trace_forward(experiment).flops


def step_flops(experiment: Experiment) -> int:
    """Returns the operations of one update: 3 x forward, for the gradient costs about twice what the outputs cost.

    Of a task with an update of its own, those that the traced update does.

    Source: Kaplan et al., "Scaling Laws for Neural Language Models", 2020, sec. 2.1.
    """
    if own_update(experiment) is None:
        return 3 * forward_flops(experiment).total()
    return traced_flops(experiment)


def traced_flops(experiment: Experiment) -> int:
    """Returns the operations that the traced program of one update does.

    Fewer than `step_flops` by convention says: the first layer needs no gradient to its inputs.
    """
    update = make_update(experiment, 1, make_mesh(experiment.training.batch_size))
    batch = _prepared(experiment)
    variables = trace_forward(experiment).variables
    params = variables.pop("params", {})
    with reference():
        apply = jax.make_jaxpr(update.apply)
        traced = apply(params, variables, jax.eval_shape(update.init, params), jax.random.key(0), batch)
    return _count(traced.jaxpr, "").total()


def peak_flops(devices: Sequence[Any]) -> float | None:
    """Returns how many operations a second the devices can do together; None: one of them is not known.

    Of accelerators, what their makers publish for bfloat16. Of CPUs, what a float32 matrix product reaches on this
    machine, measured once in a process; the devices of one process share its cores.
    """
    if not devices:
        return None
    if all(device.platform == "cpu" for device in devices):
        return _measured_cpu_peak() * len({device.process_index for device in devices})
    peaks = [_published(device.device_kind) for device in devices]
    return None if None in peaks else sum(peak for peak in peaks if peak is not None)


def utilisation(flops_per_second: float, devices: Sequence[Any]) -> float | None:
    """Returns which part of the devices' peak is used; None: the peak is not known.

    Source: the model FLOPs utilisation (MFU) of Chowdhery et al., "PaLM", 2022, appendix B.
    """
    peak = peak_flops(devices)
    return None if peak is None else flops_per_second / peak


def _published(kind: str) -> float | None:
    names = [name for name in _PEAKS if re.match(re.escape(name) + r"([ -]|$)", kind)]
    return _PEAKS[max(names, key=len)] if names else None


@functools.cache
def _measured_cpu_peak() -> float:
    """Returns the best of a few float32 products of 1024 x 1024 matrices, within about 0.2 s."""
    size = 1024
    device = jax.local_devices(backend="cpu")[0]
    matrix = jax.device_put(np.full((size, size), 0.5, np.float32), device)
    product = jax.jit(lambda matrix: matrix @ matrix)
    product(matrix).block_until_ready()
    best, deadline = math.inf, time.perf_counter() + 0.15
    for _ in range(10):
        start = time.perf_counter()
        product(matrix).block_until_ready()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > deadline:
            break
    return 2 * size**3 / best


def _recorder(modules: dict[str, nn.Module], outputs: dict[str, str]) -> Callable[..., Any]:
    """Returns an interceptor that notes modules and output shapes by path, and marks their equations with the path."""

    def interceptor(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        path = "/".join(context.module.path)
        modules.setdefault(path, context.module)
        with jax.named_scope(f"module<{path}>"):
            output = call(*args, **kwargs)
        if context.method_name == "__call__":
            outputs[path] = str(jax.tree.map(jax.numpy.shape, output))
        return output

    return interceptor


def _count(jaxpr: Any, module: str) -> Counter[str]:
    """Returns operations by the path of the innermost module; equations without a mark belong to `module`.

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
        elif bodies := [_count(body, path) for body in jaxprs_in_params(params)]:
            times = params["length"] if kind == "scan" else 1
            for body in [max(bodies, key=Counter.total)] if kind == "cond" else bodies:  # the costliest branch
                total.update({inner: times * count for inner, count in body.items()})
    return total
