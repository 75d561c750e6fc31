"""GPT with a head: which place is read, what comes from a language model's run, the auxiliary loss, a step's gain."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

import neuralmon as nm

SIZES = {"vocab_size": 9, "context_length": 6, "num_layers": 2, "num_heads": 2, "width": 8}
RNG = np.random.default_rng(0)
TOKENS, LENGTHS = RNG.integers(1, 9, (3, 6)).astype(np.int32), np.array([6, 2, 4])
INPUTS = {"sequence": TOKENS, "lengths": LENGTHS}
MODEL = nm.models.GPTClassifier(num_classes=3, next_tokens=True, **SIZES)
VARIABLES = jax.tree.map(
    lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), jax.eval_shape(MODEL.init, jax.random.key(0), INPUTS)
)
TARGETS, WEIGHTS = np.array([0, 2, 1]), np.array([1.0, 0.0, 2.0], np.float32)
BATCH = {"inputs": INPUTS, "targets": TARGETS, "weights": WEIGHTS}
TASK = nm.tasks.FineTuning(language_weight=0.5)


@pytest.fixture(scope="module")
def said():
    """All that is asked of the models, compiled at once."""
    params = dict(VARIABLES["params"])
    params.pop("output")
    plain = MODEL.clone(next_tokens=False)
    padded_otherwise = {**INPUTS, "sequence": np.where(np.arange(6) < LENGTHS[:, None], TOKENS, 3)}

    @jax.jit
    def run(variables, params):
        outputs = MODEL.apply(variables, INPUTS)
        return {
            "outputs": outputs,
            "language model": nm.models.GPT(**SIZES).apply({"params": params}, TOKENS),
            "plain": plain.apply(variables, INPUTS),
            "padded otherwise": plain.apply(variables, padded_otherwise),
            "loss": TASK.loss(outputs, BATCH)[0],
            "metrics": TASK.metrics(outputs, BATCH),
        }

    return jax.device_get(run(VARIABLES, params))


def test_the_last_token_is_classified_and_tokens_are_those_of_a_gpt(said):
    np.testing.assert_allclose(said["outputs"]["tokens"], said["language model"], atol=1e-5)
    np.testing.assert_allclose(said["plain"], said["outputs"]["classes"], atol=1e-5)
    np.testing.assert_allclose(said["padded otherwise"], said["outputs"]["classes"], atol=1e-5)
    with pytest.raises(ValueError, match="num_classes=None"):
        jax.eval_shape(nm.models.GPTClassifier(**SIZES).init, jax.random.key(0), INPUTS)


def test_the_auxiliary_loss_is_the_mean_over_a_texts_own_tokens(said):
    outputs, (total, count) = said["outputs"], said["loss"]
    expected = 0.0
    for row, length in enumerate(LENGTHS):
        following = log_softmax(np.float64(outputs["tokens"][row]), axis=-1)[
            np.arange(length - 1), TOKENS[row, 1:length]
        ]
        nats = -log_softmax(np.float64(outputs["classes"][row]))[TARGETS[row]]
        expected += WEIGHTS[row] * (nats - 0.5 * following.mean())
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert count == 3
    spec = nm.data.Spec({"targets": jax.ShapeDtypeStruct((), np.int32)}, {"train": 3}, tuple("abc"), vocab_size=9)
    report = TASK.report(said["metrics"], spec)
    np.testing.assert_allclose(report["loss"], expected / 3, rtol=1e-5)
    assert {"accuracy", "confusion", "language_loss"} <= report.keys()
    assert TASK.check(jax.eval_shape(lambda: outputs), spec) is None
    assert "next_tokens=True" in TASK.check(outputs["classes"], spec)
    assert "made of tokens" in TASK.check(outputs, dataclasses.replace(spec, vocab_size=8))


@pytest.mark.slow
def test_it_begins_with_the_parameters_of_a_language_model(tmp_path):
    """All but the head, and the rows of tokens that were added behind the vocabulary."""
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log\n" * 20)
    language = nm.Experiment(
        dataset=nm.data.TextFile(path=str(text), tokenizer=nm.data.Words(min_count=1), context_length=8),
        model=nm.models.GPT(context_length=8, num_layers=1, num_heads=2, width=8),
        task=nm.tasks.LanguageModel(),
        optimizer=nm.optim.Adam(learning_rate=0.01),
        training=nm.Training(batch_size=4, steps=1),
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
    assert "output" in after and np.abs(after["output"]["kernel"]).max() > 0
