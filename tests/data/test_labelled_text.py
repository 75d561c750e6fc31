"""Texts with classes: what is stored, the vocabulary, errors for people."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.errors import RequestError

ROWS = [("what a good film", "pos"), ("bad, bad film", "neg"), ("good good", "pos"), ("a bad one", "neg")] * 5


def table(path, rows=ROWS, head="text,label", delimiter=","):
    lines = [delimiter.join(f'"{cell}"' for cell in row) for row in rows]
    path.write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    return str(path)


def dataset(path, **fields):
    fields = {"tokenizer": nm.data.Words(min_count=1), "length": 5, **fields}
    return nm.data.TextCsv(path=path, **fields)


def test_texts_are_stored_between_begin_and_end_and_padded(tmp_path):
    resolved = dataset(table(tmp_path / "a.csv")).resolve()
    vocabulary = resolved.vocabulary
    assert [vocabulary.special[name] for name in ("<pad>", "<begin>", "<end>", "<unknown>")] == [0, 1, 2, 3]
    splits = nm.data.TextCsv.load(resolved)
    assert {name: len(part["targets"]) for name, part in splits.items()} == {"train": 16, "validation": 2, "test": 2}
    source = resolved.source()
    for name, part in splits.items():
        for text, row, target in zip(source.texts[name], part["inputs"], part["targets"], strict=True):
            words = vocabulary.encode(text)[:3]
            assert row.tolist() == [1, *words, 2, *[0] * (3 - len(words))]
            assert resolved.spec().class_names[target] == dict(ROWS)[text]
    batch = resolved.prepare(jax.random.key(0), {"inputs": splits["test"]["inputs"]}, False)
    np.testing.assert_array_equal(batch["inputs"]["sequence"], splits["test"]["inputs"])
    np.testing.assert_array_equal(batch["inputs"]["lengths"], (splits["test"]["inputs"] > 0).sum(1))
    kept = dataclasses.replace(resolved, keep="end").encode(["what a good film"], ["here"])[0]
    assert vocabulary.decode(kept) == "a good film"


def test_the_vocabulary_is_that_of_the_training_texts_alone(tmp_path):
    rows = [(f"{text} word{number}", label) for number, (text, label) in enumerate(ROWS)]
    resolved = dataset(table(tmp_path / "a.csv", rows)).resolve()
    source = resolved.source()
    known = {name: [int(text.split()[-1][4:]) for text in texts] for name, texts in source.texts.items()}
    for name, numbers in known.items():
        for number in numbers:
            encoded = resolved.vocabulary.encode(f"word{number}")[0]
            assert (encoded == resolved.vocabulary.unknown_id) == (name != "train")


def test_a_run_is_enough_to_read_new_texts(tmp_path):
    experiment = nm.Experiment(
        dataset=dataset(table(tmp_path / "a.csv")),
        model=nm.models.TextCNN(kernel_sizes=(1,), features=4, embedding_dim=4),
        task=nm.tasks.Classification(),
        optimizer=nm.optim.Adam(learning_rate=0.1),
        training=nm.Training(batch_size=8, steps=2),
    )
    nm.train(experiment, tmp_path / "run", figures=False)
    (tmp_path / "a.csv").unlink()
    (tmp_path / "new.txt").write_text("good film\n\na wholly unknown one\n")
    read = nm.load_run(tmp_path / "run").experiment.dataset
    names, inputs = read.read_inputs(str(tmp_path / "new.txt"))
    assert names == ["line 1", "line 3"] and inputs.shape == (2, 5)
    assert read.vocabulary.decode(inputs[1]) == "a <unknown> <unknown>"
    names, inputs = read.read_inputs(table(tmp_path / "new.csv", [("a film",)], head="text"))
    assert names == ["row 1"] and read.vocabulary.decode(inputs[0]) == "a film"
    with pytest.raises(RequestError, match="has no column 'text'"):
        read.read_inputs(table(tmp_path / "other.csv", [("a film",)], head="words"))
    (tmp_path / "texts" / "b").mkdir(parents=True)
    with pytest.raises(RequestError, match=r"texts holds no \.txt files"):
        read.read_inputs(str(tmp_path / "texts"))
    (tmp_path / "texts" / "b" / "1.txt").write_text("a\nfilm")
    (tmp_path / "texts" / "a.txt").write_text("good")
    names, inputs = read.read_inputs(str(tmp_path / "texts"))
    assert names == ["a.txt", "b/1.txt"]
    assert [read.vocabulary.decode(row) for row in inputs] == ["good", "a film"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(RequestError, match=r"empty\.txt holds no text"):
        read.read_inputs(str(tmp_path / "empty.txt"))
    taken = dataset(table(tmp_path / "b.csv", [("other words", "x"), ("and more", "y")] * 9)).resolve()
    with pytest.raises(RequestError, match=r"its vocabulary is another one .* give --dataset\.vocabulary_of="):
        nm.train(dataclasses.replace(experiment, dataset=taken), None, init_from=str(tmp_path / "run"))
    shared = dataset(taken.path, vocabulary_of=str(tmp_path / "run")).resolve()
    assert shared.vocabulary == read.vocabulary


def test_special_tokens_that_a_taken_vocabulary_lacks_stand_behind_it(tmp_path):
    facts = nm.data.TextFacts(
        vocabulary=nm.data.Characters().learn(["abdfglmnow, hei"]),
        lengths={"train": 9},
        ends={"train": 9},
        fingerprint="",
    )
    run = tmp_path / "run"
    run.mkdir()
    language = nm.data.Shakespeare(facts=facts)
    record = {"experiment": {"dataset": nm.codec.to_json(language, nm.names.Names())}}
    (run / "experiment.json").write_text(json.dumps(record))
    rows = [("a good film", "x"), ("a bad one", "y")] * 9
    resolved = dataset(table(tmp_path / "a.csv", rows), vocabulary_of=str(run)).resolve()
    assert resolved.vocabulary == facts.vocabulary and resolved.spec().vocab_size == facts.vocabulary.size + 3
    size = facts.vocabulary.size
    row = resolved.encode(["a"], ["here"])[0]
    assert row.tolist() == [size + 1, facts.vocabulary.encode("a")[0], size + 2, size, size]
    with pytest.raises(RequestError, match="there: line 1, column 2: the character 'Z'"):
        resolved.encode(["aZ"], ["there"])
    with pytest.raises(RequestError, match="holds no run"):
        dataset(table(tmp_path / "a.csv"), vocabulary_of=str(tmp_path / "nothing")).resolve()


@pytest.mark.parametrize(
    ("rows", "head", "fields", "message"),
    [
        (ROWS, "words,label", {}, r"has no column 'text', see dataset\.text; its columns are 'words', 'label'"),
        (ROWS, "text,class", {}, r"has no column 'label'"),
        (ROWS, "text,label", {"target": "text"}, "is the column of the texts too"),
        ([("a b", "x"), ("", "y"), ("c", "x")], "text,label", {}, r"row 2 \(line 3\), column 'text': there is no"),
        ([("a b", "x"), ("c", "x")], "text,label", {}, "there is only one class, 'x'"),
        ([("a b", "x"), ("c", "y")], "text,label", {}, "2 rows are too few"),
        (ROWS, "text,label", {"length": 2}, "leaves no room"),
        (ROWS, "text,label", {"augment": (nm.data.Flip(),)}, "no augmentation of texts"),
    ],
)
def test_bad_tables(tmp_path, rows, head, fields, message):
    with pytest.raises(RequestError, match=message):
        dataset(table(tmp_path / "a.csv", rows, head), **fields).resolve()


def test_bad_texts(tmp_path):
    (tmp_path / "latin.csv").write_bytes("text,label\ncaf\xe9,x\n".encode("latin1"))
    with pytest.raises(RequestError, match=r"is not UTF-8: byte 14 \(line 2\) is 0xe9"):
        dataset(str(tmp_path / "latin.csv")).resolve()
    resolved = dataset(table(tmp_path / "a.csv")).resolve()
    with pytest.raises(RequestError, match="there: the text is empty"):
        resolved.encode(["  "], ["there"])
    table(tmp_path / "a.csv", ROWS[:-1])
    with pytest.raises(RequestError, match="not those that the run began with"):
        resolved.read()


def folder(root, files):
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return nm.data.TextClassFolder(path=str(root), tokenizer=nm.data.Words(min_count=1), length=6)


def test_folders_of_classes(tmp_path):
    files = {f"{kind}/{number}.txt": f"{kind} text {number}" for kind in ("ham", "spam") for number in range(10)}
    cut = folder(tmp_path / "cut", files).resolve()
    assert cut.facts.sizes == {"train": 16, "validation": 2, "test": 2} and cut.spec().class_names == ("ham", "spam")
    for part in cut.read().values():
        for row, target in zip(part["inputs"], part["targets"], strict=True):
            assert cut.vocabulary.decode(row).split()[0] == ("ham", "spam")[target]
    published = {f"{split}/{name}": text for split in ("train", "test") for name, text in files.items()}
    own = folder(tmp_path / "own", {**published, "train/unsup/1.txt": "no class"})
    with pytest.raises(RequestError, match="the class eggs is not one of training"):
        folder(tmp_path / "more", {**published, "test/eggs/1.txt": "x"}).resolve()
    own = dataclasses.replace(own, ignore=("unsup",)).resolve()
    assert own.facts.sizes == {"train": 18, "validation": 2, "test": 20}
    with pytest.raises(RequestError, match="has one class only, ham"):
        folder(tmp_path / "one", {"ham/1.txt": "x"}).resolve()
    with pytest.raises(RequestError, match=r"holds no \.txt files"):
        folder(tmp_path / "none", {"ham/1.txt": "x", "spam/1.doc": "x"}).resolve()
    with pytest.raises(RequestError, match="does not exist"):
        nm.data.TextClassFolder(path=str(tmp_path / "nothing")).resolve()


def test_passages_are_of_plays_that_language_models_have_not_read():
    passages = nm.data.ShakespearePassages(words=400, train_size=100)
    source = passages.source()
    assert {name: len(texts) for name, texts in source.texts.items()}["train"] == 100
    assert source.class_names[0] == "The Tempest" and len(source.class_names) == 7
    text = nm.data.text.shakespeare.read()
    assert text.index("\nThe Tempest\n") > 0.8 * len(text)
    for part in source.texts.values():
        for passage in part:
            assert len(passage.split()) == 400
            assert not any(left in passage for left in ("PROSPERO", "HAMLET:", "Aside to", "[", "]", "SCENE", "ACT "))
    test = set(source.texts["test"])
    assert not test & set(source.texts["train"])
    with pytest.raises(RequestError, match="training passages only"):
        dataclasses.replace(passages, train_size=10_000).source()
