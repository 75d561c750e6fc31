"""Sampling as a person sees it: the text comes in whole characters, ends where it should, and errors say what to do."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.data import BytePairVocabulary, Characters, Vocabulary, Words
from neuralmon.errors import RequestError
from neuralmon.sampling import SampleRequest
from neuralmon.tasks import LanguageModel, Trained
from neuralmon.tasks.text_sampling import _Text, sample_text


class Scripted(nn.Module):
    """Always writes the same tokens, whatever it has read."""

    script: tuple[int, ...]
    size: int
    context_length: int = 1000

    def decode(self, tokens, cache, lengths=None):
        place = jnp.minimum(cache, len(self.script) - 1)
        return 99.0 * jax.nn.one_hot(jnp.array(self.script)[place], self.size), cache + 1

    def empty_cache(self, batch_size, max_length=None):
        return jnp.zeros(batch_size, int)

    def unstacked(self, variables, cache):
        return variables, cache


@dataclasses.dataclass(frozen=True)
class Texts:
    vocabulary: Vocabulary
    passage: np.ndarray | None = None

    def spec(self):
        return nm.data.Spec({}, {"test": 1})

    def prepare(self, key, batch, train):
        return {"inputs": jnp.asarray(self.passage)[None]}


LETTERS = Characters().learn(["abcdefgh \n"], ("<end>",))


@pytest.fixture(scope="module")
def bytewise():
    """Every byte is a token, so that most characters are several."""
    from neuralmon.data.text.vocabularies import _byte_of

    tokens = ["<end>", *sorted(_byte_of(), key=_byte_of().get)]
    return BytePairVocabulary(tokens=" ".join(tokens), merges="", special={"<end>": 0})


def ids_of(vocabulary, text):
    if isinstance(vocabulary, BytePairVocabulary):
        return tuple(byte + 1 for byte in text.encode())
    return tuple(vocabulary.encode(text).tolist())


def pieces_of(vocabulary, text, end=False, **request):
    script = ids_of(vocabulary, text) + ((vocabulary.end_id,) if end else ())
    trained = Trained(Scripted(script, vocabulary.size), {}, Texts(vocabulary), lambda *_: {})
    return list(LanguageModel().sample(trained, SampleRequest(**{"length": len(script), **request})))


@pytest.mark.parametrize("end", [False, True])
def test_a_text_comes_in_pieces_behind_its_prompt(end):
    text = "abc def gh" * 5
    pieces = pieces_of(LETTERS, text, end, prompt="ab a")
    assert pieces[0] == "ab a" and "".join(pieces) == "ab a" + text + "\n"
    assert sum(bool(piece) for piece in pieces[1:-1]) == 4  # 16 tokens at a time


def test_words_begin_with_those_of_the_data():
    """Where there is no "<end>" and no new line, a run's own sample would have nothing to begin with."""
    words = Words(min_count=1).learn(["to be or not to be that is"])
    passage = words.encode("to be or not to be")
    read = lambda split, rows: {"inputs": passage[None]}  # noqa: E731
    trained = Trained(Scripted(ids_of(words, "that is"), words.size), {}, Texts(words, passage), read)
    assert sample_text(trained, "test", length=2) == "to be or not to that is\n"


def test_characters_of_several_tokens_are_never_shown_in_parts(bytewise):
    text = "a🐈é猫b" * 9
    written = _Text(bytewise, np.array([1 + ord("x")]), None)
    shown = ""
    for token in ids_of(bytewise, text):
        written.add([token])
        piece = written.fresh()
        assert "\ufffd" not in piece
        shown += piece
    assert shown == text
    # What never becomes a character is shown at the end.
    written.add(ids_of(bytewise, "🐈")[:2])
    assert written.fresh() == "" and written.fresh(last=True) == "\ufffd"


@pytest.mark.parametrize("stop", ["d", "def", "f g", "h" * 3, "abc"])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_a_stop_ends_the_text_before_itself_however_it_is_cut(stop, at_once):
    text = "ab a hh abc def gh hhh a"
    written = _Text(LETTERS, LETTERS.encode("abc d"), stop)  # the prompt does not stop anything
    shown, ids = "", LETTERS.encode(text)
    for start in range(0, len(ids), at_once):
        written.add(ids[start : start + at_once])
        shown += written.fresh()
        assert text[: text.index(stop)].startswith(shown)
        if written.done:
            break
    assert shown + written.fresh(last=True) == text[: text.index(stop)]


