"""Figures that are drawn of two runs: a word's vectors in several sentences, and decision regions."""

import types
from typing import Any

import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.reports.contexts import contexts
from neuralmon.reports.regions import regions
from neuralmon.tasks import Trained

SENTENCES = ("a light day it is", "a light feather", "no dark, no Light and lighter light")


@pytest.fixture(scope="module")
def pair() -> tuple[Trained, Trained]:
    """A skip-gram and a GPT that reads characters; neither is trained."""
    words = types.SimpleNamespace(words=("light", "lamp", "stone"))
    static = Trained(None, {"params": {"embedding": np.array([[1, 0], [1, 0.1], [0, 1]])}}, words, lambda *_: {})  # type: ignore[arg-type]
    vocabulary = nm.data.Characters().learn([" ".join(SENTENCES)], ())
    model = nm.models.GPT(vocab_size=vocabulary.size, context_length=16, num_layers=1, num_heads=2, width=8)
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 16), np.int32))
    text: Any = types.SimpleNamespace(vocabulary=vocabulary)
    return static, Trained(model, variables, text, lambda *_: {})


def test_a_word_has_one_vector_and_many(pair: tuple[Trained, Trained]) -> None:
    found = contexts(*pair, "light", SENTENCES)
    assert [text.count("[light]") + text.count("[Light]") for text in found["sentences"]] == [1, 1, 1, 1]
    (name, static), (_, contextual) = found["cosines"].items()
    assert "near lamp, stone" in name and (static == 1).all()
    np.testing.assert_allclose(np.diag(contextual), 1, rtol=1e-9)
    np.testing.assert_allclose(contextual, contextual.T)
    # What is behind the word is not read: the same beginning, the same vector.
    assert contextual[0, 1] == pytest.approx(1)
    assert max(contextual[0, 2], contextual[0, 3], contextual[2, 3]) < 0.9999
    with pytest.raises(nm.RequestError, match="'light' stands in 1 places"):
        contexts(*pair, "light", SENTENCES[:1])
    with pytest.raises(nm.RequestError, match="those of a GPT trained on text"):
        contexts(pair[0], Trained(nm.models.MLP(), {}, pair[1].dataset, lambda *_: {}), "light", SENTENCES)


def test_regions_are_those_of_the_same_points() -> None:
    def run(**fields: Any) -> Any:
        data = nm.data.Moons(size=100, **fields).resolve()
        test = data.load()["test"]

        def predict(points: np.ndarray) -> dict[str, np.ndarray]:
            answer = (points[:, 1] < 0.25).astype(int)
            return {"class": answer, "probabilities": np.eye(2)[answer]}

        trained = types.SimpleNamespace(examples=lambda split: test)
        return types.SimpleNamespace(experiment=types.SimpleNamespace(dataset=data), trained=trained, predict=predict)

    found = regions({"one": run(), "two": run()})
    first, second = found["probabilities"].items()
    right = (found["inputs"][:, 1] < 0.25) == found["targets"]
    assert first[0] == f"one: {right.mean():.1%} of {len(right)} right"
    np.testing.assert_array_equal(first[1], second[1])
    assert found["feature_names"] == ["x", "y"] and found["class_names"] == ("upper", "lower")
    with pytest.raises(nm.RequestError, match="two has other test points than one"):
        regions({"one": run(), "two": run(seed=1)})
