"""From nothing to the end of the first training step of the 784-256-10 network, with Linen and Optax; prints when."""

import time
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.training.train_state import TrainState


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.relu(nn.Dense(256)(x.reshape(len(x), -1)))
        return nn.Dense(10)(nn.Dropout(0.3, deterministic=not train)(x))


@jax.jit
def step(state: TrainState, images: jax.Array, labels: jax.Array, key: jax.Array) -> tuple[TrainState, jax.Array]:
    def loss_of(params: dict) -> jax.Array:
        inputs = (images / 255 - 0.1307) / 0.3081
        logits = state.apply_fn({"params": params}, inputs, True, rngs={"dropout": key})
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    loss, gradients = jax.value_and_grad(loss_of)(state.params)
    return state.apply_gradients(grads=gradients), loss


with np.load(Path(__file__).parents[3] / "neuralmon" / "data" / "embedded" / "mnist.npz") as arrays:
    images, labels = arrays["train_images"][:-5_000], arrays["train_labels"][:-5_000].astype(np.int32)
network, key = MLP(), jax.random.key(0)
params = network.init(key, jnp.zeros((1, 28, 28)), False)["params"]
state = TrainState.create(apply_fn=network.apply, params=params, tx=optax.adamw(2e-3, weight_decay=0.3))
rows = np.random.default_rng(0).permutation(len(images))[:128]
state, loss = step(state, images[rows], labels[rows], key)
float(loss)
print(time.monotonic(), flush=True)
