"""CSV files: what is read is what other readers read, and what is wrong is said in one line."""

import csv
import io

import jax
import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from neuralmon.data.dataset import Dataset
from neuralmon.data.splits import ChronologicalSplit, RandomSplit
from neuralmon.data.tables.csv_dataset import Csv
from neuralmon.data.tables.csv_file import CsvFile
from neuralmon.errors import RequestError

ALL = RandomSplit(validation=0.0, test=0.0)
SIZE = 60


@pytest.fixture
def table(tmp_path):
    """The rows and the path of a table of two columns of numbers, one of words, a class and a number."""
    random = np.random.default_rng(0)
    rows = [
        [repr(float(random.normal(3, 2))), str(random.integers(0, 50)), random.choice(["red", "green", "a, blue"]),
         random.choice(["yes", "no"]), repr(float(random.normal(100, 10)))]
        for _ in range(SIZE)
    ]  # fmt: skip
    path = tmp_path / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["length", "count", "colour", "answer", "price"], *rows])
    return rows, str(path)


def write(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def prepared(dataset, split="train"):
    columns = dataset.load()[split]
    batch = {**columns, "weights": np.ones(len(columns["targets"]), np.float32)}
    return {name: np.asarray(array) for name, array in dataset.prepare(jax.random.key(0), batch, True).items()}


def test_inputs_are_the_standardised_numbers_and_the_words_one_hot(table):
    rows, path = table
    dataset = Csv(path=path, target="answer", ignore=("price",)).resolve()
    assert isinstance(dataset, Dataset)
    parts = dataset.split.rows(SIZE)
    numbers = np.array([[float(cell) for cell in row[:2]] for row in rows])
    words = np.array([row[2:3] for row in rows])
    scaler, encoder = StandardScaler().fit(numbers[parts["train"]]), OneHotEncoder(sparse_output=False).fit(words)
    for split, part in parts.items():
        batch = prepared(dataset, split)
        expected = np.concatenate([scaler.transform(numbers[part]), encoder.transform(words[part])], axis=1)
        np.testing.assert_allclose(batch["inputs"], expected, rtol=1e-5, atol=1e-6)
        assert [("no", "yes")[target] for target in batch["targets"]] == [rows[row][3] for row in part]
    assert dataset.facts.class_names == ("no", "yes")
    assert dataset.facts.columns[2].categories == ("a, blue", "green", "red")
    assert dataset.facts.class_counts == tuple(np.bincount(dataset.load()["train"]["targets"]))


def test_the_spec_says_what_load_gives(table):
    for target in ("answer", "price", ("price", "count")):
        dataset = Csv(path=table[1], target=target).resolve()
        spec, data = dataset.spec(), dataset.load()
        assert set(data) == set(spec.sizes) == {"train", "validation", "test"}
        for split, features in data.items():
            for name, array in features.items():
                assert array.shape == (spec.sizes[split], *spec.features[name].shape)
                assert array.dtype == spec.features[name].dtype


@pytest.mark.parametrize("standardized", [True, False])
@pytest.mark.parametrize("target", ["price", ("price", "length")])
def test_numeric_targets_are_standardised_and_the_data_s_units_kept_in_the_spec(table, target, standardized):
    rows, path = table
    dataset = Csv(path=path, target=target, split=ChronologicalSplit(), standardize_targets=standardized).resolve()
    names = ("length", "count", "colour", "answer", "price")
    places = [names.index(name) for name in ((target,) if isinstance(target, str) else target)]
    expected = np.array([[float(row[place]) for place in places] for row in rows[:48]])
    found = prepared(dataset)["targets"].reshape(48, -1)
    if standardized:
        scaler = StandardScaler().fit(expected)
        np.testing.assert_allclose(dataset.spec().target_mean, scaler.mean_)
        np.testing.assert_allclose(dataset.spec().target_stddev, scaler.scale_)
        expected = scaler.transform(expected)
    else:
        assert dataset.spec().target_mean == dataset.spec().target_stddev == ()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_without_standardising_inputs_are_what_the_file_says(table):
    dataset = Csv(path=table[1], target="price", features=("count", "length"), standardize=False, split=ALL).resolve()
    np.testing.assert_allclose(prepared(dataset)["inputs"], [[float(r[1]), float(r[0])] for r in table[0]], rtol=1e-6)


def test_numbers_are_read_as_pandas_or_numpy_read_them(tmp_path):
    random = np.random.default_rng(1)
    numbers = random.normal(size=(3_000, 4)) * 10.0 ** random.integers(-8, 8, (3_000, 4))
    path = write(tmp_path, "a,b,c,d\n" + "\n".join(",".join(f"{x:.9g}" for x in row) for row in numbers) + "\n")
    file = CsvFile.open(path)
    found = np.stack([cells.values for cells in file.read(file.head, {}).values()], axis=1)
    np.testing.assert_array_equal(found, np.loadtxt(path, delimiter=",", skiprows=1))
    pandas = pytest.importorskip("pandas")
    np.testing.assert_array_equal(found, pandas.read_csv(path, float_precision="round_trip").to_numpy())


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("a,b\n1,x\n2,y\n", {}),
        ("\ufeffa,b\n1,x\n2,y\n", {}),
        ("a,b\r\n1,x\r\n2,y\r\n", {}),
        ("a,b\r1,x\r2,y", {}),
        ("a,b\n\n1,x\n\n2,y\n\n", {}),
        (" a , b\n 1, x\n2,y \n", {}),
        ('"a",b\n"1","x"\n2,y\n', {}),
        ("a;b\n1;x\n2;y\n", {"delimiter": ";"}),
        ("a;b\n1;x\n2;y\n", {"delimiter": "auto"}),
        ("a\tb\n1\tx\n2\ty\n", {"delimiter": "tab"}),
        ("a\tb\n1\tx\n2\ty\n", {"delimiter": "auto"}),
        ("b,a,c\nx,1,5\ny,2,6\n", {"ignore": ("c",)}),
        ("a,,b\n1,7,x\n2,8,y\n", {"ignore": ("",)}),
        ("a,b\n1,x\n?,x\n,y\n2,y\n", {"missing": "drop"}),
    ],
)
def test_the_same_table_written_differently(tmp_path, content, options):
    dataset = Csv(path=write(tmp_path, content), target="b", split=ALL, **options).resolve()
    assert dataset.facts.class_names == ("x", "y")
    assert dataset.load()["train"]["inputs"].tolist() == [[1.0], [2.0]]
    assert dataset.load()["train"]["targets"].tolist() == [0, 1]


