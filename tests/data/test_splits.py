"""Splits: each row in one part, the parts as large as asked, the same ones each time."""

import numpy as np
import pytest

from neuralmon.data.splits import ChronologicalSplit, RandomSplit
from neuralmon.errors import RequestError


@pytest.mark.parametrize("kind", [RandomSplit, ChronologicalSplit])
@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.0, 0.5), (0.25, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("size", [10, 101, 1_000])
def test_each_row_is_in_one_part(kind, validation, test, size):
    rows = kind(validation=validation, test=test).rows(size)
    assert set(rows) == {"train", *(["validation"] if validation else []), *(["test"] if test else [])}
    np.testing.assert_array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(size))
    for name, share in (("validation", validation), ("test", test)):
        assert abs(len(rows.get(name, ())) - share * size) <= 0.5
    for part in rows.values():
        assert (np.diff(part) > 0).all()


def test_chronological_parts_follow_each_other():
    rows = ChronologicalSplit(validation=0.2, test=0.3).rows(100)
    assert {name: (part[0], part[-1]) for name, part in rows.items()} == {
        "train": (0, 49),
        "validation": (50, 69),
        "test": (70, 99),
    }


def test_random_parts_depend_on_their_seed_alone_and_are_spread_evenly():
    first, again, other = (RandomSplit(seed=seed).rows(10_000)["test"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    # Two independent draws of a tenth share a tenth: 100 +- 9.
    assert 50 < len(np.intersect1d(first, other)) < 150
    # The mean of 1,000 of 10,000 rows is 5,000 +- 87.
    assert abs(first.mean() - 5_000) < 400


@pytest.mark.parametrize("seed", [0, 1])
def test_data_drawn_from_the_same_seed_is_not_cut_by_its_values(seed):
    values = np.random.default_rng(seed).uniform(size=10_000)
    for part in RandomSplit(seed=seed).rows(10_000).values():
        # The mean of 1,000 values spread evenly over 0 ... 1 is 0.5 +- 0.009.
        assert abs(values[part].mean() - 0.5) < 0.04


def test_the_draw_stays_the_same_for_good():
    """Another draw would let runs that were begun before train on what they are tested on."""
    assert RandomSplit(validation=0.0, test=0.5).rows(8)["test"].tolist() == [0, 3, 6, 7]


@pytest.mark.parametrize(
    ("own", "parts"),
    [
        ({"test": False}, {"train": 80, "validation": 20}),
        ({"validation": False}, {"train": 70, "test": 30}),
        ({"test": False, "validation": False}, {"train": 100}),
    ],
)
def test_data_with_its_own_parts_keeps_them(own, parts):
    rows = RandomSplit(validation=0.2, test=0.3).rows(100, **own)
    assert {name: len(part) for name, part in rows.items()} == parts


@pytest.mark.parametrize(
    ("split", "size", "message"),
    [
        (RandomSplit(), 4, r"4 rows are too few: none is left for validation \(validation 0.1, test 0.1\)"),
        (RandomSplit(validation=0.0, test=0.9), 3, "3 rows are too few: none is left for train"),
        (ChronologicalSplit(validation=0.5, test=0.5), 100, "leaves nothing for training"),
        (RandomSplit(validation=0.0, test=0.0), 0, "0 rows are too few: none is left for train"),
    ],
)
def test_too_few_rows_are_refused(split, size, message):
    with pytest.raises(RequestError, match=message):
        split.rows(size)
