"""Transposed convolution: Flax's word for values and gradients. PyTorch's is in tests/parity/test_gan.py."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.layers import ConvTranspose, conv_transpose

# size, kernel, strides, padding
CASES = [
    ((4, 3), (5, 5), (2, 2), "SAME"),
    pytest.param((3, 4), (2, 4), (3, 1), "VALID", marks=pytest.mark.slow),
    ((3, 3), (5, 3), (2, 3), ((2, 3), (0, 4))),
    pytest.param((5,), (3,), (2,), "SAME", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("size", "kernel", "strides", "padding"), CASES, ids=str)
def test_it_is_that_of_flax(size, kernel, strides, padding):
    images = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
    layers = [kind(4, kernel, strides, padding) for kind in (ConvTranspose, nn.ConvTranspose)]
    shapes = [jax.eval_shape(layer.init, jax.random.key(0), images) for layer in layers]
    assert shapes[0] == shapes[1]
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes[0])

    @jax.jit
    def run(variables, images):
        def loss(layer, variables, images):
            outputs = layer.apply(variables, images)
            return jnp.sin(outputs).sum(), outputs

        return [
            jax.grad(lambda *given, layer=layer: loss(layer, *given), argnums=(0, 1), has_aux=True)(variables, images)
            for layer in layers
        ]

    ours, flax = run(variables, images)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4), ours, flax)


def test_shapes_are_those_of_jax_for_any_padding():
    rng = np.random.default_rng(2)
    for _ in range(15):
        size, window, strides = rng.integers(3, 7, 2), rng.integers(1, 6, 2), rng.integers(1, 5, 2).tolist()
        images = jax.ShapeDtypeStruct((2, *size.tolist(), 3), jnp.float32)
        kernel = jax.ShapeDtypeStruct((*window.tolist(), 3, 4), jnp.float32)
        pairs = tuple((int(a), int(b)) for a, b in rng.integers(0, 5, (2, 2)))
        for padding in ("SAME", "VALID", pairs):
            ours, theirs = (
                jax.eval_shape(lambda x, w, call=call: call(x, w, strides, padding), images, kernel).shape  # noqa: B023
                for call in (conv_transpose, jax.lax.conv_transpose)
            )
            assert ours == theirs, (images.shape, kernel.shape, strides, padding)


def test_it_is_the_transpose_of_a_convolution():
    """<conv(x), y> = <x, conv_transpose(y)>, with the kernel mirrored and its channels swapped."""
    rng = np.random.default_rng(3)
    x, y, kernel = (rng.normal(size=shape).astype(np.float32) for shape in ((2, 8, 6, 3), (2, 4, 3, 5), (5, 5, 3, 5)))
    layout = ("NHWC", "HWIO", "NHWC")

    @jax.jit
    def products(x, y, kernel):
        smaller = jax.lax.conv_general_dilated(x, kernel, (2, 2), ((2, 2), (2, 2)), dimension_numbers=layout)
        mirrored = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)
        larger = conv_transpose(y, mirrored, (2, 2), ((2, 3), (2, 3)))
        return (smaller * y).sum(), (x * larger).sum()

    one, other = products(x, y, kernel)
    assert float(one) == pytest.approx(float(other), rel=1e-4)
