"""Weights of the network of Soares 2017 in Keras' layouts: read, and evaluated on sprites drawn here, by NumPy too."""

import io
import zipfile

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageDraw

import neuralmon as nm
from neuralmon.errors import RequestError
from neuralmon.interop.cnn import from_keras

SHAPE = (64, 64, 3)
# The article's network, with fewer channels.
MODEL = nm.models.pokemon_cnn.clone(features=(3, 4), hidden=5, num_classes=18)


def soares(seed=0, features=(3, 4), hidden=5):
    """The arrays of `model.get_weights()`, by their names in a file of Keras 3."""
    shapes = [(5, 5, 3, features[0]), (5, 5, *features), (13 * 13 * features[1], hidden), (hidden, 18)]
    rng, layers, arrays = np.random.default_rng(seed), ("conv2d", "conv2d_1", "dense", "dense_1"), {}
    for layer, shape in zip(layers, shapes, strict=True):
        arrays[f"layers/{layer}/vars/0"] = rng.normal(size=shape).astype(np.float32) / np.prod(shape[:-1]) ** 0.5
        arrays[f"layers/{layer}/vars/1"] = rng.normal(size=shape[-1:]).astype(np.float32)
    return arrays


def logits_of(arrays, images):
    """Convolution, ReLU and max-pooling twice; then rows, columns and channels in one axis, the channels last."""
    kernels, biases = list(arrays.values())[0::2], list(arrays.values())[1::2]
    x = images.astype(np.float64) / 255
    for kernel, bias in zip(kernels[:2], biases[:2], strict=True):
        x = np.einsum("nhwcij,ijco->nhwo", sliding_window_view(x, (5, 5), axis=(1, 2)), kernel, optimize=True) + bias
        n, height, width, channels = np.maximum(x, 0).shape
        x = np.maximum(x, 0).reshape(n, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))
    x = np.maximum(x.reshape(len(x), -1) @ kernels[2] + biases[2], 0)
    return x @ kernels[3] + biases[3]


def h5(arrays, target):
    h5py = pytest.importorskip("h5py")
    with h5py.File(target, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return target


def keras_file(arrays, path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", "{}")
        file.writestr("model.weights.h5", h5(arrays, io.BytesIO()).getvalue())
    return path


SOURCES = {
    "arrays": lambda arrays, folder: arrays,
    "weights.h5": lambda arrays, folder: h5(arrays, folder / "soares.weights.h5"),
    "keras": lambda arrays, folder: keras_file(arrays, folder / "soares.keras"),
}


@pytest.fixture(scope="module")
def sprites(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sprites")
    rng = np.random.default_rng(0)
    for number in range(1, 33):
        image = Image.new("RGB", (40, 40), "white")
        draw = ImageDraw.Draw(image)
        for _ in range(4):
            left, top = rng.integers(2, 20, 2).tolist()
            draw.ellipse((left, top, left + 14, top + 9), fill=tuple(rng.integers(0, 250, 3).tolist()))
        (folder / "game").mkdir(exist_ok=True)
        image.save(folder / "game" / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize("source", SOURCES)
def test_weights_are_read(source, tmp_path):
    arrays = soares()
    params = from_keras(MODEL, SOURCES[source](arrays, tmp_path), SHAPE)["params"]
    for layer, name in zip(("conv_0", "conv_1", "hidden", "output"), list(arrays)[::2], strict=True):
        np.testing.assert_array_equal(params[layer]["kernel"], arrays[name])
        np.testing.assert_array_equal(params[layer]["bias"], arrays[name[:-1] + "1"])


def test_they_are_evaluated_on_sprites(sprites):
    arrays = soares()
    data = nm.data.Pokemon(path=sprites, split=nm.data.RandomSplit(validation=0, test=0.75))
    experiment = nm.Experiment(
        dataset=data,
        model=MODEL.clone(num_classes=None),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(),
        training=nm.Training(batch_size=8),
    )
    result = nm.Result.of(experiment, from_keras(MODEL, arrays, SHAPE))
    test = result.experiment.dataset.load()["test"]
    assert test["inputs"].shape == (24, *SHAPE)
    logits = logits_of(arrays, test["inputs"])
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = shifted / shifted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(result.predict(test["inputs"])["probabilities"], probabilities, rtol=1e-4, atol=1e-6)
    metrics = result.evaluate("test")
    assert metrics["accuracy"] == np.mean(logits.argmax(axis=1) == test["targets"])
    loss = -np.log(probabilities[np.arange(24), test["targets"]]).mean()
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)


def test_variables_of_another_model_are_refused(sprites):
    data = nm.data.Pokemon(path=sprites)
    experiment = nm.Experiment(dataset=data, model=MODEL, task=nm.tasks.Classification(), optimizer=nm.optim.Adam())
    variables = from_keras(MODEL, soares(), SHAPE)
    wider = from_keras(MODEL.clone(hidden=7), soares(hidden=7), SHAPE)
    with pytest.raises(RequestError, match=r"\['hidden'\]\['bias'\] is \(7,\), in the model \(5,\)"):
        nm.Result.of(experiment, wider)
    del variables["params"]["output"]
    with pytest.raises(RequestError, match=r"2 variables are not those of the model.* is missing"):
        nm.Result.of(experiment, variables)


def test_what_does_not_fit_is_said(tmp_path):
    arrays = soares()
    with pytest.raises(RequestError, match=r"dense"):
        from_keras(MODEL, {name: array for name, array in arrays.items() if "dense/" not in name}, SHAPE)
    with pytest.raises(RequestError, match=r"\(676, 5\)"):
        from_keras(MODEL, arrays, (60, 60, 3))
    other = tmp_path / "other.keras"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("config.json", "{}")
    pytest.importorskip("h5py")
    with pytest.raises(RequestError, match=r"other\.keras is a zip without model\.weights\.h5"):
        from_keras(MODEL, other, SHAPE)
    (tmp_path / "text.h5").write_text("a text")
    with pytest.raises(RequestError, match=r"text\.h5 cannot be read as HDF5"):
        from_keras(MODEL, tmp_path / "text.h5", SHAPE)
