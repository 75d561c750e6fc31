"""Pairs of texts: rows hold what was read, nothing is in two splits, and what is wrong is said in one line."""

import dataclasses

import jax
import numpy as np
import pytest

from neuralmon import codec
from neuralmon.data import (
    BytePair,
    Characters,
    Copy,
    ParallelFacts,
    ParallelText,
    RandomSplit,
    Reverse,
    VersesEnEs,
    Words,
)
from neuralmon.data.dataset import Dataset, load_checked
from neuralmon.data.text import parallel, verses
from neuralmon.data.text.packing import filled, rows_of
from neuralmon.errors import RequestError, RunError
from neuralmon.names import Names

SIZE = 40
SOURCES = [" ".join("abcdefgh"[(n + place) % 8] for place in range(1 + n % 7)) for n in range(SIZE)]
TARGETS = [text[::-1].upper() + "!" for text in SOURCES]


def files(folder, sources=SOURCES, targets=TARGETS):
    for name, lines in {"a.txt": sources, "b.txt": targets}.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"source": str(folder / "a.txt"), "target": str(folder / "b.txt")}


def texts_of(dataset, rows, side):
    """Returns the texts of rows of tokens, cut at the ends."""
    vocabulary = dataset.source_vocabulary if side == "inputs" else dataset.vocabulary
    found = []
    for row in rows:
        ends = np.flatnonzero(row == vocabulary.end_id)
        found += [vocabulary.decode(part) for part in np.split(row, ends + 1)[: len(ends)]]
    return found


@pytest.mark.parametrize("pack", [None, 30])
@pytest.mark.parametrize("own", [None, Words(min_count=1)])
def test_rows_hold_each_pair_once_and_both_sides_together(tmp_path, pack, own):
    dataset = ParallelText(**files(tmp_path), tokenizer=Characters(), source_tokenizer=own, pack=pack).resolve()
    assert isinstance(dataset, Dataset)
    parallel._recent.clear()
    splits = load_checked(dataset)
    pairs = []
    for name, columns in splits.items():
        found = list(zip(*(texts_of(dataset, columns[side], side) for side in ("inputs", "targets")), strict=True))
        assert sorted(found) == sorted(zip(*dataset.texts(name), strict=True))
        pairs += found
    assert sorted(pairs) == sorted(zip(SOURCES, TARGETS, strict=True))
    spec = dataset.spec()
    assert (spec.source_vocab_size is None) == (own is None)
    assert spec.sizes["train"] == (32 if pack is None else len(splits["train"]["inputs"])) <= 32
    jax.tree.map(np.testing.assert_array_equal, dataset.load(), splits)


def test_a_row_is_given_to_the_model_as_if_each_pair_were_alone(tmp_path):
    alone = ParallelText(**files(tmp_path), tokenizer=Characters()).resolve()
    packed = dataclasses.replace(alone, pack=30, facts=None).resolve()
    assert packed.spec().sizes["train"] < alone.spec().sizes["train"] / 2
    batch = packed.prepare(None, packed.load()["train"], False)
    inputs, targets = jax.device_get(batch["inputs"]), batch["targets"]
    begin, end = packed.vocabulary.begin_id, packed.vocabulary.end_id
    rows = alone.load()["train"]
    single = jax.device_get(alone.prepare(None, rows, False)["inputs"]["target"])
    known = {
        (tuple(source[source > 0]), tuple(target[target > 0])): tuple(own[target > 0])
        for source, target, own in zip(rows["inputs"], rows["targets"], single, strict=True)
    }
    count = 0
    for row in range(len(targets)):
        for number in range(1, inputs["target_segments"][row].max() + 1):
            mine, other = inputs["source_segments"][row] == number, inputs["target_segments"][row] == number
            source, target = inputs["source"][row][mine], targets[row][other]
            given = inputs["target"][row][other]
            assert given[0] == begin and source[-1] == target[-1] == end
            assert known[tuple(source), tuple(target)] == tuple(given)
            count += 1
        assert (inputs["source"][row][inputs["source_segments"][row] == 0] == 0).all()
    assert count == alone.spec().sizes["train"]