def test_a_stop_that_does_not_come_is_not_waited_for_at_the_end():
    assert "".join(pieces_of(LETTERS, "abcd", prompt="a", stop="de")) == "aabcd\n"
    assert "".join(pieces_of(LETTERS, "abcdeabc", prompt="a", stop="de")) == "aabc\n"


def test_several_samples_follow_each_other():
    said = "".join(pieces_of(LETTERS, "abc", prompt="h", num_samples=3))
    assert said == "--- sample 1 ---\nhabc\n\n--- sample 2 ---\nhabc\n\n--- sample 3 ---\nhabc\n"


def test_words_have_their_spaces():
    vocabulary = Words(min_count=1).learn(["to be or not"])
    assert "".join(pieces_of(vocabulary, "be or not", prompt="To")) == "To be or not\n"


def test_without_a_prompt_a_text_begins_at_the_end_of_another_or_on_a_new_line():
    assert "".join(pieces_of(LETTERS, "abc")) == "abc\n"
    assert "".join(pieces_of(Characters().learn(["ab\n"]), "ab")) == "ab\n"
    with pytest.raises(RequestError, match="give a --prompt"):
        pieces_of(Characters().learn(["ab"]), "ab")


@pytest.mark.parametrize(
    ("request_fields", "said"),
    [
        ({"prompt": "abXc"}, "--prompt: line 1, column 3: the character 'X'"),
        ({"prompt": "a", "input": "b"}, "--input means nothing to a language model; it takes --prompt, "),
        ({"prompt": "a", "beam_size": 2}, "--beam_size means nothing to a language model"),
    ],
)
def test_what_cannot_be_written_is_said(request_fields, said):
    with pytest.raises(RequestError) as error:
        pieces_of(LETTERS, "abc", **request_fields)
    assert str(error.value).startswith(said)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (nm.models.MLP(), "MLP cannot write: it has no decode"),
        (nm.models.LSTM(bidirectional=True), "LSTM.bidirectional=True. cannot write"),
    ],
)
def test_models_that_cannot_write_are_named(model, said):
    trained = Trained(model, {}, Texts(LETTERS), lambda *_: {})
    with pytest.raises(RequestError, match=said):
        list(LanguageModel().sample(trained, SampleRequest(prompt="a")))
    assert not LanguageModel().study(trained, "test").texts


def test_a_study_has_a_text_and_of_a_gpt_what_its_heads_attend_to():
    text = "abc def gh abcdefgh\n" * 30
    vocabulary = Characters().learn([text])
    gpt = nm.models.GPT(vocabulary.size, context_length=8, num_layers=3, num_heads=2, width=8)
    lstm = nm.models.LSTM(hidden=(4,), vocab_size=vocabulary.size, num_classes=vocabulary.size, output="all")
    tokens = vocabulary.encode(text)

    @dataclasses.dataclass(frozen=True)
    class Data(Texts):
        def spec(self):
            return nm.data.Spec({}, {"test": 1})

        def prepare(self, key, batch, train):
            return batch

    for model in (gpt, lstm):
        shapes = jax.eval_shape(model.init, jax.random.key(0), tokens[None, :8])
        variables = jax.tree.map(
            lambda leaf: np.random.default_rng(0).normal(size=leaf.shape).astype(np.float32), shapes
        )
        trained = Trained(model, variables, Data(vocabulary), lambda split, rows: {"inputs": tokens[None, :8]})
        found = LanguageModel().study(trained, "test")
        assert found.texts.keys() == {"sample"} and not found.metrics
        if model is gpt:
            name, data = found.figures["attention"]()
            assert name == "attention" and data["weights"].shape == (4, 8, 8)
            np.testing.assert_allclose(data["weights"].sum(axis=-1), 1, rtol=1e-5)
            assert data["keys"] == data["queries"] == list(text[:8])
            assert data["panels"] == [f"block {block}, head {head}" for block in (1, 3) for head in (1, 2)]
        else:
            assert not found.figures
            assert len(found.texts["sample"]()) == 501
