"""The measure of docs/parity.md: what it calls far apart, and what it does not let pass."""

import numpy as np
import pytest
from parity.comparison import Case, Result, error

ONE = {"a": np.array([1.0, -4.0]), "b": np.array([0.5])}


def test_the_error_is_that_of_the_worst_array():
    assert error(ONE, ONE) == 0
    assert error({"a": ONE["a"] + [0, 0.4], "b": ONE["b"] - 0.1}, ONE) == pytest.approx(0.2)


def test_what_is_zero_but_for_rounding_is_held_against_the_largest():
    theirs = {**ONE, "b": np.array([1e-17])}
    assert error({**ONE, "b": np.array([3e-17])}, theirs) < 1e-17
    assert error({**ONE, "b": np.array([0.04])}, theirs) == pytest.approx(0.01)
    assert error({**ONE, "b": np.array([2e-10])}, {**ONE, "b": np.array([1e-10])}) == pytest.approx(1)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        ({"a": ONE["a"]}, ONE, "other names"),
        ({**ONE, "b": np.array([0.5, 0.5])}, ONE, "b has the shape"),
        ({**ONE, "b": np.array([np.nan])}, ONE, "b is not finite"),
        (ONE, {**ONE, "b": np.array([np.nan])}, "b is not finite"),
        (ONE, {**ONE, "b": np.array([np.inf])}, "b is not finite"),
        ({**ONE, "b": ONE["b"].astype(np.float32)}, ONE, "b is float32 and float64"),
        ({"a": np.zeros(2)}, {"a": np.zeros(2)}, "all of it is zero"),
    ],
)
def test_what_cannot_be_compared_is_said(ours, theirs, message):
    with pytest.raises(AssertionError, match=message):
        error(ours, theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_case_in_another_type_than_it_says_is_refused(dtype):
    other = {"float32": np.float64, "float64": np.float32}[dtype]
    result = Result(np.ones(2, other), {"a": np.ones(2, other)})
    case = Case("row", "name", "reference", "numpy", lambda _: (result, result))
    with pytest.raises(AssertionError, match=f"not in {dtype}"):
        case.errors(dtype)