def test_without_targets_there_is_the_beginning(tmp_path):
    dataset = ParallelText(**files(tmp_path), tokenizer=Characters(), pack=30).resolve()
    prepared = dataset.prepare(None, {"inputs": dataset.load()["test"]["inputs"][:1]}, False)
    assert prepared["inputs"]["target"].tolist() == [[1]] == prepared["inputs"]["target_segments"].tolist()


def test_packing_wastes_little_and_overfills_nothing():
    lengths = np.random.default_rng(0).integers(5, 60, (2_000, 2))
    room = np.array([100, 110])
    rows = rows_of(lengths, room)
    used = np.array([np.bincount(rows, weights=side) for side in lengths.T])
    assert (room - used.T).min() >= 0 and used.min() > 0
    assert lengths.sum() / (room.sum() * (rows.max() + 1)) > 0.85
    assert filled([np.array([1, 2]), np.array([3]), np.array([4])], np.array([0, 1, 0]), 4).tolist() == [
        [1, 2, 4, 0],
        [3, 0, 0, 0],
    ]


def test_facts_are_recorded_and_enough_to_encode_and_decode(tmp_path):
    given = ParallelText(**files(tmp_path), tokenizer=BytePair(vocab_size=270), pack=64)
    dataset = given.resolve()
    names = Names()
    again = codec.from_json(codec.to_json(dataset, names), ParallelText, names)
    assert again == dataset and isinstance(again.facts, ParallelFacts)
    (tmp_path / "a.txt").unlink()
    assert again.spec() == dataset.spec()
    [tokens] = again.encode_sources(["a b, ¿ñ?"])
    assert again.vocabulary.decode(tokens) == "a b, ¿ñ?" and tokens[-1] == again.vocabulary.end_id
    files(tmp_path, TARGETS, SOURCES)
    with pytest.raises(RunError, match="texts have changed"):
        again.load()


def test_long_pairs_are_left_out_of_rows_but_not_of_the_texts(tmp_path):
    given = ParallelText(**files(tmp_path), tokenizer=Characters(), max_tokens=10)
    with pytest.warns(UserWarning, match="more than 10 tokens are left out: "):
        dataset = given.resolve()
    facts = dataset.facts
    long = {name: sum(len(text) + 1 > 10 for text in dataset.texts(name)[1]) for name in facts.sizes}
    assert facts.left_out == long and long["train"] > 0
    assert facts.num_pairs["train"] + long["train"] == 32 and len(dataset.texts("train")[0]) == 32
    assert dataset.load()["train"]["targets"].shape == (facts.num_pairs["train"], 10)


def test_columns_of_a_table_and_splits_of_its_own(tmp_path):
    rows = [f"{n}\t{source}\t{target}\r" for n, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True))]
    (tmp_path / "plain.tsv").write_text("\n".join(rows), encoding="utf-8", newline="")
    (tmp_path / "named.tsv").write_text("\n".join(["id\ten\tes", *rows[:5]]), encoding="utf-8", newline="")
    plain, named = (str(tmp_path / f"{name}.tsv") for name in ("plain", "named"))
    split = RandomSplit(validation=0, test=0)
    by_number = ParallelText(path=plain, source="2", target="3", split=split).read_pairs()
    assert by_number == {"train": (SOURCES, TARGETS)}
    by_name = ParallelText(path=named, source="es", target="en", split=split, test=(named,)).read_pairs()
    assert by_name == dict.fromkeys(("train", "test"), (TARGETS[:5], SOURCES[:5]))


