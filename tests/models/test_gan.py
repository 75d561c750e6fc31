"""GAN and DCGAN: shapes, counts, statistics, labels. What they compute is compared in tests/parity/test_gan.py."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.models import (
    GAN,
    DCGANDiscriminator,
    DCGANGenerator,
    MLPDiscriminator,
    MLPGenerator,
    conditional_gan_mnist,
    dcgan_28,
    dcgan_32,
    dcgan_64,
    gan_mnist,
)
from neuralmon.tasks import GradientPenalty, non_saturating

KEY = jax.random.key(0, impl="rbg")
MLPS = {"latent_dim": 6, "hidden": (8, 8)}, {"hidden": (6, 6)}
CONVOLUTIONS = {"latent_dim": 6, "features": (6, 4), "sample_shape": (8, 8, 2)}, {"features": (4, 6)}
LABELLED = {"conditional": True, "num_classes": 3}
TINY = {
    "mlp": GAN(MLPGenerator(**MLPS[0]), MLPDiscriminator(**MLPS[1])),
    "dcgan": GAN(DCGANGenerator(**CONVOLUTIONS[0]), DCGANDiscriminator(**CONVOLUTIONS[1])),
    "conditional mlp": GAN(MLPGenerator(**MLPS[0], **LABELLED), MLPDiscriminator(**MLPS[1], **LABELLED)),
    "conditional dcgan": GAN(
        DCGANGenerator(**CONVOLUTIONS[0], **LABELLED), DCGANDiscriminator(**CONVOLUTIONS[1], **LABELLED)
    ),
}
LAYERS = ("conv_0", "conv_1")
slow = pytest.mark.slow
NOISE = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)


def inputs_of(name, labels=(0, 1, 2, 1)):
    return {"noise": NOISE, "labels": np.array(labels)} if "conditional" in name else NOISE


def set_up(name):
    """Returns the network and variables of which none is zero."""
    gan = TINY[name]
    rng = np.random.default_rng(1)

    def draw(leaf):
        return (np.abs if leaf.ndim == 1 else np.asarray)(rng.normal(size=leaf.shape) / 4).astype(np.float32)

    return gan, jax.tree.map(draw, jax.eval_shape(gan.init, jax.random.key(0), inputs_of(name)))


@pytest.mark.parametrize(
    ("gan", "shape"),
    [
        (gan_mnist, (28, 28, 1)),
        (conditional_gan_mnist, (28, 28, 1)),
        (dcgan_64, (64, 64, 3)),
        (dcgan_32, (32, 32, 3)),
        (dcgan_28, (28, 28, 1)),
    ],
)
def test_one_tree_holds_both_networks(gan, shape):
    noise = jax.ShapeDtypeStruct((5, 100), jnp.float32)
    labels = {"labels": jax.ShapeDtypeStruct((5,), jnp.int32)} if gan.generator.conditional else {}
    inputs = {"noise": noise, **labels} if labels else noise
    variables = jax.eval_shape(gan.init, jax.random.key(0), inputs)
    assert variables["params"].keys() == {"generator", "discriminator"}
    samples = jax.eval_shape(lambda *given: gan.apply(*given, method="generate"), variables, inputs)
    assert (samples.shape, samples.dtype) == ((5, *shape), jnp.float32)
    judged = {"images": samples, **labels} if labels else samples
    logits = jax.eval_shape(lambda *given: gan.apply(*given, method="discriminate"), variables, judged)
    assert (logits.shape, logits.dtype) == ((5,), jnp.float32)


@pytest.mark.parametrize("name", ["mlp", "dcgan"])
def test_no_noise_makes_no_samples_and_they_have_no_logits(name):
    gan, variables = set_up(name)
    assert jax.eval_shape(gan.apply, variables, NOISE[:0]).shape == (0,)


def test_the_published_generator_has_the_layers_of_figure_1():
    noise = jax.ShapeDtypeStruct((1, 100), jnp.float32)
    params = jax.eval_shape(dcgan_64.init, jax.random.key(0), noise)["params"]["generator"]
    shapes = {name: layer["kernel"].shape for name, layer in params.items() if "kernel" in layer}
    assert shapes == {
        "project": (100, 4 * 4 * 1024),
        "conv_0": (5, 5, 1024, 512),
        "conv_1": (5, 5, 512, 256),
        "conv_2": (5, 5, 256, 128),
        "conv_3": (5, 5, 128, 3),
    }
    assert [name for name, layer in params.items() if "bias" in layer and "kernel" in layer] == ["conv_3"]


@pytest.mark.parametrize("name", [name if "mlp" in name else pytest.param(name, marks=slow) for name in TINY])
def test_a_call_is_the_discriminator_of_the_generator(name):
    gan, variables = set_up(name)
    inputs = inputs_of(name)

    @jax.jit
    def run(variables):
        samples = gan.apply(variables, inputs, method="generate")
        judged = {"images": samples, "labels": inputs["labels"]} if "conditional" in name else samples
        return samples, gan.apply(variables, judged, method="discriminate"), gan.apply(variables, inputs)

    samples, one, other = run(variables)
    np.testing.assert_array_equal(one, other)
    low = -1 if "dcgan" in name else 0
    assert samples.min() >= low and samples.max() <= 1
    assert samples.std() > 0.05


@pytest.mark.parametrize("name", [pytest.param("conditional mlp", marks=slow), "conditional dcgan"])
def test_labels_decide_and_minus_one_is_no_label(name):
    gan, variables = set_up(name)

    @jax.jit
    def run(labels):
        samples = gan.apply(variables, {"noise": NOISE, "labels": labels}, method="generate")
        images = jnp.full((4, *samples.shape[1:]), 0.1)
        return samples, gan.apply(variables, {"images": images, "labels": labels}, method="discriminate")

    first, other, none = (run(np.array(labels)) for labels in ((0, 1, 2, 1), (1, 1, 0, 1), (-1, -1, -1, -1)))
    for one, two, without in zip(first, other, none, strict=True):
        changed = np.abs(np.asarray(one - two)).reshape(4, -1).max(axis=1) > 1e-6
        np.testing.assert_array_equal(changed, [True, False, True, False])
        assert (np.abs(np.asarray(one - without)).reshape(4, -1).max(axis=1) > 1e-6).all()
    # The same image with the same label has the same logit, whoever else is in the batch.
    np.testing.assert_allclose(first[1][1], first[1][3], rtol=1e-5)


def test_batches_have_their_own_statistics_in_training_only():
    gan, variables = set_up("dcgan")

    @jax.jit
    def run(variables, noise):
        def first(noise, train):
            images, changed = gan.apply(
                variables, noise, train, method="generate", capture_intermediates=True, mutable=True
            )
            return jnp.square(images[0]).sum(), changed

        return [jax.grad(first, has_aux=True)(noise, train) for train in (False, True)]

    (evaluation, _), (training, changed) = run(variables, NOISE)
    # An image depends on the noise of the others only through the batch's statistics.
    np.testing.assert_array_equal(evaluation[1:], 0)
    assert (jnp.abs(training).max(axis=1) > 0).all()
    projected = np.asarray(changed["intermediates"]["generator"]["project"]["__call__"][0]).reshape(-1, 6)
    before = variables["batch_stats"]["generator"]["norm_0"]
    after = changed["batch_stats"]["generator"]["norm_0"]
    np.testing.assert_allclose(after["mean"], 0.9 * before["mean"] + 0.1 * projected.mean(axis=0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(after["var"], 0.9 * before["var"] + 0.1 * projected.var(axis=0), rtol=1e-4)


def test_spectral_normalisation_leaves_the_parameters_where_they_are():
    shapes = []
    for spectral_norm in (False, True):
        discriminator = DCGANDiscriminator(features=(4, 6), spectral_norm=spectral_norm)
        images = jax.ShapeDtypeStruct((2, 8, 8, 2), jnp.float32)
        shapes.append(jax.eval_shape(discriminator.init, jax.random.key(0), images))
    assert shapes[0]["params"] == shapes[1]["params"]
    assert shapes[1]["spectral_norm"].keys() == {"conv_0_spectral", "conv_1_spectral", "output_spectral"}


def test_dropout_acts_in_training_only():
    discriminator = MLPDiscriminator(hidden=(6, 6), input_dropout=0.2, dropout=0.5)
    images = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(discriminator.init, KEY, images)
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)

    @jax.jit
    def run(seed):
        rngs = {"dropout": jax.random.key(seed, impl="rbg")}
        plain = discriminator.clone(input_dropout=None, dropout=None)
        return (
            discriminator.apply(variables, images, True, rngs=rngs),
            discriminator.apply(variables, images, rngs=rngs),
            plain.apply(variables, images, True),
        )

    one, other = run(1), run(2)
    assert (one[0] != other[0]).all()
    for trained, evaluated, plain in (one, other):
        np.testing.assert_array_equal(evaluated, plain)
        assert (trained != plain).all()


@pytest.mark.parametrize("name", [pytest.param("mlp", marks=slow), "dcgan"])
def test_bfloat16_is_close_with_parameters_in_float32(name):
    gan, variables = set_up(name)
    half = GAN(gan.generator.clone(dtype=jnp.bfloat16), gan.discriminator.clone(dtype=jnp.bfloat16))
    initial = jax.eval_shape(half.init, jax.random.key(0), NOISE)
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype(jnp.float32)}
    one, other = jax.jit(lambda: [model.apply(variables, NOISE, method="generate") for model in (half, gan)])()
    assert one.dtype == jnp.float32
    assert (one != other).any()
    assert np.abs(other).max() <= 1 < 5 * np.ptp(other)
    np.testing.assert_allclose(one, other, atol=0.03 * np.abs(other).max())


def test_a_step_with_a_gradient_penalty_lowers_for_every_platform():
    options = {"batch_norm": False, "spectral_norm": True}
    gan = GAN(DCGANGenerator(**CONVOLUTIONS[0]), DCGANDiscriminator(**CONVOLUTIONS[1], **options))
    variables = jax.eval_shape(gan.init, jax.random.key(0), NOISE)
    state = {name: tree for name, tree in variables.items() if name != "params"}

    def step(params, state, noise, real):
        def loss(params):
            given = {"params": params, **state}
            fake, _ = gan.apply(given, noise, True, method="generate", mutable=["batch_stats"])

            def discriminate(images):
                return gan.apply(given, images, True, method="discriminate", mutable=["spectral_norm"])[0]

            penalty = GradientPenalty().penalise(discriminate, real, fake, jax.random.key(0)).mean()
            return penalty + (non_saturating.real(discriminate(real)) + non_saturating.fake(discriminate(fake))).mean()

        return jax.grad(loss)(params)

    real = jax.ShapeDtypeStruct((4, 8, 8, 2), jnp.float32)
    exported = jax.export.export(jax.jit(step), platforms=("cpu", "cuda", "tpu"))(
        variables["params"], state, jax.ShapeDtypeStruct(NOISE.shape, jnp.float32), real
    )
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("size", [(1, 2), (3, 4), (5, 6)])
def test_kernels_of_any_size_double_and_halve(size):
    gan = GAN(
        DCGANGenerator(**CONVOLUTIONS[0], kernel_size=size), DCGANDiscriminator(**CONVOLUTIONS[1], kernel_size=size)
    )

    def run(noise):
        return gan.init_with_output(jax.random.key(0), noise, capture_intermediates=True, mutable=True)[1]

    seen = jax.eval_shape(run, NOISE)["intermediates"]
    outputs = [seen[name][layer]["__call__"][0].shape for name in ("generator", "discriminator") for layer in LAYERS]
    assert outputs == [(4, 4, 4, 4), (4, 8, 8, 2), (4, 4, 4, 4), (4, 2, 2, 6)]


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (MLPGenerator(), np.ones((2, 7)), r"\(batch, 100\), not \(2, 7\)"),
        (DCGANGenerator(), np.ones((2, 7)), r"\(batch, 100\), not \(2, 7\)"),
        (DCGANGenerator(sample_shape=(28, 28, 1)), np.ones((2, 100)), "28 x 28 pixels cannot be halved 4 times"),
        (DCGANDiscriminator(), np.ones((2, 30, 32, 1)), "30 x 32 pixels cannot be halved 4 times"),
        (DCGANDiscriminator(), np.ones((2, 64, 64)), r"\(2, 64, 64\)"),
        (MLPDiscriminator(hidden=(4,)), np.ones((2, 5)), "one number for each layer"),
        (MLPGenerator(conditional=True), {"noise": np.ones((2, 100)), "labels": np.ones(2, int)}, "num_classes"),
        (MLPGenerator(conditional=True, num_classes=3), np.ones((2, 100)), '"noise": .*, not an array'),
        (
            MLPGenerator(conditional=True, num_classes=3),
            {"noise": np.ones((2, 100)), "labels": np.ones((2, 3))},
            r"one label, an integer, for each \(2,\), not labels of float32 \(2, 3\)",
        ),
        (MLPDiscriminator(), {"images": np.ones((2, 5)), "labels": np.ones(2, int)}, "without conditional=True"),
        (
            DCGANDiscriminator(conditional=True, num_classes=3),
            {"noise": np.ones((2, 8, 8, 1)), "labels": np.ones(2, int)},
            r"\"images\": .*, not a dict of \['labels', 'noise'\]",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_fit_is_said(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), inputs)
