"""The losses of adversarial training: values by hand, slopes, names, and a short game in plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuralmon import codec
from neuralmon.models import GAN, MLPDiscriminator, MLPGenerator
from neuralmon.names import Names
from neuralmon.tasks import (
    AdversarialLoss,
    GradientPenalty,
    LeastSquares,
    Penalty,
    R1Penalty,
    hinge,
    least_squares,
    minimax,
    non_saturating,
    wasserstein,
)

LOSSES = {
    "minimax": minimax,
    "non_saturating": non_saturating,
    "least_squares": least_squares,
    "hinge": hinge,
    "wasserstein": wasserstein,
}
KEY = jax.random.key(0, impl="rbg")
LOGITS = np.linspace(-4, 4, 17)
D = 1 / (1 + np.exp(-LOGITS))  # the probability of "real"

# What real and generated samples cost the discriminator, and what generated ones cost the generator, as published.
BY_HAND = {
    "minimax": (-np.log(D), -np.log(1 - D), np.log(1 - D)),
    "non_saturating": (-np.log(D), -np.log(1 - D), -np.log(D)),
    "least_squares": ((LOGITS - 1) ** 2 / 2, LOGITS**2 / 2, (LOGITS - 1) ** 2 / 2),
    "hinge": (-np.minimum(0, LOGITS - 1), -np.minimum(0, -LOGITS - 1), -LOGITS),
    "wasserstein": (-LOGITS, LOGITS, -LOGITS),
}


@pytest.mark.parametrize("name", LOSSES)
def test_values_are_the_published_ones(name):
    loss = LOSSES[name]
    logits = jnp.asarray(LOGITS, jnp.float32)
    for part, expected in zip((loss.real, loss.fake, loss.generator), BY_HAND[name], strict=True):
        np.testing.assert_allclose(part(logits), expected, rtol=1e-5, atol=1e-6)


def test_least_squares_has_targets():
    loss = LeastSquares(fake_target=-1.0, real_target=1.0, generator_target=0.0)  # eq. 8 of its paper
    logits = jnp.array([-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(loss.fake(logits), [0, 0.5, 2])
    np.testing.assert_array_equal(loss.real(logits), [2, 0.5, 0])
    np.testing.assert_array_equal(loss.generator(logits), [0.5, 0, 0.5])


@pytest.mark.parametrize("name", LOSSES)
def test_each_player_is_pushed_the_right_way(name):
    """Real samples up, generated ones down; the generator against it. All of it finite, however sure they are."""
    slopes = [
        np.array([jax.grad(part)(jnp.float32(logit)) for logit in (-1e4, -0.5, 0.5, 1e4)])
        for part in (LOSSES[name].real, LOSSES[name].fake, LOSSES[name].generator)
    ]
    assert np.isfinite(slopes).all()
    real, fake, generator = (slope[1:3] for slope in slopes)
    assert (real < 0).all()
    assert (fake >= 0).sum() > (fake < 0).sum() or name == "least_squares"
    assert (generator < 0).all()


def test_the_minimax_generator_stands_still_where_the_discriminator_is_sure():
    slope = {name: float(jax.grad(LOSSES[name].generator)(-12.0)) for name in ("minimax", "non_saturating")}
    assert abs(slope["minimax"]) < 1e-5
    assert slope["non_saturating"] == pytest.approx(-1, abs=1e-5)
    # At the equilibrium, D = 1/2, both are the same push.
    equal = [float(jax.grad(LOSSES[name].generator)(0.0)) for name in slope]
    assert equal == pytest.approx([-0.5, -0.5])


WEIGHTS = jnp.array([[1.0, -2.0], [2.0, 4.0]])  # of length 5
REAL, FAKE = np.random.default_rng(0).normal(size=(2, 6, 2, 2)).astype(np.float32)


def linear(weights):
    return lambda samples: jnp.einsum("bij,ij->b", samples, weights)


@pytest.mark.parametrize(
    ("penalty", "value", "slope"), [(GradientPenalty(), 160.0, 16.0), (R1Penalty(3.0), 37.5, 3.0)], ids=["gp", "r1"]
)
def test_penalties_of_a_linear_discriminator(penalty, value, slope):
    """10 (|w| - 1)^2, of gradient 20 (|w| - 1) w / |w|; and 3/2 |w|^2, of gradient 3 w."""

    @jax.jit
    def run(weights):
        penalties = penalty.penalise(linear(weights), REAL, FAKE, KEY)
        return penalties.mean(), penalties

    gradient, penalties = jax.grad(run, has_aux=True)(WEIGHTS)
    np.testing.assert_allclose(penalties, np.full(6, value), rtol=1e-5)
    np.testing.assert_allclose(gradient, slope * WEIGHTS, rtol=1e-5)


def test_the_gradient_penalty_is_taken_between_real_and_generated():
    """A discriminator |x|^2 / 2 has the slope |x|: how long x is says where between 0 and `real` it lies."""
    real = jnp.full((500, 3, 3), 2.0)  # each of length 6

    @jax.jit
    def penalise(real):
        return GradientPenalty(1.0).penalise(lambda x: jnp.square(x).sum(axis=(1, 2)) / 2, real, 0 * real, KEY)

    penalties = penalise(real)
    # (6 e - 1)^2 with e uniform in [0, 1]: 1/6 of it below 1 / 3 and so on; the mean is 7.
    assert 0 <= penalties.min() < 0.01
    assert 22 < penalties.max() <= 25
    assert float(penalties.mean()) == pytest.approx(12 - 6 + 1, rel=0.1)


@pytest.mark.parametrize(("penalty", "value"), [(GradientPenalty(7.0), 7.0), (R1Penalty(), 0.0)], ids=["gp", "r1"])
def test_a_flat_discriminator_has_finite_gradients(penalty, value):
    @jax.jit
    def loss(weights):
        return penalty.penalise(linear(weights), REAL, FAKE, KEY).mean()

    assert float(loss(0 * WEIGHTS)) == value
    np.testing.assert_array_equal(jax.grad(loss)(0 * WEIGHTS), 0 * WEIGHTS)


def test_a_flag_can_name_them():
    names = Names()
    for name, loss in LOSSES.items():
        assert codec.parse(name, AdversarialLoss, names) is loss
        assert codec.format(loss, names) == name
    other = LeastSquares(generator_target=0.0)
    assert codec.parse(codec.format(other, names), AdversarialLoss, names) == other
    for penalty in (GradientPenalty(), R1Penalty(1.0)):
        assert codec.parse(codec.format(penalty, names), Penalty | None, names) == penalty
    with pytest.raises(codec.RequestError, match="did you mean hinge"):
        codec.parse("hing", AdversarialLoss, names)
    with pytest.raises(codec.RequestError, match=r"there are GradientPenalty.*, R1Penalty"):
        codec.parse("hinge", Penalty, names)


def play(loss, penalty=None, spectral_norm=False, turns=1, steps=1500):
    """A generator learns two normal distributions, at -2 and at 2, by turns with a discriminator."""
    gan = GAN(
        MLPGenerator(sample_shape=(1,), latent_dim=4, hidden=(32, 32), output_activation=None),
        MLPDiscriminator(hidden=(32, 32), pieces=(1, 1), activation=jax.nn.relu, spectral_norm=spectral_norm),
    )
    optimizer = optax.adam(1e-3, b1=0.5, b2=0.9)

    def data(key):
        side, noise = jax.random.split(key)
        return 2 * jax.random.rademacher(side, (128, 1), jnp.float32) + 0.3 * jax.random.normal(noise, (128, 1))

    def discriminate(params, rest, samples):
        mutable = list(rest)
        return gan.apply({"params": params, **rest}, samples, True, method="discriminate", mutable=mutable)

    def discriminator_step(carry, key):
        params, rest, state = carry
        keys = jax.random.split(key, 3)
        real, noise = data(keys[0]), jax.random.normal(keys[1], (128, 4))

        def discriminator_loss(own):
            both = {**params, "discriminator": own}
            fake = gan.apply({"params": params}, noise, method="generate")
            real_logits, changed = discriminate(both, rest, real)
            fake_logits, changed = discriminate(both, {**rest, **changed}, fake)
            total = loss.real(real_logits).mean() + loss.fake(fake_logits).mean()
            if penalty is not None:
                total += penalty.penalise(lambda x: discriminate(both, rest, x)[0], real, fake, keys[2]).mean()
            return total, {**rest, **changed}

        gradients, rest = jax.grad(discriminator_loss, has_aux=True)(params["discriminator"])
        updates, state = optimizer.update(gradients, state)
        return ({**params, "discriminator": optax.apply_updates(params["discriminator"], updates)}, rest, state), None

    def step(carry, key):
        params, rest, (first, second) = carry
        key, own_key = jax.random.split(key)
        keys = jax.random.split(own_key, turns)
        (params, rest, first), _ = jax.lax.scan(discriminator_step, (params, rest, first), keys)

        def generator_loss(own):
            logits = gan.apply({"params": {**params, "generator": own}, **rest}, jax.random.normal(key, (128, 4)))
            return loss.generator(logits).mean()

        updates, second = optimizer.update(jax.grad(generator_loss)(params["generator"]), second)
        params = {**params, "generator": optax.apply_updates(params["generator"], updates)}
        return (params, rest, (first, second)), None

    @jax.jit
    def run(key):
        start, noise, last = jax.random.split(key, 3)
        variables = gan.init(start, jnp.zeros((1, 4)))
        params = variables.pop("params")
        states = optimizer.init(params["discriminator"]), optimizer.init(params["generator"])
        keys = jax.random.split(noise, steps)
        (params, *_), _ = jax.lax.scan(step, (params, variables, states), keys)
        return gan.apply({"params": params}, jax.random.normal(last, (2000, 4)), method="generate")[:, 0]

    return np.sort(np.asarray(run(KEY)))


GAMES = {
    "non_saturating": (non_saturating, R1Penalty(0.1)),
    "minimax": (minimax, R1Penalty(0.1)),
    "least_squares": (LeastSquares(-1.0, 1.0, 1.0), R1Penalty(0.1)),
    "wasserstein": (wasserstein, GradientPenalty(1.0), False, 5),
    "hinge": (hinge, None, True, 5),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GAMES)
def test_a_generator_learns_two_normal_distributions(name):
    samples = play(*GAMES[name])
    rng = np.random.default_rng(0)
    real = np.sort(2 * rng.choice([-1, 1], 2000) + 0.3 * rng.normal(size=2000))
    # The earth mover's distance of sorted samples; that of a single peak between the two is 1.7, at one of them 2.
    assert np.abs(samples - real).mean() < 0.5
    assert 0.3 < (samples > 0).mean() < 0.7
    assert (np.abs(np.abs(samples) - 2) < 0.9).mean() > 0.8
