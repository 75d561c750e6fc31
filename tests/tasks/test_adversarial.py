"""The GAN game: a step beside one by hand, and all that is around a step."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from tiny import Blobs

import neuralmon as nm
from neuralmon.optim import SGD, Adam, LayerRate
from neuralmon.tasks import Adversarial, GradientPenalty, R1Penalty, hinge, least_squares, minimax, wasserstein
from neuralmon.training.flops import step_flops
from neuralmon.training.nan_hunt import hunt
from neuralmon.training.program import compiled

RANDOM = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class Recording(Adversarial):
    """Keeps the noise that is drawn, which without jit are numbers."""

    drawn: list = dataclasses.field(default_factory=list, compare=False)

    def draw(self, key, model, count):
        self.drawn.append(super().draw(key, model, count))
        return self.drawn[-1]


def mlps(shape=(8, 8, 1), conditional=False, **options):
    more = {"conditional": conditional, "label_features": 3}
    generator = nm.models.MLPGenerator(shape, latent_dim=5, hidden=(7,), output_activation=jnp.tanh, **more)
    discriminator = nm.models.MLPDiscriminator(hidden=(6,), pieces=(2,), **more, **options)
    return nm.models.GAN(generator, discriminator)


def experiment(task=None, model=None, optimizer=None, **training):
    return nm.Experiment(
        dataset=Blobs(),
        model=model or mlps(),
        task=task or Adversarial(),
        optimizer=optimizer or Adam(learning_rate=1e-3, b1=0.5),
        training=nm.Training(**{"batch_size": 12, "steps": 6, "steps_per_chunk": 3, "evaluate_every": 6, **training}),
    )


def bits(tree):
    return np.asarray(ravel_pytree(tree)[0]).tobytes()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("steps", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_step_is_that_of_the_paper(steps):
    """Linear networks, whose gradients are written by hand: algorithm 1 with the loss that does not saturate."""
    model = nm.models.GAN(
        nm.models.MLPGenerator((3,), latent_dim=2, hidden=(), output_activation=None),
        nm.models.MLPDiscriminator(hidden=(), pieces=()),
    )
    task = Recording(discriminator_steps=steps, discriminator_optimizer=SGD(learning_rate=0.3))
    update = task.update(model, SGD(learning_rate=0.7), num_steps=10)
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    real, weights = RANDOM.normal(size=(4 * steps, 3)), RANDOM.uniform(0.5, 2, 4 * steps)
    with jax.disable_jit():
        batch = {"inputs": jnp.float32(real), "targets": jnp.zeros(4 * steps), "weights": jnp.float32(weights)}
        moved, state, _, sums = update.apply(params, {}, update.init(params), jax.random.key(1), batch)

    own, judge = (jax.tree.map(np.float64, params[name]["output"]) for name in ("generator", "discriminator"))
    noise = [np.float64(drawn) for drawn in task.drawn]
    assert len({drawn.tobytes() for drawn in noise}) == steps + 1, "noise is new each time"
    losses = []
    for step in range(steps):
        x, w = real[4 * step : 4 * step + 4], weights[4 * step : 4 * step + 4]
        g = noise[step] @ own["kernel"] + own["bias"]
        of_real, of_fake = (images @ judge["kernel"][:, 0] + judge["bias"] for images in (x, g))
        losses.append((w * (np.log1p(np.exp(-of_real)) + np.log1p(np.exp(of_fake)))).sum())
        slope_real, slope_fake = -w * sigmoid(-of_real) / w.sum(), w * sigmoid(of_fake) / w.sum()
        judge["kernel"] = judge["kernel"] - 0.3 * (x.T @ slope_real + g.T @ slope_fake)[:, None]
        judge["bias"] = judge["bias"] - 0.3 * (slope_real.sum() + slope_fake.sum())
    g = noise[steps] @ own["kernel"] + own["bias"]
    of_fake = g @ judge["kernel"][:, 0] + judge["bias"]
    through = (-w * sigmoid(-of_fake) / w.sum())[:, None] * judge["kernel"][:, 0]
    own["kernel"] = own["kernel"] - 0.7 * noise[steps].T @ through
    own["bias"] = own["bias"] - 0.7 * through.sum(axis=0)

    assert state == {}
    for name, expected in (("generator", own), ("discriminator", judge)):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), moved[name]["output"], expected
        )
    np.testing.assert_allclose(sums["loss"], (sum(losses), weights.sum()), rtol=1e-5)
    np.testing.assert_allclose(sums["generator_loss"][0], (w * np.log1p(np.exp(-of_fake))).sum(), rtol=1e-5)


def trained(**options):
    return nm.train(experiment(**options))


@pytest.fixture(scope="module")
def baseline():
    return trained()


def test_a_run_reports_both_networks(baseline):
    assert baseline.metrics.keys() == {"validation", "test"}
    for metrics in baseline.metrics.values():
        assert metrics.keys() == {"loss", "generator_loss", "real_right", "fake_right"}
        assert 0 <= metrics["real_right"] <= 1
    assert step_flops(baseline.experiment) == flops_by_hand(12)


def flops_by_hand(size):
    """Matrix products of a step: of the generator 5 x 7 and 7 x 64, of the discriminator 64 x 12 and 6 x 1."""
    generator, discriminator = 2 * size * (5 * 7 + 7 * 64), 2 * size * (64 * 12 + 6 * 1)
    # Nothing needs a gradient of the noise or, while the discriminator learns, of the samples.
    first_layers = 2 * size * 5 * 7, 2 * size * 64 * 12
    judging = generator + 2 * (3 * discriminator - first_layers[1])
    making = (3 * generator - first_layers[0]) + 2 * discriminator
    return judging + making


def test_what_is_evaluated_is_what_the_networks_say(baseline):
    state, model = baseline.state, baseline.experiment.model
    images = Blobs().load()["test"]["inputs"] / 128.0 - 1.0
    logits = model.apply(state.variables, jnp.float32(images), method="discriminate")
    assert baseline.metrics["test"]["real_right"] == pytest.approx(float((logits > 0).mean()))
    said = baseline.predict(Blobs().load()["test"]["inputs"])
    np.testing.assert_allclose(said["realness"], logits, rtol=1e-5, atol=1e-6)


def test_a_resumed_run_ends_in_the_same_bits(baseline, tmp_path, monkeypatch):
    from neuralmon.training.loop import Loop

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_evaluate", lambda *_: (_ for _ in ()).throw(RuntimeError("the power fails")))
        with pytest.raises(RuntimeError, match="power"):
            nm.train(experiment(evaluate_every=5, checkpoint_every=4), tmp_path / "run")
    resumed = nm.train(experiment(evaluate_every=5, checkpoint_every=4), tmp_path / "run")
    assert resumed.state.optimizer_state.keys() == {"generator", "discriminator"}
    assert bits(resumed.state) == bits(baseline.state)


@pytest.mark.slow
def test_the_average_makes_the_samples():
    plain, run = trained(), trained(optimizer=Adam(learning_rate=1e-3, b1=0.5, ema_decay=0.5))
    assert bits(run.state.params) == bits(plain.state.params)
    assert bits(run.state.variables["params"]) != bits(plain.state.params)
    assert run.metrics["test"]["generator_loss"] != plain.metrics["test"]["generator_loss"]
    pictures = run.experiment.task._grid(run.trained, 4, 0)[1]
    noise = run.experiment.task.draw(jax.random.key(0), run.experiment.model, 4)
    expected = run.experiment.model.apply({"params": run.state.average}, noise, method="generate")
    np.testing.assert_allclose(pictures, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["discriminator", "generator"])
def test_frozen_networks_stand_still(baseline, frozen):
    start = compiled(baseline.experiment)[0].init(compiled(baseline.experiment)[1]).params
    run = trained(optimizer=Adam(learning_rate=1e-3, frozen=(frozen,)))
    for name in ("generator", "discriminator"):
        assert (bits(run.state.params[name]) == bits(start[name])) == (name == frozen)


@pytest.mark.slow
def test_rates_of_layers_count_for_both_networks():
    rates = (LayerRate("discriminator/output", 0.0), LayerRate("generator/output", 0.0))
    task = Adversarial(discriminator_optimizer=SGD(learning_rate=0.1))
    run = trained(task=task, optimizer=SGD(learning_rate=0.1, layer_rates=rates))
    program, numbers, _ = compiled(run.experiment)
    start = program.init(numbers).params
    for name in ("generator", "discriminator"):
        assert bits(run.state.params[name]["output"]) == bits(start[name]["output"])
        assert bits(run.state.params[name]["hidden_0"]) != bits(start[name]["hidden_0"])


@pytest.mark.slow
def test_numbers_of_the_game_are_arguments():
    runs = []
    for weight, rate in ((1.0, 1e-3), (5.0, 1e-3), (1.0, 1e-2)):
        task = Adversarial(penalty=R1Penalty(weight), discriminator_optimizer=Adam(learning_rate=rate))
        runs.append(trained(task=task))
    programs = {id(compiled(run.experiment)[0]) for run in runs}
    assert len(programs) == 1
    assert len({bits(run.state.params) for run in runs}) == 3
    assert all(run.history[0]["penalty"] > 0 for run in runs)


@pytest.mark.parametrize(
    "penalty", [pytest.param(R1Penalty(2.0), marks=pytest.mark.slow), GradientPenalty(2.0)], ids=["R1", "gradient"]
)
def test_a_penalty_is_part_of_the_discriminators_loss(penalty):
    """For a linear discriminator, f(x) = w x + b, both penalties are functions of |w| alone."""
    model = nm.models.GAN(
        nm.models.MLPGenerator((3,), latent_dim=2, hidden=()), nm.models.MLPDiscriminator(hidden=(), pieces=())
    )
    params = model.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
    batch = {"inputs": jnp.ones((4, 3)), "targets": jnp.zeros(4), "weights": jnp.ones(4)}
    moved = []
    for one in (None, penalty):
        update = Adversarial(game=wasserstein, penalty=one).update(model, SGD(learning_rate=0.1), 10)
        moved.append(jax.jit(update.apply)(params, {}, update.init(params), jax.random.key(1), batch)[0])
    w = np.float64(params["discriminator"]["output"]["kernel"])
    length = np.linalg.norm(w)
    slope = 2 * w if isinstance(penalty, R1Penalty) else 2 * 2 * (length - 1) * w / length
    difference = np.subtract(*(one["discriminator"]["output"]["kernel"] for one in moved))
    np.testing.assert_allclose(difference, 0.1 * slope, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_classes_reach_both_networks():
    model = mlps(conditional=True)
    run = trained(task=Adversarial(discriminator_steps=2), model=model)
    params = run.state.params
    program, numbers, _ = compiled(run.experiment)
    start = program.init(numbers).params
    for name, layer in (("generator", "labels"), ("discriminator", "labels")):
        assert params[name][layer]["kernel"].shape[0] == 6
        assert bits(params[name][layer]) != bits(start[name][layer])
    shown, made = run.experiment.task._grid(run.trained, 2, 0)
    assert shown["images"].shape == (6, 2, 8, 8, 1)
    assert shown["row_names"] == list("abcdef")
    noise = run.experiment.task.draw(jax.random.key(0), run.experiment.model, 12)
    inputs = {"noise": noise[7:8], "labels": jnp.array([1])}
    (expected,) = run.experiment.model.apply(run.state.variables, inputs, method="generate")
    np.testing.assert_allclose(made[7], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(shown["images"][1, 1], np.clip((expected + 1) / (255 / 128), 0, 1), atol=1e-5)


@pytest.mark.slow
def test_batch_normalisation_never_mixes_real_and_generated():
    """After one step each running mean has seen three batches of its own: real, generated, generated again."""
    model = nm.models.GAN(
        nm.models.DCGANGenerator((8, 8, 1), latent_dim=5, features=(4, 3)),
        nm.models.DCGANDiscriminator(features=(3, 4)),
    )
    task = Recording()
    update = task.update(model, SGD(learning_rate=0.0), 1)
    variables = dict(model.init(jax.random.key(0), jnp.zeros((1, 5))))
    params = variables.pop("params")
    real = jnp.float32(RANDOM.normal(size=(6, 8, 8, 1)))
    batch = {"inputs": real, "targets": jnp.zeros(6), "weights": jnp.ones(6)}
    with jax.disable_jit(), nm.ops.reference():
        _, state, _, _ = update.apply(params, variables, update.init(params), jax.random.key(1), batch)
    options = {"train": True, "mutable": ["batch_stats"]}
    for made_of, first in zip(task.drawn, (True, False), strict=True):
        shown, changed = model.apply({"params": params, **variables}, made_of, method="generate", **options)
        variables = dict(changed)
        for images in (real, shown) if first else (shown,):
            _, changed = model.apply({"params": params, **variables}, images, method="discriminate", **options)
            variables = dict(changed)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), state, variables)


@pytest.mark.parametrize(
    ("game", "logits", "real_right", "fake_right"),
    [
        (minimax, (1.0, -1.0), 0.5, 0.5),
        (hinge, (0.2, 0.1), 1.0, 0.0),
        (wasserstein, (-1.0, -2.0), 0.0, 1.0),
        (least_squares, (0.6, 0.4), 0.5, 0.5),
    ],
)
def test_what_is_taken_for_real(game, logits, real_right, fake_right):
    task, batch = Adversarial(game=game), {"weights": jnp.ones(2)}
    said = task.report(task.metrics({"real": jnp.array(logits), "fake": jnp.array(logits)}, batch), None)
    assert (said["real_right"], said["fake_right"]) == (real_right, fake_right)
    costs = np.asarray(game.real(jnp.array(logits)) + game.fake(jnp.array(logits)))
    assert said["loss"] == pytest.approx(costs.mean())


NORMALISED = nm.models.GAN(
    nm.models.DCGANGenerator((8, 8, 1), latent_dim=5, features=(4,)), nm.models.DCGANDiscriminator(features=(4, 4))
)
REFUSED = {
    "training.micro_batches: Adversarial has an update of its own, which takes a batch whole": {"micro_batches": 2},
    "task.discriminator_steps: a batch of 12 cannot be cut into 5 parts": {"task": Adversarial(discriminator_steps=5)},
    "task.penalty: a logit has to depend on its own sample alone": {
        "task": Adversarial(penalty=R1Penalty()), "model": NORMALISED,
    },
    "task.discriminator_optimizer have no effect: give them to optimizer": {
        "task": Adversarial(discriminator_optimizer=SGD(frozen=("generator",))),
    },
    "model: Adversarial trains a nm.models.GAN(generator, discriminator), not a MLP": {"model": nm.models.MLP()},
    "model: give conditional=True to both networks, or to neither": {
        "model": nm.models.GAN(mlps(conditional=True).generator, mlps().discriminator),
    },
    "model.generator.sample_shape: (4, 4, 1) are not the data's samples": {"model": mlps((4, 4, 1))},
    "training.monitor: there is no metric 'frechet_distance'": {"patience": 2},
}  # fmt: skip


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_said(message):
    with pytest.raises(nm.RequestError, match=re.escape(message)):
        trained(**REFUSED[message])


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_explained():
    """As --debug_nans does it: the layer by name where a network overflows, else the parameter that the step spoils."""
    unfit = experiment().resolve()
    program, numbers, _ = compiled(unfit)
    state = program.init(numbers)
    rows = {name: column[:12] for name, column in Blobs().load()["train"].items()}
    batch = {**rows, "weights": np.ones(12, np.float32)}
    assert "all of it was finite" in hunt(unfit, state, batch)
    huge = jax.tree.map(lambda leaf: leaf * 1e30, state.params["discriminator"])
    text = hunt(unfit, dataclasses.replace(state, params={**state.params, "discriminator": huge}), batch)
    assert "the output of 'discriminator" in text
    steep = experiment(optimizer=SGD(learning_rate=1e38, clip_norm=None), task=Adversarial(game=wasserstein)).resolve()
    state = compiled(steep)[0].init(compiled(steep)[1])
    assert "before the update" in hunt(steep, state, batch)
