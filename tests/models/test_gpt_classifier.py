"""GPT with a head: which place is read, what comes from a language model's run, the auxiliary loss, a step's gain."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuralmon as nm

SIZES = {"vocab_size": 9, "context_length": 6, "num_layers": 2, "num_heads": 2, "width": 8}
RNG = np.random.default_rng(0)
TOKENS, LENGTHS = RNG.integers(1, 9, (3, 6)).astype(np.int32), np.array([6, 2, 4])
INPUTS = {"sequence": TOKENS, "lengths": LENGTHS}
MODEL = nm.models.GPTClassifier(num_classes=3, next_tokens=True, **SIZES)
VARIABLES = jax.tree.map(
    lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), jax.eval_shape(MODEL.init, jax.random.key(0), INPUTS)
)


def test_the_last_token_is_classified_and_tokens_are_those_of_a_gpt():
    outputs = jax.jit(MODEL.apply)(VARIABLES, INPUTS)
    params = dict(VARIABLES["params"])
    params.pop("output")
    language_model = nm.models.GPT(**SIZES)
    np.testing.assert_allclose(outputs["tokens"], language_model.apply({"params": params}, TOKENS), atol=1e-5)
    plain = jax.jit(MODEL.clone(next_tokens=False).apply)
    np.testing.assert_allclose(plain(VARIABLES, INPUTS), outputs["classes"], atol=1e-5)
    other = np.where(np.arange(6) < LENGTHS[:, None], TOKENS, 3)
    np.testing.assert_allclose(plain(VARIABLES, {**INPUTS, "sequence": other}), outputs["classes"], atol=1e-5)
    with pytest.raises(ValueError, match="num_classes=None"):
        jax.eval_shape(nm.models.GPTClassifier(**SIZES).init, jax.random.key(0), INPUTS)


def test_the_auxiliary_loss_is_the_mean_over_a_texts_own_tokens():
    outputs = jax.jit(MODEL.apply)(VARIABLES, INPUTS)
    targets, weights = np.array([0, 2, 1]), np.array([1.0, 0.0, 2.0], np.float32)
    batch = {"inputs": INPUTS, "targets": targets, "weights": weights}
    task = nm.tasks.FineTuning(language_weight=0.5)
    (total, count), _ = task.loss(outputs, batch)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    expected = 0.0
    for row, length in enumerate(LENGTHS):
        tokens = cross_entropy(outputs["tokens"][row, : length - 1], TOKENS[row, 1:length]).mean()
        expected += weights[row] * (cross_entropy(outputs["classes"][row], targets[row]) + 0.5 * tokens)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert count == 3
    spec = nm.data.Spec({"targets": jax.ShapeDtypeStruct((), np.int32)}, {"train": 3}, tuple("abc"), vocab_size=9)
    report = task.report(jax.device_get(task.metrics(outputs, batch)), spec)
    np.testing.assert_allclose(report["loss"], expected / 3, rtol=1e-5)
    assert {"accuracy", "confusion", "language_loss"} <= report.keys()
    assert task.check(jax.eval_shape(lambda: outputs), spec) is None
    assert "next_tokens=True" in task.check(outputs["classes"], spec)
    assert "made of tokens" in task.check(outputs, dataclasses.replace(spec, vocab_size=8))


def test_it_begins_with_the_parameters_of_a_language_model(tmp_path):
    """All but the head, and the rows of tokens that were added behind the vocabulary."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log\n" * 20)
    language = nm.Experiment(
        dataset=nm.data.TextFile(path=str(text), tokenizer=nm.data.Words(min_count=1), context_length=8),
        model=nm.models.GPT(context_length=8, num_layers=1, num_heads=2, width=8),
        task=nm.tasks.LanguageModel(),
        optimizer=nm.optim.Adam(learning_rate=0.01),
        training=nm.Training(batch_size=4, steps=2),
    )
    first = nm.train(language, tmp_path / "language", figures=False)
    table = tmp_path / "table.csv"
    table.write_text("text,label\n" + "the cat sat,x\nthe dog on the log,y\n" * 10)
    classifier = nm.models.GPTClassifier(context_length=12, num_layers=1, num_heads=2, width=8)
    experiment = nm.Experiment(
        dataset=nm.data.TextCsv(path=str(table), length=12, vocabulary_of=str(tmp_path / "language")),
        model=classifier,
        task=nm.tasks.Classification(),
        optimizer=nm.optim.SGD(learning_rate=1e-9, frozen=("layers",)),
        training=nm.Training(batch_size=4, steps=1),
    )
    second = nm.train(experiment, None, init_from=str(tmp_path / "language"))
    before, after = jax.device_get((first.state.params, second.state.params))
    jax.tree.map(np.testing.assert_array_equal, after["layers"], before["layers"])
    rows = len(before["token_embedding"]["embedding"])
    assert len(after["token_embedding"]["embedding"]) == rows + 3
    for name, kept in (("token_embedding", rows), ("position_embedding", 8)):
        np.testing.assert_allclose(after[name]["embedding"][:kept], before[name]["embedding"], atol=1e-6)
        assert np.abs(after[name]["embedding"][kept:]).min(axis=-1).max() > 0
    assert "output" in after and jnp.abs(after["output"]["kernel"]).max() > 0
