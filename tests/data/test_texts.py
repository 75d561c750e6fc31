"""Texts for language models: every token where it belongs, windows as said, and what is wrong with a file is said."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon import codec
from neuralmon.data import BytePair, Characters, Shakespeare, TextFile, TextFolder, Words
from neuralmon.data.dataset import Dataset, load_checked, whole
from neuralmon.data.splits import ChronologicalSplit
from neuralmon.data.text import language_data, reading, shakespeare, token_files
from neuralmon.errors import RequestError
from neuralmon.names import Names

TEXT = "".join(f"Line {n}: the quick brown fox, {n * 7919 % 1000} jumps é.\n" for n in range(100))


@pytest.fixture
def file(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return str(tmp_path / "text.txt")


def batch_of(dataset, split, train=False, key=0):
    stored = whole(dataset.load()[split]["inputs"])
    batch = {"inputs": stored, "weights": np.ones(len(stored), np.float32)}
    return jax.tree.map(np.asarray, dataset.prepare(jax.random.key(key), batch, train))


def split_texts(text, validation=0.1, test=0.1):
    counts = [round(share * len(text)) for share in (validation, test)]
    ends = np.cumsum([len(text) - sum(counts), *counts])
    return dict(
        zip(("train", "validation", "test"), (text[a:b] for a, b in zip([0, *ends], ends, strict=False)), strict=True)
    )


@pytest.mark.parametrize("tokenizer", [Characters(), BytePair(vocab_size=290), Words(min_count=2)], ids=repr)
@pytest.mark.parametrize("length", [7, pytest.param(64, marks=pytest.mark.slow)])
def test_evaluation_predicts_each_token_but_the_first_exactly_once(file, tokenizer, length):
    if isinstance(tokenizer, BytePair):
        pytest.importorskip("tokenizers")
    dataset = TextFile(path=file, tokenizer=tokenizer, context_length=length).resolve()
    assert isinstance(dataset, Dataset)
    load_checked(dataset)
    for split, text in split_texts(TEXT).items():
        tokens = dataset.vocabulary.encode(text)
        if split != "train":
            batch = batch_of(dataset, split)
            counted = batch["targets"] >= 0
            np.testing.assert_array_equal(batch["targets"][counted], tokens[1:])
            np.testing.assert_array_equal(batch["inputs"][counted], tokens[:-1])
            if isinstance(tokenizer, BytePair):  # bytes: some text is in no token's own character alone
                first = dataset.vocabulary.token_characters()[tokens[0]]
                assert batch["characters"][counted].sum() == len(text) - first
            assert ("characters" in batch) == (not isinstance(tokenizer, Words))


def test_training_windows_begin_anywhere_and_each_epoch_elsewhere(tmp_path):
    text = "".join(map(chr, np.random.default_rng(0).integers(97, 123, 4_000)))
    (tmp_path / "letters.txt").write_text(text)
    dataset = TextFile(path=str(tmp_path / "letters.txt"), context_length=16).resolve()
    text = split_texts(text)["train"]
    tokens = dataset.vocabulary.encode(text)
    starts = np.zeros(len(tokens) - 16, int)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, 17)
    place = {window.tobytes(): index for index, window in enumerate(windows)}
    for key in range(40):
        batch = batch_of(dataset, "train", train=True, key=key)
        drawn = np.concatenate([batch["inputs"], batch["targets"][:, -1:]], axis=1).astype(tokens.dtype)
        np.testing.assert_array_equal(drawn[:, 1:], batch["targets"])
        for row in drawn:
            starts[place[row.tobytes()]] += 1
    sizes = dataset.spec().sizes["train"]
    assert starts.sum() == 40 * sizes and sizes == -(-(len(tokens) - 32) // 16) + 1
    assert (starts[:-16] > 0).mean() > 0.85  # 2.5 windows begin at each place on average


def test_tokens_are_stored_as_small_as_they_fit():
    sizes = (2, 255, 256, 65_535, 65_536)
    assert [str(token_files.token_type(size)) for size in sizes] == ["uint8", "uint8", "uint16", "uint16", "int32"]


@pytest.mark.parametrize("size", [17, 33, 48, *(pytest.param(size, marks=pytest.mark.slow) for size in (18, 32))])
def test_texts_that_are_just_long_enough(tmp_path, size):
    text = "".join(map(chr, range(97, 97 + size)))
    (tmp_path / "short.txt").write_text(text, encoding="utf-8")
    nothing = ChronologicalSplit(validation=0, test=0)
    dataset = TextFile(path=str(tmp_path / "short.txt"), context_length=16, split=nothing).resolve()
    load_checked(dataset)
    starts = set()
    for key in range(60):
        batch = batch_of(dataset, "train", train=True, key=key)
        assert (batch["targets"] == batch["inputs"][:, :1] + np.arange(1, 17)).all()  # numbers in the text's order
        starts |= set(batch["inputs"][:, 0].tolist())
    assert starts == set(range(size - 16)) or (size == 48 and len(starts) > 28)


def test_the_plays_are_split_by_place():
    dataset = Shakespeare(context_length=128, split=ChronologicalSplit(validation=0.05, test=0.05)).resolve()
    assert dataset.vocabulary.size == 83 == dataset.spec().vocab_size
    text = shakespeare.read()
    stored = dataset.load()["test"]["inputs"]
    assert dataset.vocabulary.decode(stored[np.array([0])][0]) == split_texts(text, 0.05, 0.05)["test"][:256]


def test_a_record_is_enough_to_read_new_text(file, tmp_path):
    dataset = TextFile(path=file, context_length=8).resolve()
    data = json.loads(codec.canonical(codec.to_json(dataset, Names())))
    (tmp_path / "text.txt").unlink()
    again = codec.from_json(data, Dataset, Names())
    assert again == dataset
    (tmp_path / "new.txt").write_text("the quick\r\nfox", encoding="utf-8-sig")
    names, inputs = again.read_inputs(str(tmp_path / "new.txt"))
    assert names == ["tokens 1 to 8", "tokens 9 to 13"]
    batch = {"inputs": inputs, "weights": np.ones(2)}
    said = np.asarray(again.prepare(jax.random.key(0), batch, False)["inputs"])
    assert again.vocabulary.decode(said.reshape(-1)[:13]) == "the quick\nfox"
    (tmp_path / "new.txt").write_text("the\nquick 猫", encoding="utf-8")
    with pytest.raises(RequestError, match=r"new\.txt, line 2, column 7: the character '猫'"):
        again.read_inputs(str(tmp_path / "new.txt"))


def test_a_text_that_has_changed_is_refused(file, tmp_path):
    dataset = TextFile(path=file, context_length=8).resolve()
    (tmp_path / "text.txt").write_text(TEXT.replace("fox", "cat"), encoding="utf-8")
    token_files._memory.clear()
    with pytest.raises(RequestError, match="not the text that the run began with"):
        dataset.load()


def test_documents_of_a_folder_are_packed_with_an_end_between(tmp_path):
    (tmp_path / "b").mkdir()
    for name, text in {"a.txt": "one two", "b/c.txt": "three four", "z.txt": "five", "no.md": "#"}.items():
        (tmp_path / name).write_text(text * 3)
    nothing = ChronologicalSplit(validation=0, test=0)
    dataset = TextFolder(path=str(tmp_path), context_length=8, split=nothing).resolve()
    tokens = dataset._tokens(dataset.facts)["train"]
    ends = np.flatnonzero(tokens == dataset.vocabulary.end_id)
    documents = [dataset.vocabulary.decode(part) for part in np.split(tokens, ends + 1)]
    assert documents == ["one two" * 3, "three four" * 3, "five" * 3, ""]
    with pytest.raises(RequestError, match=r"has no files \*.rst"):
        dataclasses.replace(dataset, pattern="*.rst", facts=None).resolve()
    with pytest.raises(RequestError, match="is a file: use TextFile"):
        TextFolder(path=str(tmp_path / "a.txt")).resolve()


def test_a_text_beyond_memory_is_tokenised_in_pieces_once_and_mapped(file, tmp_path, monkeypatch):
    pytest.importorskip("tokenizers")
    here = TextFile(path=file, tokenizer=BytePair(vocab_size=280), context_length=16).resolve()
    monkeypatch.setattr(token_files, "IN_MEMORY", 1000)
    monkeypatch.setattr(reading, "_BLOCK", 97)  # not even characters are whole
    large = dataclasses.replace(here, cache=str(tmp_path / "cache"), facts=None).resolve()
    assert large.facts == here.facts
    for split, columns in large.load().items():
        assert isinstance(columns["inputs"].column, np.memmap)
        np.testing.assert_array_equal(whole(columns["inputs"]), whole(here.load()[split]["inputs"]))
    # Computed once: the file is not even opened again.
    monkeypatch.setattr(language_data.TextDataset, "_pieces", lambda self: pytest.fail("read again"))
    large.load()
    assert len(list((tmp_path / "cache").iterdir())) == 2


@pytest.mark.slow
def test_a_stream_of_windows_trains_as_what_is_in_memory(file, tmp_path, monkeypatch):
    monkeypatch.setattr(token_files, "IN_MEMORY", 1000)
    result = []
    for pipeline in ("device", "stream"):
        experiment = nm.Experiment(
            dataset=TextFile(path=file, context_length=16, pipeline=pipeline, cache=str(tmp_path / "cache")),
            model=nm.models.RNN(hidden=(8,), embedding_dim=4, output="all"),
            task=nm.tasks.LanguageModel(),
            optimizer=nm.optim.Adam(),
            training=nm.Training(batch_size=8, steps=6, steps_per_chunk=3),
        )
        result.append(nm.train(experiment))
    assert result[0].fingerprint == result[1].fingerprint
    device, stream = (one.metrics["test"] for one in result)
    assert device == pytest.approx(stream, rel=1e-6)
    assert device["bits_per_character"] == device["bits_per_token"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "text.txt is empty"),
        (b"\xef\xbb\xbf", "text.txt is empty"),
        (
            b"one line of text only, and that is too short",
            "the split 'train' has 36 tokens, and a window has 257; give",
        ),
        (
            "aä\n".encode() * 999 + b"b\xe9c",
            "is not UTF-8: byte 3,997 (line 1,000) is 0xe9; save it as UTF-8, or: iconv",
        ),
        (b"abc\n\xc3", "is not UTF-8: byte 4 (line 2) is 0xc3"),
        ("text".encode("utf-16"), "byte 0 (line 1) is 0xff; save it as UTF-8, or: iconv -f UTF-16"),
        (b"PK\0\0\x80\x81", "byte 4 (line 1) is 0x80, and it holds zero bytes: it is no text"),
        (b"ab", "2 characters are too few"),
    ],
)
@pytest.mark.parametrize("block", [5, 2**20])
def test_what_is_wrong_with_a_file_is_said(tmp_path, monkeypatch, content, said, block):
    monkeypatch.setattr(reading, "_BLOCK", block)
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(RequestError) as error:
        TextFile(path=str(path)).resolve()
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("path", "said"), [("none.txt", "there is no file"), (".", "is a folder"), ("", "no file ''")])
def test_paths_that_are_no_files_are_said(path, said):
    with pytest.raises(RequestError, match=said):
        TextFile(path=path).resolve()