def test_quoted_values_hold_delimiters_quotes_and_line_breaks(tmp_path):
    words = ["one, two", 'a "word"', "two\nlines", "two\nlines"]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["w", "y"], *([word, index] for index, word in enumerate(words))])
    path = write(tmp_path, text.getvalue() + "\nlast,oops\n")
    dataset = Csv(path=path, target="y", target_kind="class", split=ALL).resolve()
    assert dataset.facts.columns[0].categories == tuple(sorted({*words, "last"}))
    # Rows 3 and 4 take two lines each, and line 8 is empty.
    with pytest.raises(RequestError, match=r"row 5 \(line 9\), column 'y': 'oops' is no number"):
        Csv(path=path, target="y", target_kind="number", split=ALL).resolve()


def test_columns_may_be_declared_categorical_and_classes_named(tmp_path):
    path = write(tmp_path, "code,country,y\n10,NA,1\n9,DE,2\n10,FR,10\n9,NA,2\n")
    dataset = Csv(path=path, target="y", target_kind="class", categorical=("code", "country"), split=ALL).resolve()
    assert [column.categories for column in dataset.facts.columns] == [("9", "10"), ("DE", "FR", "NA")]
    assert dataset.facts.class_names == ("1", "2", "10")
    assert dataset.load()["train"]["targets"].tolist() == [0, 1, 2, 1]
    named = Csv(path=path, target="y", target_kind="class", ignore=("country",), class_names=("a", "b", "c"), split=ALL)
    assert named.resolve().facts.class_names == ("a", "b", "c")


def test_numbers_in_python_s_own_spelling_are_words(tmp_path):
    path = write(tmp_path, "age,y\n1_000,a\n2_000,b\n1_000,b\n")
    assert Csv(path=path, target="y", split=ALL).resolve().facts.columns[0].categories == ("1_000", "2_000")


