"""Our convolution, pooling and batch normalisation beside the plain ones, in a loop on CPU.

  python benchmarks/ops.py

Forward and gradients inside `lax.fori_loop` with a trip count the compiler does not know, for the
layers of a CNN on MNIST with batch 128, and for its whole training step. Contenders take turns; the
table has medians. `threaded` compiles without XLA's own convolution library, which in some versions
runs on one thread; XLA_FLAGS=--xla_cpu_experimental_ynn_fusion_type=-individual_convolution does
the same for a whole process.
"""

import contextlib
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from neuralmon import ops

BATCH = 128
THREADED = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}
Params = Mapping[str, jax.Array]


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return ops.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def pool(x: jax.Array) -> jax.Array:
    return ops.max_pool(x, (2, 2), strides=(2, 2))


def normalise(x: jax.Array, scale: jax.Array, bias: jax.Array) -> jax.Array:
    return jax.nn.relu(ops.normalise(x, *ops.moments(x), scale, bias, 1e-5))


def cnn_loss(params: Params, images: jax.Array, labels: jax.Array) -> jax.Array:
    x = pool(jax.nn.relu(convolve(images, params["conv1"])))
    x = pool(jax.nn.relu(convolve(x, params["conv2"])))
    x = jax.nn.relu(x.reshape(BATCH, -1) @ params["dense1"])
    log_probs = jax.nn.log_softmax(x @ params["dense2"])
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=-1).mean()


def draw(*shape: int) -> jax.Array:
    values = np.random.default_rng(shape).standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
    return jnp.asarray(values, jnp.float32)


def compile_loop(loss: Callable[..., jax.Array], trained: Any, *inputs: Any, options: Any) -> Any:
    """A function of the number of steps that moves `trained` down the gradient of `loss`."""

    def loop(steps: jax.Array, trained: Any, *inputs: Any) -> Any:
        def step(_: jax.Array, trained: Any) -> Any:
            gradient = jax.grad(loss)(trained, *inputs)
            return jax.tree.map(lambda p, g: p - 1e-3 * g, trained, gradient)

        return lax.fori_loop(0, steps, step, trained)

    lowered = jax.jit(loop, compiler_options=options).lower(jnp.int32(0), trained, *inputs)
    return functools.partial(_call, lowered.compile(), trained, *inputs)


def _call(compiled: Any, trained: Any, *inputs: Any, steps: int) -> float:
    start = time.perf_counter()
    jax.block_until_ready(compiled(jnp.int32(steps), trained, *inputs))
    return (time.perf_counter() - start) / steps


def main() -> None:
    images, labels = draw(BATCH, 28, 28, 1), jnp.arange(BATCH) % 10
    network = {
        "conv1": draw(3, 3, 1, 32),
        "conv2": draw(3, 3, 32, 64),
        "dense1": draw(3136, 256),
        "dense2": draw(256, 10),
    }
    hidden = (draw(BATCH, 14, 14, 32), network["conv2"])
    workloads: dict[str, tuple[Any, ...]] = {
        "conv 3x3 1->32, 28x28": (lambda kernel, x: (convolve(x, kernel) ** 2).sum(), network["conv1"], images),
        "conv 3x3 32->64, 14x14": (lambda xk: (convolve(*xk) ** 2).sum(), hidden),
        "max-pool 2x2, 28x28x32": (lambda x: (pool(x) ** 2).sum(), draw(BATCH, 28, 28, 32)),
        "normalise, 32x32x16": (
            lambda operands: (normalise(*operands) ** 2).sum(),
            (draw(BATCH, 32, 32, 16), draw(16), draw(16)),
        ),
        "training step of the CNN": (cnn_loss, network, images, labels),
    }
    print(f"jax {jax.__version__}; milliseconds for forward and gradients, batch {BATCH}\n")
    print(f"{'':26}{'plain':>10}{'threaded':>10}{'ours':>10}{'threaded':>10}{'plain/best':>12}")
    for name, workload in workloads.items():
        contenders = []
        for context in (ops.reference, contextlib.nullcontext):
            for options in ({}, THREADED):
                with context():
                    contenders.append(compile_loop(*workload, options=options))
        for contender in contenders:
            contender(steps=1)
        rounds = [[c(steps=n) for c, n in zip(contenders, (1, 1, 6, 6), strict=True)] for _ in range(5)]
        medians = [1e3 * statistics.median(times) for times in zip(*rounds, strict=True)]
        print(f"{name:26}" + "".join(f"{ms:10.1f}" for ms in medians), end="")
        print(f"{medians[0] / min(medians[2:]):11.0f}x", flush=True)


if __name__ == "__main__":
    main()
