"""What is measured of samples, and how they are shown."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image
from tiny import Blobs

import neuralmon as nm
from neuralmon.sampling import SampleRequest
from neuralmon.tasks import Adversarial, digits, samples
from neuralmon.tasks.frechet import frechet_distance

RANDOM = np.random.default_rng(0)


def test_the_distance_is_that_of_normal_distributions():
    linalg = pytest.importorskip("scipy.linalg")
    one = RANDOM.normal(size=(50, 6)) @ RANDOM.normal(size=(6, 6))
    other = RANDOM.normal(size=(70, 6)) @ RANDOM.normal(size=(6, 6)) + 1.0
    covariances = [np.cov(cloud.T) for cloud in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = np.square(one.mean(axis=0) - other.mean(axis=0)).sum() + np.trace(sum(covariances) - 2 * root)
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-9)


def test_the_distance_of_clouds_that_are_moved_or_flat():
    cloud = RANDOM.normal(size=(40, 5)) * [1, 2, 3, 0, 0]  # fewer directions than features
    assert frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(cloud, cloud + np.array([0, 3, 0, 4, 0])) == pytest.approx(25)
    assert frechet_distance(cloud, 3 * (cloud - cloud.mean(axis=0)) + cloud.mean(axis=0)) == pytest.approx(
        4 * cloud.var(axis=0, ddof=1).sum()
    )
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]])) == pytest.approx(2)
    with pytest.raises(ValueError, match="two points or more"):
        frechet_distance(cloud, cloud[:1])
    with pytest.raises(ValueError, match=r"\(40, 5\) and \(40, 4\)"):
        frechet_distance(cloud, cloud[:, :4])


@pytest.fixture(scope="module")
def seen():
    test = nm.data.Mnist().load()["test"]
    return test, digits.look(test["inputs"][:1500] / 255)


def test_the_network_reads_digits(seen):
    test, (features, taken_for) = seen
    assert (taken_for == test["targets"][:1500]).mean() >= 0.98
    assert features.shape == (1500, 64)
    assert features.min() == 0 < features.max()


def test_only_the_network_itself_is_written(tmp_path):
    params = digits._variables()["params"]
    digits.write(params, str(tmp_path / "same.npz"))
    with np.load(tmp_path / "same.npz") as arrays:
        np.testing.assert_array_equal(arrays["hidden/kernel"], params["hidden"]["kernel"])
    with pytest.raises(ValueError, match="another network"):
        digits.write({"output": params["output"]}, str(tmp_path / "other.npz"))


def trained_on(dataset, generator):
    model = nm.models.GAN(
        generator, nm.models.MLPDiscriminator(hidden=(), pieces=(), conditional=generator.conditional, num_classes=10)
    )
    noise = np.zeros((1, generator.latent_dim), np.float32)
    inputs = {"noise": noise, "labels": np.zeros(1, np.int32)} if generator.conditional else noise
    splits = dataset.load()
    read = lambda split, rows: {name: column[rows] for name, column in splits[split].items()}  # noqa: E731
    return nm.tasks.Trained(model, model.init(jax.random.key(0), inputs), dataset, read)


@dataclasses.dataclass(frozen=True)
class FewDigits(nm.data.Mnist):
    """The first digits only."""

    def examine(self):
        return dataclasses.replace(super().examine(), sizes={"train": 800, "test": 400})

    def read(self):
        sizes = {"train": 800, "test": 400}
        return {n: {k: a[: sizes[n]] for k, a in c.items()} for n, c in super().read().items() if n in sizes}


def test_real_digits_are_as_near_as_real_digits():
    data = FewDigits(pixel_range=(-1, 1))
    trained = trained_on(data, nm.models.MLPGenerator(latent_dim=2, hidden=(), conditional=True, num_classes=10))
    test = data.load()["test"]
    measured = samples.quality(trained, "test", test["inputs"] / 127.5 - 1, test["targets"])
    assert measured["frechet_distance"] == pytest.approx(measured["frechet_distance_of_real"], rel=1e-3)
    assert measured["as_asked"] > 0.98
    shares = np.array([row["samples"] for row in measured["digits"].values()])
    assert measured["largest_deviation"] == pytest.approx(np.abs(shares - 0.1).max() / 0.1)
    assert measured["total_variation"] == pytest.approx(np.abs(shares - 0.1).sum() / 2)
    same = samples.quality(trained, "test", np.repeat(test["inputs"][:1], 400, axis=0) / 127.5 - 1, None)
    assert same["frechet_distance"] > 10 * measured["frechet_distance"]
    assert (same["largest_deviation"], same["total_variation"]) == (pytest.approx(9), pytest.approx(0.9))


def test_other_data_is_only_looked_at():
    found = Adversarial().study(trained_on(Blobs(), nm.models.MLPGenerator((8, 8, 1), latent_dim=2, hidden=())), "test")
    assert found.metrics == {}
    assert "28 x 28 grey digits" in found.texts["quality"]
    assert found.figures["samples"][1]["images"].shape == (8, 8, 8, 8, 1)


def test_a_picture_has_every_sample(tmp_path):
    generator = nm.models.MLPGenerator((8, 8, 1), latent_dim=2, hidden=())
    trained, task = trained_on(Blobs(), generator), Adversarial()
    path = tmp_path / "five.png"
    (said,) = task.sample(trained, SampleRequest(num_samples=5, seed=3, output=str(path)))
    assert said == f"{path}\n"
    assert list(task.sample(trained, SampleRequest(num_samples=5, seed=3, output=f"{path}.npy")))
    made = np.load(f"{path}.npy")
    picture, scale = np.asarray(Image.open(path)), 7
    assert picture.shape == (2 * (8 * scale + 1) - 1, 3 * (8 * scale + 1) - 1)
    shown = picture[57 : 57 + 56 : scale, 57 : 57 + 56 : scale]  # the second row's second
    # Blobs are stored as 0 to 255, and prepared as -1 to 127 / 128.
    np.testing.assert_allclose(shown, np.clip((made[4, ..., 0] + 1) * 128, 0, 255), atol=1)
    assert (picture[57:, 114:] == 255).all(), "there is no sixth"


def test_a_label_asks_for_one_class(tmp_path):
    options = {"latent_dim": 2, "hidden": (3,), "label_features": 3, "conditional": True, "num_classes": 6}
    trained = trained_on(Blobs(), nm.models.MLPGenerator((8, 8, 1), **options))

    def made(output, **fields):
        list(Adversarial().sample(trained, SampleRequest(output=str(tmp_path / output), **fields)))
        return tmp_path / output

    every, first, last = (np.load(made("some.npy", num_samples=1, label=label)) for label in (None, "a", "f"))
    assert [len(samples) for samples in (every, first, last)] == [6, 1, 1]
    assert not np.allclose(first, last), "the same noise, another class"
    assert Image.open(made("five.png", num_samples=5, label="f")).size == (3 * 57 - 1, 2 * 57 - 1)
    inputs = {"noise": Adversarial().draw(jax.random.key(0), trained.model, 1), "labels": np.array([5])}
    np.testing.assert_allclose(last, trained.model.apply(trained.variables, inputs, method="generate"), rtol=1e-5)
    with pytest.raises(nm.RequestError, match="--label=g: the classes are a, b, c, d, e, f"):
        made("some.npy", label="g")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (SampleRequest(), "give --output=FILE.png"),
        (SampleRequest(output="x.jpg"), "--output=x.jpg: give a .png file"),
        (SampleRequest(output="no/such/folder/x.png"), "it cannot be written: No such file"),
        (SampleRequest(output="x.png", label="7"), "--label=7: this generator makes samples without classes"),
        (SampleRequest(output="x.png", temperature=0.5), "--temperature means nothing to a generator of pictures"),
    ],
)
def test_what_cannot_be_written_is_said(request_, message):
    trained = trained_on(Blobs(), nm.models.MLPGenerator((8, 8, 1), latent_dim=2, hidden=()))
    with pytest.raises(nm.RequestError, match=message):
        list(Adversarial().sample(trained, request_))