def test_a_column_of_one_value_gives_no_nan(tmp_path):
    # The mean of many 0.1 is not 0.1, so that their deviations are not 0 but tiny.
    path = write(tmp_path, "a,b,y\n" + "".join(f"0.1,{i},{i}\n" for i in range(100)))
    dataset = Csv(path=path, target="y", split=ALL).resolve()
    assert dataset.facts.columns[0].stddev == 1.0
    assert np.abs(prepared(dataset)["inputs"][:, 0]).max() < 1e-6


def test_predictions_need_the_facts_only(table, tmp_path):
    rows, path = table
    dataset = Csv(path=path, target="answer", split=ALL).resolve()
    stored = dataset.load()["train"]["inputs"]
    names = ["price", "other", "colour", "length", "count"]
    other = tmp_path / "new.csv"
    with other.open("w", newline="") as file:
        csv.writer(file).writerows([names, *([r[4], "x", r[2], r[0], r[1]] for r in rows[:7])])
    (tmp_path / "table.csv").unlink()
    found, inputs = dataset.read_inputs(str(other))
    assert found == tuple(f"row {row}" for row in range(1, 8))
    np.testing.assert_array_equal(inputs, stored[:7])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("x,w\n1,red\n2,purple\n", r"row 2 \(line 3\), column 'w': 'purple' did not occur in training; known are '"),
        ("x,v\n1,red\n", r"has no column 'w'.*what the model was trained on; its columns are 'x', 'v'"),
        ("x,w\n1,red\ntwo,red\n", r"row 2 \(line 3\), column 'x': 'two' is no number"),
        ("x,w\n1,red\n,red\n", r"row 2 \(line 3\), column 'x': there is no value"),
        ("x,w\n1e39,red\n", r"row 1 \(line 2\), column 'x': 1e\+39 is infinite, or beyond"),
        ("x,w\n", "has no rows below its head"),
    ],
)  # fmt: skip
def test_bad_inputs_for_predictions(tmp_path, content, message):
    path = write(tmp_path, "x,w,y\n1,red,a\n2,blue,b\n3,red,a\n4,blue,b\n")
    dataset = Csv(path=path, target="y", split=ALL).resolve()
    other = tmp_path / "new.csv"
    other.write_text(content)
    with pytest.raises(RequestError, match=message) as error:
        dataset.read_inputs(str(other))
    assert "\n" not in str(error.value)


