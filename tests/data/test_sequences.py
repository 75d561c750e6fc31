"""Made-up and cut-out sequences: what they are by definition, and that splits share nothing."""

import re

import jax
import numpy as np
import pytest

from neuralmon.data import AddingProblem, CopyMemory, DigitStrings, Mnist, SequentialMnist, Shift, SpeltDigits
from neuralmon.errors import RequestError

SMALL = {"train_size": 300, "validation_size": 40, "test_size": 60}
GENERATED = (
    AddingProblem(length=12, **SMALL),
    CopyMemory(delay=5, **SMALL),
    DigitStrings(max_length=3, **SMALL),
    AddingProblem(length=2, train_size=5, validation_size=0, test_size=3),
)


@pytest.fixture(scope="module")
def mnist():
    return Mnist().load()


def prepared(dataset, batch):
    batch = {**batch, "weights": np.ones(len(batch["inputs"]), np.float32)}
    return np.asarray(dataset.prepare(jax.random.key(0), batch, False)["inputs"])


@pytest.mark.parametrize("dataset", GENERATED, ids=lambda dataset: f"{type(dataset).__name__} {dataset.train_size}")
def test_generated_data_is_as_the_spec_says_and_a_function_of_its_seed(dataset):
    resolved = dataset.resolve()
    spec, data, again = resolved.spec(), resolved.load(), dataset.resolve().load()
    assert spec.sizes.keys() == data.keys()
    for split, columns in data.items():
        for name, array in columns.items():
            assert (array.shape, array.dtype) == (
                (spec.sizes[split], *spec.features[name].shape),
                spec.features[name].dtype,
            )
            np.testing.assert_array_equal(array, again[split][name])
    if len(data) == 3:
        first = {split: columns["inputs"][:40] for split, columns in data.items()}
        assert not np.array_equal(first["train"], first["validation"])
        assert not np.array_equal(first["train"], first["test"])


def test_what_is_added_is_what_is_marked():
    data = AddingProblem(length=31, **SMALL).resolve().load()
    for columns in data.values():
        values, marks = columns["inputs"][..., 0], columns["inputs"][..., 1]
        assert set(np.unique(marks)) == {0.0, 1.0}
        assert (marks[:, :15].sum(axis=1) == 1).all() and (marks[:, 15:].sum(axis=1) == 1).all()
        np.testing.assert_allclose((values * marks).sum(axis=1), columns["targets"], rtol=1e-6)
        assert values.min() >= 0 and values.max() < 1
    # Each place is drawn: the first and the last step too.
    assert data["train"]["inputs"][..., 1].any(axis=0).all()


def test_what_is_copied_comes_back_after_the_delay():
    train = CopyMemory(delay=7, **SMALL).resolve().load()["train"]
    inputs, targets = train["inputs"], train["targets"]
    assert inputs.shape[1] == 27
    np.testing.assert_array_equal(targets[:, 17:], inputs[:, :10])
    assert (targets[:, :17] == 0).all() and (inputs[:, 16] == 9).all()
    assert (inputs[:, 10:16] == 0).all() and (inputs[:, 17:] == 0).all()
    assert sorted(np.unique(inputs[:, :10])) == list(range(1, 9))
    assert CopyMemory().spec().vocab_size == 10


@pytest.mark.parametrize(("step", "shape"), [("row", (28, 28)), ("pixel", (784, 1))])
@pytest.mark.parametrize("permutation", [None, 3])
def test_sequential_mnist_is_mnist_in_another_order(mnist, step, shape, permutation):
    dataset = SequentialMnist(step=step, permutation=permutation)
    batch = {name: column[:5] for name, column in mnist["test"].items()}
    sequences = prepared(dataset, batch)
    assert sequences.shape == (5, *shape)
    plain = prepared(Mnist(), batch).reshape(5, -1)
    order = dataset.order()
    assert sorted(order) == list(range(784))
    assert (order == np.arange(784)).all() == (permutation is None)
    np.testing.assert_array_equal(sequences.reshape(5, -1), plain[:, order])


def test_sequences_are_augmented_as_images(mnist):
    dataset = SequentialMnist(step="pixel", augment=(Shift(2),)).resolve()
    batch = {**{name: column[:9] for name, column in mnist["train"].items()}, "weights": np.ones(9, np.float32)}
    shifted = dataset.prepare(jax.random.key(1), batch, True)["inputs"]
    assert shifted.shape == (9, 784, 1)
    expected = Mnist(augment=(Shift(2),)).prepare(jax.random.key(1), batch, True)["inputs"]
    np.testing.assert_array_equal(np.asarray(shifted).reshape(9, -1), np.asarray(expected).reshape(9, -1))


def test_strings_are_made_of_the_digits_of_their_split(mnist):
    data = DigitStrings(max_length=3, **SMALL).resolve().load()
    for split, columns in data.items():
        images, targets = columns["inputs"][..., 0], columns["targets"]
        lengths = (targets >= 0).sum(axis=1)
        assert set(lengths) == {1, 2, 3}
        assert (targets == np.where(np.arange(3) < lengths[:, None], targets, -1)).all()
        digits = mnist[split]["inputs"][..., 0]
        for image, target in list(zip(images[lengths == 1], targets[lengths == 1], strict=True))[:4]:
            # The only digit, wherever it lies, is one of this split's and has its label.
            windows = np.lib.stride_tricks.sliding_window_view(image, 28, axis=1).swapaxes(0, 1)
            whole = windows[windows.sum(axis=(1, 2)) == image.sum()]
            found = [np.flatnonzero((digits == window).all(axis=(1, 2))) for window in whole]
            (place,) = {int(index) for rows in found for index in rows}
            assert mnist[split]["targets"][place] == target[0]
    # Neighbours may overlap, but neither is lost: two digits have the pixels of both.
    assert images.any(axis=(0, 1)).sum() > 70


def test_digits_are_spelt_letter_by_letter():
    numbers, words = DigitStrings(max_length=3, **SMALL), SpeltDigits(max_length=3, **SMALL).resolve()
    digits, spelt = numbers.resolve().load()["test"], words.load()["test"]
    np.testing.assert_array_equal(spelt["inputs"], digits["inputs"])
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    expected = [" ".join(names[digit] for digit in row if digit >= 0) for row in digits["targets"]]
    assert [words.vocabulary.decode(row) for row in spelt["targets"]] == expected == words.texts("test")[1]
    batch = words.prepare(None, {**spelt, "weights": np.ones(len(expected))}, False)
    target = np.asarray(batch["inputs"]["target"])
    assert (target[:, 0] == words.vocabulary.begin_id).all()
    np.testing.assert_array_equal(target[:, 1:], spelt["targets"][:, :-1])
    np.testing.assert_allclose(batch["inputs"]["images"], words.encode_sources(spelt["inputs"]), atol=1e-6)
    assert ((spelt["targets"] == words.vocabulary.end_id).sum(axis=1) == 1).all()
    alone = words.prepare(None, {"inputs": spelt["inputs"][:2]}, False)["inputs"]["target"]
    assert alone.tolist() == [[words.vocabulary.begin_id]] * 2


def test_a_problem_too_short_is_refused():
    with pytest.raises(RequestError, match=re.escape("dataset.length: two numbers are added; 1 step has no room")):
        AddingProblem(length=1).resolve()
