"""Sequence to sequence: what counts in the loss, what the model writes on its own, and what is said of it."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
from scipy.special import log_softmax

import neuralmon as nm
from neuralmon.errors import RequestError
from neuralmon.layers import KeyValueCache
from neuralmon.sampling import SampleRequest
from neuralmon.tasks import SequenceToSequence, Trained
from neuralmon.tasks.translating import attention_figure, bleu, looking_figure, read_sources, write

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 4, 5)).astype(np.float32)
TARGETS = np.array([[3, 4, 2, 0], [2, 0, 0, 0], [4, 4, 4, 2]], np.int32)
BATCH = {"targets": TARGETS, "weights": np.array([1, 1, 0], np.float32)}
SPEC = nm.data.Spec({"targets": jax.ShapeDtypeStruct((4,), np.int32)}, {"train": 3}, vocab_size=5)


def test_real_tokens_count_once_and_smoothing_is_not_in_the_perplexity():
    task = SequenceToSequence(label_smoothing=0.2)
    report = task.report(jax.device_get(task.metrics(LOGITS, BATCH)), SPEC)
    log_probability = log_softmax(LOGITS.astype(np.float64), axis=-1)
    places = [(0, 0), (0, 1), (0, 2), (1, 0)]  # of the third example none
    nats = -np.mean([log_probability[(*place, TARGETS[place])] for place in places])
    smooth = -np.mean([log_probability[place].mean() for place in places])
    assert report["nats"] == pytest.approx(nats, rel=1e-6)
    assert report["perplexity"] == pytest.approx(math.exp(nats), rel=1e-6)
    assert report["loss"] == pytest.approx(0.8 * nats + 0.2 * smooth, rel=1e-6)
    assert report["accuracy"] == np.mean([LOGITS[place].argmax() == TARGETS[place] for place in places])


def test_padding_gives_no_gradient():
    gradient = jax.grad(lambda logits: SequenceToSequence().loss(logits, BATCH)[0][0])(jnp.asarray(LOGITS))
    np.testing.assert_array_equal(
        (np.asarray(gradient) != 0).any(axis=-1), (TARGETS > 0) & (BATCH["weights"] > 0)[:, None]
    )


@pytest.mark.parametrize("shape", [(3, 5), (3, 4, 6), (3, 3, 5)])
def test_outputs_that_do_not_fit_are_refused(shape):
    task = SequenceToSequence()
    assert task.check(jax.ShapeDtypeStruct((3, 4, 5), np.float32), SPEC) is None
    assert "needs outputs of shape (batch, 4, 5)" in task.check(jax.ShapeDtypeStruct(shape, np.float32), SPEC)
    assert "targets of tokens" in task.check(LOGITS, dataclasses.replace(SPEC, vocab_size=None))


class Parrot(nn.Module):
    """Writes the source's tokens one after the other: it has no parameters, and the place is all it has to know."""

    vocab_size: int
    positions: str = "sinusoidal"
    max_length: int = 512

    @nn.nowrap
    def empty_cache(self, batch_size, max_length):
        return (KeyValueCache.empty(batch_size, max_length, 1, 1),)

    def memorize(self, source):
        return jnp.pad(source, ((0, 0), (0, 64))), None

    def decode(self, tokens, memory, mask, cache, train=False):
        token = jnp.take_along_axis(memory, cache[0].lengths[:, None], axis=1)
        cache = tuple(dataclasses.replace(own, lengths=own.lengths + 1) for own in cache)
        return 10.0 * jax.nn.one_hot(token, self.vocab_size), cache


def trained(**fields):
    dataset = nm.data.Copy(train_size=50, held_out_size=70, longest=9, longer=12, letters="abcdef", **fields).resolve()
    model = Parrot(dataset.vocabulary.size)
    return Trained(model, {}, dataset, lambda split, rows: {})


@pytest.mark.parametrize("beam_size", [1, 3])
def test_what_is_written_comes_in_the_order_of_the_sources(beam_size):
    own = trained()
    texts, _ = own.dataset.longer_texts()
    assert len(texts) > 64 and len({len(text) for text in texts}) > 1
    assert write(own, own.dataset.encode_sources(texts), beam_size, 0.6) == texts
    assert write(own, own.dataset.encode_sources(texts[:2]), beam_size, 0.6, max_length=4) == [t[:4] for t in texts[:2]]


def test_a_study_says_what_is_right_and_by_length():
    own = trained()
    found = SequenceToSequence(bleu=False, beam_size=1).study(own, "test")
    assert found.metrics["exact_match"] == 1.0
    table = found.metrics["exact_match_by_length"]
    assert set(table) >= {"10", "11", "12"} and sum(row["texts"] for row in table.values()) == 140
    assert all(row["exact_match"] == 1.0 for row in table.values())
    name, drawn = found.figures["by_length"]
    assert name == "by_length" and drawn["longest_trained"] == 9 and drawn["lengths"][-1] == 12
    lines = found.texts["written_test"].splitlines()
    assert lines[0] == "test: 100.0% of 70 exactly as the target"
    source = own.dataset.texts("test")[0][0]
    assert lines[2:5] == [f"source   {source}", f"target   {source}", f"written  {source}"]
    validation = SequenceToSequence(beam_size=1).study(own, "validation").metrics
    assert set(validation) == {"exact_match", "bleu"}


def test_bleu_is_that_of_the_corpus():
    written = ["the cat sat on the mat today", "a dog"]
    references = ["the cat sat on the mat", "a dog barks loudly"]
    score, signature = bleu(written, references)
    assert score == pytest.approx(sacrebleu.corpus_bleu(written, [references]).score)
    assert 0 < score < 100 and "tok:13a" in signature and "refs:1" in signature


