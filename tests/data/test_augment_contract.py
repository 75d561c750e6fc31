"""What every augmentation promises, whatever it does."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.data import augment as aug

# How it is made of one strength, and a strength that shows.
CASES = {
    "shift": (lambda s: aug.Shift(s), 3.0),
    "crop": (lambda s: aug.Crop(s, border="zero"), 3.0),
    "crop_reflect": (lambda s: aug.Crop(s, border="reflect"), 3.0),
    "flip": (lambda s: aug.Flip(s), 0.5),
    "flip_vertical": (lambda s: aug.Flip(s, vertical=True), 0.5),
    "resized_crop": (lambda s: aug.RandomResizedCrop(1 - s, 1 - s / 2, 1 / (1 + s), 1 + s), 0.8),
    "rotate": (lambda s: aug.Rotate(s), 40.0),
    "brightness": (lambda s: aug.Colour(brightness=s), 0.5),
    "contrast": (lambda s: aug.Colour(contrast=s), 0.5),
    "saturation": (lambda s: aug.Colour(saturation=s), 0.5),
    "hue": (lambda s: aug.Colour(hue=s), 0.5),
    "colour": (lambda s: aug.Colour(s, s, s, s / 2), 0.5),
    "cutout": (lambda s: aug.Cutout(s, fill=0.5), 3.0),
    "noise": (lambda s: aug.Noise(s), 0.2),
    "mixup": (lambda s: aug.Mixup(s), 1.0),
    "cutmix": (lambda s: aug.CutMix(s), 1.0),
}
every = pytest.mark.parametrize("name", CASES)
KEY = jax.random.key(7)
TRACES = []


@functools.cache
def compiled(name):
    """The augmentation as (strength, key, batch) -> batch."""

    def call(strength, key, batch):
        TRACES.append(name)
        return CASES[name][0](strength)(key, batch)

    # Quick to compile rather than quick to run.
    return jax.jit(call, compiler_options={"xla_backend_optimization_level": 0})


def make_batch(shape=(41, 11, 8, 3)):
    rng = np.random.default_rng(0)
    return {
        "inputs": rng.random(shape, np.float32),
        "targets": rng.integers(0, 10, shape[0]).astype(np.int32),
        "weights": (rng.integers(0, 4, shape[0]) / 2).astype(np.float32),
        "other": np.arange(shape[0]),
    }


@every
def test_strength_zero_changes_nothing_at_all(name):
    batch = make_batch()
    result = compiled(name)(0.0, KEY, batch)
    for feature, values in batch.items():
        np.testing.assert_array_equal(result[feature], values)
    if "second_weights" in result:
        np.testing.assert_array_equal(result["second_weights"], 0)


@every
def test_only_inputs_change_except_in_mixtures(name):
    batch = make_batch()
    result = compiled(name)(CASES[name][1], KEY, batch)
    assert result["inputs"].shape == batch["inputs"].shape and result["inputs"].dtype == jnp.float32
    assert np.isfinite(result["inputs"]).all() and (result["inputs"] != batch["inputs"]).any()
    for feature in ("targets", "other"):
        np.testing.assert_array_equal(result[feature], batch[feature])
    if name not in ("mixup", "cutmix"):
        assert set(result) == set(batch)
        np.testing.assert_array_equal(result["weights"], batch["weights"])
    else:
        assert result["second_targets"].dtype == np.int32 and result["second_targets"].shape == (41,)
        assert result["weights"].dtype == result["second_weights"].dtype == jnp.float32
        total = result["weights"].sum() + result["second_weights"].sum()
        np.testing.assert_allclose(total, batch["weights"].sum(), rtol=1e-6)


@every
def test_the_key_decides(name):
    batch, strength = make_batch(), CASES[name][1]
    first, again, other = (compiled(name)(strength, jax.random.key(seed), batch)["inputs"] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@every
def test_each_example_draws_for_itself(name):
    # Of mixtures each pair: the second half of the batch is black, so that the first shows what was drawn.
    batch = make_batch()
    batch["inputs"] = np.repeat(batch["inputs"][:1], 41, axis=0) * np.float32(np.arange(41) < 20)[:, None, None, None]
    result = np.asarray(compiled(name)(CASES[name][1], KEY, batch)["inputs"])[:20]
    assert len(np.unique(result.reshape(20, -1), axis=0)) >= (2 if "flip" in name else 10)


@every
def test_numbers_may_be_traced_and_compile_once(name):
    batch, strength = make_batch(), CASES[name][1]
    results = [compiled(name)(s, KEY, batch)["inputs"] for s in (0.0, strength / 2, strength)]
    assert TRACES.count(name) == 1
    assert (results[0] != results[1]).any() and (results[1] != results[2]).any()


@pytest.mark.parametrize("name", ["crop_reflect", "rotate", "colour", "cutmix"])
def test_numbers_may_be_mapped(name):
    batch, strengths = make_batch(), np.float32([0, CASES[name][1]])
    mapped = jax.jit(jax.vmap(lambda strength: CASES[name][0](strength)(KEY, batch)["inputs"]))(strengths)
    for result, strength in zip(mapped, strengths, strict=True):
        np.testing.assert_allclose(result, compiled(name)(float(strength), KEY, batch)["inputs"], atol=2e-5)


@every
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_any_kind_and_size(name, channels):
    batch = make_batch((5, 6, 13, channels))
    augmentation = CASES[name][0](CASES[name][1])
    assert jax.eval_shape(lambda: augmentation(KEY, batch)["inputs"]).shape == (5, 6, 13, channels)


ON_IMAGES = [name for name in CASES if name not in ("noise", "mixup")]


@pytest.mark.parametrize("name", ON_IMAGES)
def test_a_table_is_refused_by_what_changes_images(name):
    augmentation = CASES[name][0](1)
    with pytest.raises(nm.errors.RequestError) as error:
        jax.eval_shape(lambda: augmentation(KEY, make_batch((9, 4))))
    for part in (type(augmentation).__name__, "(9, 4)", "(batch, height, width, channels)"):
        assert part in str(error.value)


@pytest.mark.parametrize("augmentation", [aug.Mixup(1.0), aug.Noise(0.5)])
def test_mixup_and_noise_take_any_shape(augmentation):
    for shape in [(6, 4), (6,), (7, 5, 3), (4, 3, 3, 3, 2)]:
        assert jax.eval_shape(lambda batch: augmentation(KEY, batch)["inputs"], make_batch(shape)).shape == shape


@pytest.mark.parametrize(
    ("inputs", "said"),
    [(np.zeros((4, 7), np.int32), "int32 (4, 7)"), ({"image": np.zeros(4), "text": np.zeros(4)}, "image, text")],
)
@pytest.mark.parametrize("augmentation", [aug.Mixup(), aug.Noise(), aug.Rotate()])
def test_tokens_and_several_inputs_are_refused(augmentation, inputs, said):
    with pytest.raises(nm.errors.RequestError) as error:
        augmentation(KEY, {**make_batch((4, 1)), "inputs": inputs})
    assert said in str(error.value) and type(augmentation).__name__ in str(error.value)


def test_augmentations_are_numbers_of_the_program():
    augmentations = (aug.RandomResizedCrop(), aug.Colour(hue=0.1), aug.Cutout(), aug.Flip(vertical=True), aug.CutMix())
    experiment = nm.load_experiment("mlp_mnist")
    experiment = dataclasses.replace(experiment, dataset=nm.data.Mnist(augment=augmentations))
    structure, numbers = nm.experiment.split(experiment)
    numbers = {path: value for path, value in numbers.items() if path.startswith("dataset.augment")}
    assert set(numbers) == {
        *(f"dataset.augment.0.{bound}_{name}" for name in ("scale", "ratio") for bound in ("min", "max")),
        *(f"dataset.augment.1.{name}" for name in ("brightness", "contrast", "saturation", "hue")),
        *("dataset.augment.2.pixels", "dataset.augment.2.fill", "dataset.augment.3.probability"),
        "dataset.augment.4.alpha",
    }
    prepare = lambda numbers: nm.experiment.merge(structure, numbers).dataset.prepare(KEY, batch, True)  # noqa: E731
    batch = make_batch((4, 28, 28, 1))
    prepared = jax.eval_shape(prepare, nm.experiment.split(experiment)[1])
    assert prepared["inputs"].shape == batch["inputs"].shape and prepared["second_weights"].shape == (4,)
