"""Spectral normalisation: a layer that cannot stretch its inputs by more than 1."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from neuralmon.fields import PositiveFloat, PositiveInt

# Random vectors are far from the singular ones; so many steps bring the first estimate within a few per cent.
_INITIAL_ITERATIONS = 15


class SpectralNorm(nn.Module):
    """Calls `layer` with W / sigma(W) for its kernel W, where sigma is the largest singular value.

    W is the kernel as a matrix of outputs by inputs, (height x width x channels) of them for a convolution. Training
    does a step of the power iteration, v = W^T u / |W^T u|, u = W v / |W v|, each time the layer is called, and
    sigma = u^T W v. The gradient takes u and v for constants, and sees that sigma depends on W (eq. 11 of the paper).
    u and v are kept in the collection "spectral_norm", which is state like running averages: training needs it mutable,
    evaluation uses u and v as they are. (`flax.linen.SpectralNorm` keeps u alone, so an evaluation does a step too.)

    Source: Miyato, Kataoka, Koyama & Yoshida, "Spectral Normalization for Generative Adversarial Networks", ICLR 2018,
    algorithm 1.

    Attributes:
      layer: a layer with a parameter `kernel` whose last axis is the outputs: `nn.Dense`, `nn.Conv`. Its parameters
        stay where they would be without normalisation.
      num_iterations: steps of the power iteration in each call.
      epsilon: smallest length that vectors are divided by.
    """

    layer: nn.Module
    num_iterations: PositiveInt = 1
    epsilon: PositiveFloat = 1e-12

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch ..."], train: bool = False) -> Float[Array, "batch ..."]:
        """Returns the layer's outputs; sows sigma as the intermediate "sigma".

        Raises:
          ValueError: the layer has no kernel.
        """

        def normalised(variables: dict) -> dict:
            params = variables["params"]
            if "kernel" not in params:
                layer = type(self.layer).__name__
                raise ValueError(f"SpectralNorm takes a layer with a kernel; {layer} has only {', '.join(params)}")
            return {"params": {**params, "kernel": params["kernel"] / self._sigma(params["kernel"], train)}}

        if self.is_initializing():
            self.layer(inputs)  # makes the parameters, which would be stored normalised otherwise
        return nn.map_variables(lambda layer, inputs: layer(inputs), "params", normalised)(self.layer, inputs)

    def _sigma(self, kernel: Float[Array, "*inputs outputs"], train: bool) -> Float[Array, ""]:
        matrix = kernel.reshape(-1, kernel.shape[-1]).T
        constant = jax.lax.stop_gradient(matrix)

        def iterate(count: int, u: Array) -> tuple[Array, Array]:
            def step(_: int, vectors: tuple[Array, Array]) -> tuple[Array, Array]:
                v = self._unit(_product(constant.T, vectors[0]))
                return self._unit(_product(constant, v)), v

            return jax.lax.fori_loop(0, count, step, (u, jnp.zeros_like(constant[0])))

        def initial() -> Array:
            random = jax.random.normal(self.make_rng("params"), matrix.shape[:1], matrix.dtype)
            return iterate(_INITIAL_ITERATIONS, self._unit(random))[0]

        stored_u = self.variable("spectral_norm", "u", initial)
        stored_v = self.variable("spectral_norm", "v", lambda: iterate(1, stored_u.value)[1])
        u, v = stored_u.value, stored_v.value
        if train and not self.is_initializing():
            u, v = iterate(self.num_iterations, u)
            stored_u.value, stored_v.value = u, v
        sigma = u @ _product(matrix, v)
        self.sow("intermediates", "sigma", sigma)
        return sigma

    def _unit(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return vector / jnp.maximum(jnp.linalg.norm(vector), self.epsilon)


def _product(matrix: Float[Array, "m n"], vector: Float[Array, " n"]) -> Float[Array, " m"]:
    # Accelerators would round the factors to fewer bits.
    return jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)
