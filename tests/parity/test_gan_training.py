"""A step of the GAN game beside PyTorch: DCGAN with batch normalisation, the loss that does not saturate, Adam."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import both_types
from parity.test_gan import BATCH, LATENT, PLAIN, convolutions, dcgan_discriminator, dcgan_generator, draw, set_up

from neuralmon.interop import weights
from neuralmon.ops import reference
from neuralmon.optim import Adam
from neuralmon.tasks import Adversarial

NOISES = [draw((BATCH, LATENT), "float64", seed) for seed in (7, 8)]


@dataclasses.dataclass(frozen=True)
class Given(Adversarial):
    """Takes the noise of the discriminator's step, then that of the generator's."""

    left: list = dataclasses.field(default_factory=lambda: list(NOISES), compare=False)

    def draw(self, key, model, count):
        return jnp.asarray(self.left.pop(0), model.generator.dtype)


@both_types
def test_a_step_is_that_of_pytorch(dtype):
    torch = pytest.importorskip("torch")
    with jax.enable_x64(dtype == "float64"):
        model, variables, entries, network = set_up(*convolutions((8, 12, 2), (6, 5)), dtype, PLAIN)
        real, options = draw((BATCH, 8, 12, 2), dtype), {"b1": 0.5, "eps": 1e-3}
        task = Given(discriminator_optimizer=Adam(learning_rate=2e-2, **options))
        update = task.update(model, Adam(learning_rate=1e-2, **options), 10)
        params, state = variables["params"], {name: tree for name, tree in variables.items() if name != "params"}
        batch = {"inputs": real, "targets": np.zeros(BATCH), "weights": np.ones(BATCH, dtype)}
        # Without jit, so that each step takes its own noise.
        with jax.disable_jit(), reference():
            moved, after, _, sums = update.apply(params, state, update.init(params), jax.random.key(0), batch)

    network.train()
    generator, discriminator = network["generator"], network["discriminator"]
    make = lambda noise: dcgan_generator(torch, model.generator, generator, torch.tensor(noise.astype(dtype)), None)  # noqa: E731
    judge = lambda images: dcgan_discriminator(torch, model.discriminator, discriminator, images, None)  # noqa: E731
    rates = {"betas": (0.5, 0.999), "eps": 1e-3}
    softplus = torch.nn.functional.softplus
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-2, **rates)
    fake = make(NOISES[0]).detach()
    loss = softplus(-judge(torch.tensor(real))).mean() + softplus(judge(fake)).mean()
    loss.backward()
    optimizer.step()
    optimizer = torch.optim.Adam(generator.parameters(), lr=1e-2, **rates)
    optimizer.zero_grad()
    generator_loss = softplus(-judge(make(NOISES[1]))).mean()
    generator_loss.backward()
    optimizer.step()

    tolerance = {"rtol": 1e-8, "atol": 1e-9} if dtype == "float64" else {"rtol": 1e-3, "atol": 1e-4}
    np.testing.assert_allclose(np.asarray(sums["loss"][0]) / BATCH, loss.item(), **tolerance)
    np.testing.assert_allclose(np.asarray(sums["generator_loss"][0]) / BATCH, generator_loss.item(), **tolerance)
    theirs = {key: leaf.detach().numpy() for key, leaf in network.state_dict().items()}
    expected = weights.flatten(weights.to_ours(entries, theirs, variables, ignored=("*.num_batches_tracked",)))
    for path, leaf in weights.flatten({"params": moved, **after}).items():
        if not path.endswith("/var"):  # PyTorch's is that of a sample
            np.testing.assert_allclose(leaf, expected[path], err_msg=path, **tolerance)
