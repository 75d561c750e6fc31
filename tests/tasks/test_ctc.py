"""CTC against its definition, a sum over all paths, and against PyTorch's; edit distances against the textbook's."""

import itertools

import jax
import numpy as np
import pytest

from neuralmon.data import Spec
from neuralmon.tasks import CTC
from neuralmon.tasks.ctc import best_path, edit_distance

RANDOM = np.random.default_rng(0)


def spell(path, blank):
    merged = [key for key, _ in itertools.groupby(path)]
    return [symbol for symbol in merged if symbol != blank]


def levenshtein(a, b):
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i, j in itertools.product(range(1, len(a) + 1), range(1, len(b) + 1)):
        table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
    return table[len(a), len(b)]


def padded(strings, length):
    return np.array([[*string, *[-1] * (length - len(string))] for string in strings], np.int32)


@jax.jit
def losses(logits, targets):
    weights = np.ones(1, np.float32)
    return jax.vmap(lambda o, t: CTC().loss(o[None], {"targets": t[None], "weights": weights})[0][0])(logits, targets)


def test_the_loss_is_that_of_all_paths_that_spell_the_target():
    columns, classes = 5, 2
    strings = [(0,), (1, 1), (0, 1), (1, 0, 1), (0, 0, 0), ()]
    logits = RANDOM.normal(size=(len(strings), columns, classes + 1)).astype(np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    expected = []
    for string, rows in zip(strings, probabilities.astype(np.float64), strict=True):
        paths = itertools.product(range(classes + 1), repeat=columns)
        spelling = [path for path in paths if spell(path, classes) == list(string)]
        expected.append(-np.log(sum(np.prod([rows[t, s] for t, s in enumerate(path)]) for path in spelling)))
    np.testing.assert_allclose(losses(logits, padded(strings, 3)), expected, rtol=1e-5)


def test_the_loss_and_its_gradient_are_torchs():
    torch = pytest.importorskip("torch")
    logits = RANDOM.normal(size=(8, 20, 6)).astype(np.float32)
    lengths = RANDOM.integers(1, 8, 8)
    targets = padded([RANDOM.integers(0, 5, length) for length in lengths], 7)
    given = torch.tensor(logits, requires_grad=True)
    # Its input has the time first; the blank is wherever one says.
    expected = torch.nn.CTCLoss(blank=5, reduction="sum")(
        given.log_softmax(-1).transpose(0, 1),
        torch.tensor(np.maximum(targets, 0)).long(),
        torch.full((8,), 20),
        torch.tensor(lengths),
    )
    expected.backward()
    value, gradient = jax.value_and_grad(lambda x: losses(x, targets).sum())(logits)
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    np.testing.assert_allclose(gradient, given.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_the_best_path_is_read_as_it_is_spelt():
    said = RANDOM.integers(0, 4, (200, 9))
    logits = np.eye(4, dtype=np.float32)[said]
    expected = [spell(path, 3) for path in said]
    np.testing.assert_array_equal(jax.jit(best_path)(logits), padded(expected, 9))


def test_edit_distances_are_levenshteins():
    found = [RANDOM.integers(0, 3, RANDOM.integers(0, 8)) for _ in range(300)]
    wanted = [RANDOM.integers(0, 3, RANDOM.integers(0, 6)) for _ in range(300)]
    distances = jax.jit(edit_distance)(padded(found, 8), padded(wanted, 6))
    assert distances.tolist() == [levenshtein(list(a), list(b)) for a, b in zip(found, wanted, strict=True)]


def test_reports_count_strings_and_characters():
    paths = np.array([[0, 3, 0, 3], [1, 1, 3, 2], [3, 3, 3, 3], [2, 2, 2, 2]])
    batch = {"targets": padded([(0, 0), (1,), (1, 2, 0), (0,)], 3), "weights": np.float32([1, 1, 1, 0])}
    sums = jax.device_get(CTC().metrics(9 * np.eye(4, dtype=np.float32)[paths], batch))
    features = {"targets": jax.ShapeDtypeStruct((3,), np.int32)}
    report = CTC().report(sums, Spec(features, {}, class_names=("a", "b", "c")))
    # Right; one too many of one; three missing of three; padding.
    assert report["exact"] == pytest.approx(1 / 3)
    assert report["character_error_rate"] == pytest.approx((0 + 1 + 3) / (2 + 1 + 3))
    assert np.isfinite(report["loss"])


def test_predictions_are_strings_and_how_sure_the_path_is():
    logits = np.log(np.float32([[[0.7, 0.2, 0.1], [0.1, 0.1, 0.8], [0.3, 0.6, 0.1]]]))
    said = CTC().predict(logits, Spec({}, {}, class_names=("x", "y")))
    assert said["string"].tolist() == [[0, 1, -1]]
    assert float(said["probability"][0]) == pytest.approx(0.7 * 0.8 * 0.6, rel=1e-5)