LINES = ["one", "two", "three"]
TABLE = {"path": "a.txt", "source": "1", "target": "2"}
WRONG = {
    "unequal": (("\n".join(LINES), "\n".join(LINES[:2])), {}, r"a.txt has 3 lines and .*b.txt 2: line n of one"),
    "empty file": (("", "x"), {}, r"a.txt is empty"),
    "empty line": (("one\n\nthree", "\n".join(LINES)), {}, r"a.txt, line 2 is empty"),
    "not UTF-8": ((b"one\ntw\xe9", b"a\nb"), {}, r"a.txt is not UTF-8: byte 6 \(line 2\) is 0xe9"),
    "one line": (("one", "uno"), {}, r"1 rows are too few"),
    "no file": (("one", "uno"), {"target": "nowhere.txt"}, r"there is no file nowhere.txt"),
    "no target": (("one", "uno"), {"target": ""}, r"dataset.target is empty"),
    "one file of two": (("one", "uno"), {"test": ("x",)}, r"dataset.test: 1 files; give 2"),
    "no column": (("one\tuno", ""), {**TABLE, "target": "3"}, r"line 1: there is no column 3, but 2"),
    "no such name": (("en\tes\na\tb", ""), {**TABLE, "source": "ess"}, r"no column 'ess' \(did you mean es\?\)"),
    "empty cell": (("a\tb\nc\t", ""), TABLE, r"line 2, column 2 is empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_named_with_the_line(tmp_path, monkeypatch, name):
    contents, fields, message = WRONG[name]
    for file, content in zip(("a.txt", "b.txt"), contents, strict=True):
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match=message) as error:
        ParallelText(**{"source": "a.txt", "target": "b.txt", **fields}).resolve()
    assert "\n" not in str(error.value)


SETTINGS = [
    ({"pack": 5}, r"dataset.pack=5: .* training pairs are longer, the longest 15 tokens"),
    ({"max_tokens": 1}, r"dataset.max_tokens=1: no pair of the split 'train'"),
]


@pytest.mark.filterwarnings("ignore:pairs of more than")
@pytest.mark.parametrize(("fields", "message"), SETTINGS)
def test_impossible_settings_are_refused(tmp_path, fields, message):
    with pytest.raises(RequestError, match=message):
        ParallelText(**files(tmp_path), tokenizer=Characters(), **fields).resolve()


def test_verses_are_what_their_readme_says_and_books_are_in_one_split():
    rows = verses.read()
    assert len(rows) == 31_044 and max(len(side.split()) for row in rows for side in row[1:]) == 79
    pairs = VersesEnEs().read_pairs()
    assert {name: len(sources) for name, (sources, _) in pairs.items()} == {
        "train": 29_265,
        "validation": 897,
        "test": 882,
    }
    assert sum(len(sources) for sources, _ in pairs.values()) == len(rows)
    known = set(pairs["train"][0])
    for name in ("validation", "test"):
        assert np.mean([text in known for text in pairs[name][0]]) < 0.01
    assert pairs["test"][1][0].startswith("Y ACONTECIÓ en los días que gobernaban los jueces")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"test_books": ("Rut",)}, r"there is no book 'Rut' \(did you mean Ruth\?\)"),
        ({"test_books": ("Joel",)}, "Joel is a book of the validation and of the test"),
    ],
)
def test_books_are_checked(fields, message):
    with pytest.raises(RequestError, match=message):
        VersesEnEs(**fields).read_pairs()


def test_strings_are_new_in_each_split_and_answered_by_the_rule():
    dataset = Reverse(train_size=500, held_out_size=100, longest=6, longer=9, letters="abcd")
    pairs = dataset.read_pairs()
    assert {name: len(sources) for name, (sources, _) in pairs.items()} == {
        "train": 500,
        "validation": 100,
        "test": 100,
    }
    for name, (sources, targets) in pairs.items():
        assert targets == [text[::-1] for text in sources]
        assert name == "train" or not set(sources) & set(pairs["train"][0])
        assert set("".join(sources)) == set("abcd") and max(map(len, sources)) == 6
    lengths = np.bincount([len(text) for text in pairs["train"][0]], minlength=7)[1:]
    assert lengths.min() > 50
    longer, answers = dataset.longer_texts()
    assert {len(text) for text in longer} == {7, 8, 9} and answers[0] == longer[0][::-1]
    assert dataclasses.replace(dataset, longer=6).longer_texts() == ([], [])
    assert pairs == dataset.read_pairs() != dataclasses.replace(dataset, seed=1).read_pairs()
    assert (
        Copy(train_size=20, held_out_size=5).read_pairs()["test"][0]
        == Copy(train_size=20, held_out_size=5).read_pairs()["test"][1]
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"letters": "aab"}, "at least two letters, each once"),
        ({"letters": "ab", "longest": 5}, "only 32 strings of 5"),
    ],
)
def test_impossible_strings_are_refused(fields, message):
    with pytest.raises(RequestError, match=message):
        Copy(**fields).resolve()
