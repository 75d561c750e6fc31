"""Tokenizers: nothing is lost, what is not known is said, and byte pairs are those of the library and of GPT-2."""

import json
import random
import sys

import numpy as np
import pytest

from neuralmon import codec
from neuralmon.data.text import vocabularies
from neuralmon.data.text.tokenizers import BytePair, Characters, Gpt2, Words
from neuralmon.data.text.vocabularies import Vocabulary, pieces
from neuralmon.errors import RequestError
from neuralmon.names import Names

SPECIAL = ("<pad>", "<begin>", "<end>", "<unknown>")
TEXT = (
    "To be, or not to be: that's the question.\nWhether 'tis nobler in the mind to suffer\n\n  The slings é ñ 猫 🐈\n"
    * 20
)


@pytest.fixture(scope="module")
def byte_pairs():
    pytest.importorskip("tokenizers")
    return BytePair(vocab_size=300).learn([TEXT], SPECIAL)


@pytest.fixture
def gpt2_files(tmp_path, byte_pairs):
    """Files as GPT-2's are, with the end of a text as their last token."""
    tokens = [*byte_pairs.tokens.split(" ")[len(SPECIAL) :], "<|endoftext|>"]
    vocab = {token: number for number, token in enumerate(tokens)}
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "two" / "merges.txt").write_text("#version: 0.2\n" + byte_pairs.merges + "\n", encoding="utf-8")
    del vocab["<|endoftext|>"]
    added = [{"id": len(vocab), "content": "<|endoftext|>"}]
    model = {"vocab": vocab, "merges": byte_pairs.merges.split("\n")}
    (tmp_path / "one.json").write_text(json.dumps({"added_tokens": added, "model": model}))
    return tmp_path


def test_characters_are_numbered_in_order_behind_special_tokens():
    vocabulary = Characters().learn(["cab", "ad"], SPECIAL)
    assert (vocabulary.size, vocabulary.encode("abcd").tolist()) == (8, [4, 5, 6, 7])
    ids = vocabulary.pad_id, vocabulary.begin_id, vocabulary.end_id, vocabulary.unknown_id
    assert ids == (0, 1, 2, 3)
    assert vocabulary.encode("axb").tolist() == [4, 3, 5]
    assert vocabulary.decode([1, 4, 3, 5, 2, 0]) == "a\ufffdb"
    assert [vocabulary.label(n) for n in (2, 4)] == ["<end>", "a"]


def test_characters_give_each_text_back():
    vocabulary = Characters().learn([TEXT[:500], TEXT[500:]])
    assert vocabulary.size == len(set(TEXT))
    assert vocabulary.decode(vocabulary.encode(TEXT)) == TEXT
    assert vocabulary.encode("").shape == (0,) and vocabulary.decode([]) == ""


def test_what_is_not_known_is_named_with_its_place():
    with pytest.raises(RequestError) as error:
        Characters().learn(["be to\n"]).encode("be\nto é猫")
    assert str(error.value) == (
        r"line 2, column 4: the character 'é' (U+00E9) is not known; the vocabulary has 6 characters: \n beot"
    )
    with pytest.raises(RequestError, match="line 2, column 5: the word 'too' is not in the vocabulary"):
        Words(min_count=1).learn(["be to"]).encode("To be\n be too to")


def test_words_are_ordered_by_frequency_and_rare_ones_unknown():
    vocabulary = Words(min_count=2).learn(["The cat's hat. the rat", "the hat, the end."], SPECIAL)
    assert vocabulary.words.split(" ") == ["the", ".", "hat"]
    assert vocabulary.decode(vocabulary.encode("THE hat. cat's")) == "the hat . <unknown>"
    assert Words(min_count=1, vocab_size=6).learn(["a b b c c c"], SPECIAL).words == "c b"
    assert Words(min_count=1, lowercase=False).learn(["A a"]).size == 2