def test_lines_are_translated_one_by_one(tmp_path):
    own, task = trained(), SequenceToSequence()
    assert list(task.sample(own, SampleRequest(input="abc"))) == ["abc\n"]
    path = tmp_path / "lines.txt"
    path.write_text("fed\nab\nc\n")
    assert list(task.sample(own, SampleRequest(input=str(path), beam_size=2))) == ["fed\n", "ab\n", "c\n"]


def test_a_file_is_predicted_line_by_line(tmp_path):
    path = tmp_path / "lines.txt"
    path.write_text("fed\nab\n")
    rows = SequenceToSequence().answers(trained(), str(path))
    assert rows == [{"input": "fed", "written": "fed"}, {"input": "ab", "written": "ab"}]
    with pytest.raises(RequestError, match="--input=fed: there is no such file; --mode=sample takes a text"):
        SequenceToSequence().answers(trained(), "fed")


class Reader(nn.Module):
    """Writes the text whose number the image's first pixel is."""

    texts: tuple[tuple[int, ...], ...]
    vocab_size: int

    @nn.nowrap
    def empty_cache(self, batch_size, max_length):
        return (KeyValueCache.empty(batch_size, max_length, 1, 1),)

    def memorize(self, images):
        return images[:, 0, 0, 0], None

    def decode(self, tokens, memory, mask, cache, train=False):
        number = jnp.round((memory * 0.3081 + 0.1307) * 255).astype(int)
        token = jnp.asarray(self.texts)[number, cache[0].lengths][:, None]
        cache = tuple(dataclasses.replace(own, lengths=own.lengths + 1) for own in cache)
        return 10.0 * jax.nn.one_hot(token, self.vocab_size), cache


def test_of_images_texts_are_written(tmp_path):
    dataset = nm.data.SpeltDigits(max_length=1, train_size=2, validation_size=0, test_size=80).resolve()
    targets = dataset.load()["test"]["targets"]
    own = Trained(Reader(tuple(map(tuple, targets.tolist())), dataset.vocabulary.size), {}, dataset, lambda *_: {})
    images = np.zeros((80, 28, 28, 1), np.uint8)
    images[:, 0, 0, 0] = np.arange(80)
    _, references = dataset.texts("test")
    assert write(own, dataset.encode_sources(images), 1, 0.6) == references
    np.save(tmp_path / "images.npy", images[3:5])
    rows = SequenceToSequence(beam_size=1).answers(own, str(tmp_path / "images.npy"))
    assert [row["written"] for row in rows] == references[3:5]
    found = SequenceToSequence(beam_size=1, bleu=False).study(own, "test")
    first = references[0]  # of real digits, whose first pixel is black
    labels = [first if first == reference else f"{first} ({reference})" for reference in references]
    assert found.figures["written"][1]["labels"] == labels
    assert found.metrics["exact_match"] == np.mean([first == reference for reference in references])
    assert "source" not in found.texts["written_test"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "--input=TEXT_OR_FILE"),
        ({"input": " "}, "--input is empty"),
        ({"input": "none.txt"}, "there is no file none.txt"),
        ({"input": "abc\nabxa"}, r"--input, line 2, column 3: the character 'x' \(U\+0078\) is not known"),
        ({"input": "abc", "temperature": 0.5}, "--temperature means nothing to a model that writes one text from"),
    ],
)
def test_what_cannot_be_translated_is_said(fields, message):
    with pytest.raises(RequestError, match=message):
        list(SequenceToSequence().sample(trained(), SampleRequest(**fields)))


@pytest.mark.slow
def test_a_figure_shows_where_the_last_block_looks_for_each_token():
    own = trained()
    model = nm.models.Transformer(
        vocab_size=own.model.vocab_size, num_layers=2, num_heads=2, width=4, feedforward_dim=4
    )
    inputs = {"source": np.ones((1, 3), int), "target": np.ones((1, 3), int)}
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    variables = jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)
    own = dataclasses.replace(own, model=model, variables=variables)
    _, figure = attention_figure(own, ["ab", "abcdef"], ["", "fed"])
    assert figure["queries"] == [*"fed", "<end>"] and figure["keys"] == [*"abcdef", "<end>"]
    assert figure["weights"].shape == (2, 4, 7)
    np.testing.assert_allclose(figure["weights"].sum(axis=-1), 1, rtol=1e-5)


@pytest.mark.slow
def test_a_figure_shows_where_in_an_image_it_looks_for_each_letter():
    dataset = nm.data.SpeltDigits(max_length=2, train_size=2, validation_size=0, test_size=3).resolve()
    model = nm.models.Captioner(dataset.vocabulary.size, num_layers=2, num_heads=2, width=8, feedforward_dim=8)
    images, _ = dataset.texts("test")
    inputs = {"images": dataset.encode_sources(images[:1]), "target": np.ones((1, 3), int)}
    variables = jax.jit(model.init)(jax.random.key(0), inputs)
    _, figure = looking_figure(Trained(model, variables, dataset, lambda *_: {}), images, ["one", "six two", "nine"])
    assert figure["tokens"] == [*"six two", "<end>"] and figure["weights"].shape == (8, 7, 14)
    np.testing.assert_allclose(figure["weights"].sum(axis=(1, 2)), 1, rtol=1e-5)
    np.testing.assert_array_equal(figure["image"], images[1])


def test_learned_positions_have_an_end():
    own = trained()
    own = dataclasses.replace(own, model=own.model.clone(positions="learned", max_length=6))
    assert write(own, read_sources(own, "abcde")[1], 1, 0.6) == ["abcde"]
    with pytest.raises(RequestError, match="line 1: 7 tokens are more than the 6 places"):
        read_sources(own, "abcdef")
