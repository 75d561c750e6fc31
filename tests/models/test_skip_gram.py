"""Skip-gram, its loss, and what is near in the space of its words."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.errors import RequestError
from neuralmon.models import SkipGram
from neuralmon.tasks import NegativeSampling
from neuralmon.tasks.word_vectors import WordVectors

INPUTS = {"center": np.array([2, 0], np.int32), "contexts": np.array([[1, 3, 3], [0, 2, 1]], np.int32)}


def test_a_new_model_says_nothing_yet():
    model = SkipGram(vocab_size=5, embedding_dim=4)
    logits, variables = jax.jit(model.init_with_output)(jax.random.key(0), INPUTS)
    shapes = {name: leaf.shape for name, leaf in variables["params"].items()}
    assert shapes == {"embedding": (5, 4), "context_embedding": (5, 4)}
    np.testing.assert_array_equal(logits, np.zeros((2, 3)))
    (loss, count), _ = NegativeSampling().loss(logits, {"weights": jnp.ones(2)})
    assert loss / count == pytest.approx(3 * np.log(2))


def test_only_the_rows_of_a_batch_have_gradients():
    model, rng = SkipGram(vocab_size=5, embedding_dim=4), np.random.default_rng(0)
    params = {name: rng.normal(size=(5, 4)).astype(np.float32) for name in ("embedding", "context_embedding")}

    @jax.jit
    def gradients(params):
        def loss(params):
            logits = model.apply({"params": params}, INPUTS)
            return NegativeSampling().loss(logits, {"weights": jnp.array([1.0, 0.0])})[0][0]

        return jax.grad(loss)(params)

    moved = {name: np.flatnonzero(np.abs(rows).sum(axis=1)).tolist() for name, rows in gradients(params).items()}
    assert moved == {"embedding": [2], "context_embedding": [1, 3]}


def test_the_loss_is_eq_4_of_the_paper_and_accuracy_counts_true_contexts_on_top():
    logits = np.array([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0], [1.0, 1.0, 0.0]], np.float32)
    signed = logits * [1, -1, -1]
    expected = -np.log(1 / (1 + np.exp(-signed))).sum(axis=1)
    weights = np.array([1.0, 2.0, 1.0], np.float32)
    task = NegativeSampling()
    report = task.report(jax.tree.map(np.asarray, task.metrics(logits, {"weights": weights})), None)
    assert report["loss"] == pytest.approx((expected * weights).sum() / 4)
    assert report["accuracy"] == pytest.approx(1 / 4)  # a tie is not on top
    assert np.isfinite(task.loss(1e4 * logits, {"weights": weights})[0][0])


@pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2, 2)])
def test_outputs_of_another_shape_are_refused(shape):
    assert "batch, 2 or more" in NegativeSampling().check(jax.ShapeDtypeStruct(shape, np.float32), None)


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (SkipGram(), INPUTS, "vocab_size=None"),
        (SkipGram(5), {**INPUTS, "center": INPUTS["center"][:1]}, r"not center \(1,\) and contexts \(2, 3\)"),
    ],
    ids=["vocabulary", "batch"],
)
def test_what_does_not_fit_is_said(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), inputs)


def plane(degrees):
    return 3 * np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)


def test_nearest_words_are_those_in_the_same_direction():
    vectors = WordVectors(("up", "steep", "flat", "down"), plane([90, 70, 0, 270]) * [[1], [9], [1], [1]])
    assert [word for word, _ in vectors.nearest("up", 2)] == ["steep", "flat"]
    assert vectors.nearest("up")[0][1] == pytest.approx(np.cos(np.radians(20)))
    assert len(vectors.nearest("up")) == 3
    assert vectors.similarity("up", "down") == pytest.approx(-1)
    with pytest.raises(RequestError, match=r"'stepp' is not among the 4 words \(did you mean steep\?\)"):
        vectors.nearest("stepp")


def test_an_analogy_is_a_parallelogram_of_unit_vectors():
    rng = np.random.default_rng(0)
    king, man, she = rng.normal(size=(3, 50))
    others = rng.normal(size=(20, 50))
    queen = king / np.linalg.norm(king) - man / np.linalg.norm(man) + she / np.linalg.norm(she)
    words = ("king", "man", "woman", "queen", *(f"word{i}" for i in range(20)))
    vectors = WordVectors(words, np.stack([5 * king, man, 2 * she, 0.1 * queen, *others]))
    (best, cosine), *rest = vectors.analogy("man", "king", "woman", 5)
    assert (best, cosine) == ("queen", pytest.approx(1))
    assert not {"man", "king", "woman"} & {word for word, _ in rest}


@pytest.mark.slow
def test_a_run_learns_and_has_word_vectors(tmp_path):
    """Trained for a moment on the most frequent words."""
    dataset = nm.data.ShakespeareWords(min_count=1_000, subsample=1e-5, window=2)
    experiment = nm.Experiment(
        dataset=dataset,
        model=SkipGram(embedding_dim=8),  # the data says how many words
        task=NegativeSampling(),
        optimizer=nm.optim.SGD(learning_rate=20.0),
        training=nm.Training(batch_size=512, steps=60, steps_per_chunk=20, evaluate_every=60),
    )
    result = nm.train(experiment, tmp_path / "run")
    # Where nothing is known yet it is 6 log 2.
    assert result.metrics["validation"]["loss"] < 6 * np.log(2) - 0.3
    vectors = WordVectors.of(nm.load_run(tmp_path / "run").trained)
    assert vectors.words == dataset.words
    np.testing.assert_array_equal(vectors.vectors, result.state.params["embedding"])
    assert len(vectors.nearest("thou", 3)) == 3


def test_only_runs_of_word_vectors_have_them():
    def run(dataset, **params):
        return types.SimpleNamespace(dataset=dataset, variables={"params": params})

    words = types.SimpleNamespace(words=("a", "b"))
    assert WordVectors.of(run(words, embedding=np.eye(2))).nearest("a") == [("b", 0.0)]
    with pytest.raises(RequestError, match="the model has 3 vectors and its data 2 words"):
        WordVectors.of(run(words, embedding=np.eye(3)))
    for other in (run(words, output=np.eye(2)), run(nm.data.Mnist(), embedding=np.eye(2))):
        with pytest.raises(RequestError, match="need a run of a SkipGram on a dataset of words"):
            WordVectors.of(other)