GOOD = "age,colour,y\n1,red,a\n2,blue,b\n3,red,a\n4,blue,b\n"
MANY = "id,x,y\n" + "".join(f"p{i},{i},{i % 2}\n" for i in range(300))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, {"path": "nowhere/data.csv"}, r"there is no file nowhere/data.csv \(relative paths start at "),
        (None, {"path": "."}, r"\. is a folder: give the path of a CSV file"),
        ("", {}, "is empty: the first line has to name the columns"),
        ("\n\n", {}, "is empty"),
        ("age,y\n", {}, "has no rows below its head"),
        ("age,y\n1,a\n", {"target": "Y"}, r"has no column 'Y' \(did you mean 'y'\?\), .*; its columns are 'age', 'y'"),
        (GOOD, {"target": "colur"}, r"has no column 'colur' \(did you mean 'colour'\?\), see dataset.target"),
        (GOOD, {"features": ("ages",)}, r"no column 'ages' \(did you mean 'age'\?\), see dataset.features"),
        (GOOD, {"ignore": ("size",)}, "no column 'size', see dataset.ignore"),
        (GOOD, {"features": ("age", "y")}, "dataset.features: 'y' is there twice, or it is the target"),
        (GOOD, {"target": ()}, "dataset.target"),
        (GOOD, {"target": ("y", "age")}, "of several targets each is a number, but 'y' holds words"),
        (GOOD, {"target_kind": "number"}, r"row 1 \(line 2\), column 'y': 'a' is no number; correct it$"),
        (GOOD, {"class_names": ("a", "b", "c")}, "3 names for 2 classes in column 'y': 'a', 'b'"),
        (GOOD, {"target": "age", "class_names": ("a", "b")}, "dataset.class_names: column 'age' holds numbers"),
        (GOOD, {"delimiter": ";"}, r"one column only, 'age,colour,y'.*';': they seem to be by ','; give .*=','"),
        ("age\ty\n1\ta\n2\tb\n", {}, r"seem to be by '\\t'; give dataset.delimiter='tab'"),
        (GOOD, {"delimiter": "::"}, "dataset.delimiter: '::' is neither one character nor 'tab' nor 'auto'"),
        ("y\na\nb\n", {}, "has no column beside y to predict from"),
        ("age,age,y\n1,2,a\n", {}, "2 columns are called 'age'; rename them"),
        (",age,y\n0,1,a\n1,2,b\n", {}, "column 1 has no name: name it, or leave it out"),
        ("age,y\n1,a\n2,b\nthree,a\n", {}, r"row 3 \(line 4\), column 'age': 'three' is no number, and others .* '1'"),
        ("age,y\n" + "1,a\n2,b\n" * 600 + "x,b\n", {}, r"row 1201 \(line 1202\), column 'age': 'x' is no number"),
        ("age,y\n'1,5',a\n", {}, r"row 1 \(line 2\): 3 values, where the head names 2 columns; what has ','"),
        ('age,y\n"1,5",a\n"2,5",b\n', {}, r"column 'age': '1,5' is no number: write it with a point, not a comma"),
        ("age,y\n1,a\n\n2\n", {}, r"row 2 \(line 4\): 1 values, where the head names 2 columns"),
        ("age,y\n1,a\n,b\n", {}, r"row 2 \(line 3\), column 'age': there is no value, as in 1 of 2 rows; fill"),
        ("age,y\n1,a\nNA,b\n2,a\nnan,b\n", {}, r"row 2 \(line 3\), column 'age': .* in 2 of 4 rows.*missing=drop"),
        ("age,y\n1,a\n2,?\n", {}, r"row 2 \(line 3\), column 'y': there is no value"),
        ("age,y\n,a\n2,\n", {"missing": "drop"}, "every row lacks a value"),
        ("age,y\n1,a\n-inf,b\n", {}, r"row 2 \(line 3\), column 'age': -inf is infinite"),
        ("age,y\n1,a\n1e300,b\n", {}, r"column 'age': 1e\+300 is infinite, or beyond the range of float32"),
        ("age,y\n1600000000,a\n1600000001,b\n", {}, "column 'age': differences as small as these are lost in float32"),
        ("age,y\n1,a\n2,a\n", {}, "there is only one class, 'a', in column 'y'"),
        ("age,y\n1,a\n2,b\n", {"split": RandomSplit()}, r"2 rows are too few: none is left for validation"),
        (b"age,y\n1,a\n2,caf\xe9\n", {}, r"is not UTF-8: byte 15 \(line 3\) is 0xe9; save it as UTF-8"),
        ("age,y\n1,a\n".encode("utf-16"), {}, r"is not UTF-8: byte 0 \(line 1\)"),
        ('age,y\n1,"a\n2,b\n', {}, "line 3: .*is a quotation mark not closed"),
        ('age,y\n1,"a"b\n', {}, "line 2: .*quotation mark"),
        (MANY, {}, r"column 'id' holds 300 different words: .*dataset.ignore=id, or say dataset.categorical=id"),
        (MANY, {"target": "id"}, "column 'id' holds 300 different words; if they are classes"),
    ],
)  # fmt: skip
def test_bad_files_and_fields(tmp_path, content, options, message):
    path = "unused" if content is None else write(tmp_path, content)
    with pytest.raises(RequestError, match=message) as error:
        Csv(**{"path": path, "target": "y", "split": ALL, **options}).resolve()
    assert "\n" not in str(error.value)


def test_a_file_that_was_changed_during_a_run_is_refused(table, tmp_path):
    dataset = Csv(path=table[1], target="answer").resolve()
    dataset.load()
    path = tmp_path / "table.csv"
    path.write_text(path.read_text().replace("yes", "Yes"))
    with pytest.raises(RequestError, match="is not the file that the run began with"):
        dataset.load()