@pytest.mark.slow
def test_every_character_of_unicode_goes_through_byte_pairs(byte_pairs):
    everything = "".join(chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    ids = byte_pairs.encode(everything)
    assert byte_pairs.decode(ids) == everything
    assert not set(ids.tolist()) & set(byte_pairs.special.values())


def test_special_tokens_written_in_a_text_are_text(byte_pairs):
    text = "<pad> and <unknown>"
    assert byte_pairs.decode(byte_pairs.encode(text)) == text
    assert byte_pairs.encode(text).min() >= len(SPECIAL)
    assert byte_pairs.decode([1, *byte_pairs.encode("be"), 2, 0]) == "be"


def test_half_a_character_is_shown_as_such(byte_pairs):
    ids = byte_pairs.encode("🐕")
    assert len(ids) > 1 and byte_pairs.decode(ids[:-1]) == "\ufffd"
    assert "".join(byte_pairs.label(token) for token in ids) == r"\xf0\x9f\x90\x95"
    assert byte_pairs.label(byte_pairs.encode("b")[0]) == "b"


def test_byte_pairs_are_those_of_the_library(byte_pairs):
    tokenizers = pytest.importorskip("tokenizers")
    library = tokenizers.ByteLevelBPETokenizer()
    library.train_from_iterator([TEXT], vocab_size=300 - len(SPECIAL), show_progress=False)
    assert byte_pairs.size == 300
    for text in (TEXT, " to be 12 ünknown  words\t\n\n ", "日本", "  "):
        assert (byte_pairs.encode(text) - len(SPECIAL)).tolist() == library.encode(text).ids


def test_cutting_a_long_text_into_pieces_changes_no_token(byte_pairs, monkeypatch):
    draw = random.Random(0)
    text = "".join(draw.choice("to be \n\n  's é\t\u3000\x1c1.") for _ in range(5_000))
    whole = byte_pairs.encode(text)
    monkeypatch.setattr(vocabularies, "_PIECE", 10)
    assert len(list(pieces(text, 10))) > 200 and "".join(pieces(text, 10)) == text
    np.testing.assert_array_equal(byte_pairs.encode(text), whole)


@pytest.mark.parametrize("path", ["two", "one.json"])
def test_gpt2_reads_the_files_it_has(gpt2_files, byte_pairs, path):
    vocabulary = Gpt2(path=str(gpt2_files / path)).learn([], ("<end>",))
    assert vocabulary.end_id == vocabulary.size - 1 == 300 - len(SPECIAL)
    np.testing.assert_array_equal(vocabulary.encode(TEXT), byte_pairs.encode(TEXT) - len(SPECIAL))
    assert vocabulary.decode([*vocabulary.encode(TEXT), vocabulary.end_id]) == TEXT
    padded = Gpt2(path=str(gpt2_files / path)).learn([], ("<pad>", "<end>"))
    assert (padded.end_id, padded.pad_id, padded.size) == (vocabulary.end_id, vocabulary.size, vocabulary.size + 1)


def test_gpt2_equals_hugging_face(gpt2_files):
    transformers = pytest.importorskip("transformers")
    reference = transformers.GPT2TokenizerFast.from_pretrained(str(gpt2_files / "two"))
    vocabulary = Gpt2(path=str(gpt2_files / "two")).learn([], ("<end>",))
    draw = random.Random(1)
    for _ in range(30):
        text = "".join(draw.choice("to be  the's\n\n quéstion猫🐈\t123.,'ll") for _ in range(200))
        assert vocabulary.encode(text).tolist() == reference(text)["input_ids"]
        assert reference.decode(vocabulary.encode(text), clean_up_tokenization_spaces=False) == text
    assert vocabulary.end_id == reference.eos_token_id


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no"),
        ({"other.txt": ""}, "has neither vocab.json and merges.txt nor tokenizer.json"),
        ({"vocab.json": "{", "merges.txt": ""}, "is no vocabulary as GPT-2's is: JSONDecodeError"),
        ({"vocab.json": '{"a": 0}', "merges.txt": ""}, "not all bytes are among them"),
    ],
)
def test_files_that_are_no_vocabulary_are_refused(tmp_path, files, said):
    folder = tmp_path / "files"
    for name, text in files.items():
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    with pytest.raises(RequestError, match=r"Gpt2\.path") as error:
        Gpt2(path=str(folder)).learn([])
    assert said in str(error.value)


@pytest.mark.parametrize("tokenizer", [Characters(), Words(), BytePair()], ids=lambda t: type(t).__name__)
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_text_teaches_nothing(tokenizer, texts):
    if isinstance(tokenizer, BytePair):
        pytest.importorskip("tokenizers")
    with pytest.raises(RequestError, match="no text to learn"):
        tokenizer.learn(texts, SPECIAL)


def test_numbers_that_are_no_tokens_are_refused():
    with pytest.raises(RequestError, match="7 is no token: there are 0 to 2"):
        Characters().learn(["abc"]).decode([0, 7])


def test_vocabularies_come_back_from_records(byte_pairs):
    names = Names()
    for vocabulary in (Characters().learn([TEXT], ("<end>",)), Words().learn([TEXT], SPECIAL), byte_pairs):
        data = json.loads(codec.canonical(codec.to_json(vocabulary, names)))
        again = codec.from_json(data, Vocabulary, names)
        assert again == vocabulary
        np.testing.assert_array_equal(again.encode("to be"), vocabulary.encode("to be"))
