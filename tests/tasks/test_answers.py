"""`--mode=predict` where outputs alone would tell a person nothing: tokens as texts, translations, near words."""

import json
import types

import flax.linen as nn
import jax
import numpy as np
import pytest
from scipy.special import softmax

import neuralmon as nm
from neuralmon.errors import RequestError
from neuralmon.reports.predictions import predictions
from neuralmon.tasks import LanguageModel, NegativeSampling, Trained

TEXT = "an apple and a nut; "


class Bigram(nn.Module):
    """The logits of what follows a token, in a table."""

    vocab_size: int

    @nn.compact
    def __call__(self, inputs):
        return nn.Embed(self.vocab_size, self.vocab_size, name="table")(inputs)


def told(trained, task, path, form):
    experiment = types.SimpleNamespace(task=task, dataset=trained.dataset)
    return predictions(types.SimpleNamespace(experiment=experiment, trained=trained), str(path), form)


@pytest.fixture
def reader(tmp_path):
    (tmp_path / "book.txt").write_text(TEXT * 20)
    dataset = nm.data.TextFile(path=str(tmp_path / "book.txt"), context_length=8).resolve()
    model = Bigram(dataset.vocabulary.size)
    return Trained(model, model.init(jax.random.key(0), np.zeros((1, 8), int)), dataset, lambda *_: {})


@pytest.mark.parametrize("text", ["a nut", "an apple and an", "a\n", "apple an"])
def test_a_language_model_says_what_it_expects_behind_each_token(text, reader, tmp_path):
    path = tmp_path / "new.txt"
    path.write_text(text.replace("\n", "; "))
    text = path.read_text()
    ids = reader.dataset.vocabulary.encode(text)
    table = softmax(np.asarray(reader.variables["params"]["table"]["embedding"]), axis=-1)
    rows = json.loads(told(reader, LanguageModel(), path, "json"))
    assert [row["input"] for row in rows] == [*range(1, len(text) + 1)]
    assert "".join(row["token"] for row in rows) == text
    expected = [reader.dataset.vocabulary.decode([table[token].argmax()]) for token in ids]
    assert [row["likeliest_next"] for row in rows] == expected
    np.testing.assert_allclose([row["probability"] for row in rows], table[ids].max(axis=-1), rtol=1e-4)
    *true, last = [row["true_next_probability"] for row in rows]
    np.testing.assert_allclose(true, table[ids[:-1], ids[1:]], rtol=1e-4)
    assert last is None
    lines = told(reader, LanguageModel(), path, "table").splitlines()
    assert len(lines) == len(text) + 1 and lines[-1].split()[-1] == "-"
    assert ("' '" in "".join(lines)) == (" " in text)


def test_data_without_texts_is_predicted_as_any_other():
    data = nm.data.CopyMemory(train_size=2, validation_size=1, test_size=1)
    assert LanguageModel().answers(types.SimpleNamespace(dataset=data), "x.npy") is None


def test_columns_of_a_series_are_forecast_by_their_names(tmp_path):
    rows = "".join(f"{day},{day * day}\n" for day in range(60))
    (tmp_path / "rain.csv").write_text(f"rain,wind\n{rows}")
    dataset = nm.data.CsvSeries(path=str(tmp_path / "rain.csv"), columns=("rain", "wind"), window=4).resolve()
    said = {"prediction": np.arange(114.0).reshape(57, 2)}
    experiment = types.SimpleNamespace(task=nm.tasks.Forecast(), dataset=dataset)
    result = types.SimpleNamespace(experiment=experiment, predict=lambda inputs: said)
    first, *_, last = json.loads(predictions(result, str(tmp_path / "rain.csv"), "json"))
    assert first == {"input": "after row 4", "rain": 0, "wind": 1}
    assert last == {"input": "after row 60", "rain": 112, "wind": 113}
    said["prediction"] = np.arange(228.0).reshape(57, 2, 2)
    table = predictions(result, str(tmp_path / "rain.csv"), "csv").splitlines()
    assert table[:2] == ["input,rain +1,wind +1,rain +2,wind +2", "after row 4,0.0,1.0,2.0,3.0"]


def test_words_have_neighbours(tmp_path):
    words = types.SimpleNamespace(words=("king", "queen", "sea"))
    vectors = np.array([[1.0, 0.1], [1.0, 0.0], [0.0, 1.0]])
    trained = Trained(None, {"params": {"embedding": vectors}}, words, lambda *_: {})
    (tmp_path / "words.txt").write_text("Sea queen\nking\n")
    rows = json.loads(told(trained, NegativeSampling(), tmp_path / "words.txt", "json"))
    assert [(row["input"], row["nearest"]) for row in rows] == [
        ("sea", ["king", "queen"]),
        ("queen", ["king", "sea"]),
        ("king", ["queen", "sea"]),
    ]
    assert rows[0]["cosine"] == pytest.approx(0.1 / np.sqrt(1.01), rel=1e-5)
    assert "sea    king, queen  0.0995" in told(trained, NegativeSampling(), tmp_path / "words.txt", "table")
    (tmp_path / "words.txt").write_text("king\nquene\n")
    with pytest.raises(RequestError, match=r"words.txt, line 2: 'quene' is not among .* \(did you mean queen\?\)"):
        NegativeSampling().answers(trained, str(tmp_path / "words.txt"))
    listed = NegativeSampling(neighbours_of=("king", "ocean")).study(trained, "test").texts["neighbours"]
    assert listed == "king   queen, sea\nocean  (too rare to have a vector)\n"
