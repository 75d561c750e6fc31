"""Sums of squares against exact rational arithmetic."""

from fractions import Fraction

import jax
import numpy as np
import pytest

from neuralmon.tasks.moments import moments, squared_deviations

GENERATOR = np.random.default_rng(0)
SIZE = 2_000
CASES = {
    "standardised": GENERATOR.normal(size=SIZE),
    "mean 10,000, stddev 1": GENERATOR.normal(1e4, 1, SIZE),
    "mean -1e9, stddev 1000": GENERATOR.normal(-1e9, 1e3, SIZE),
    "constant": np.full(SIZE, 0.1),
    "zero": np.zeros(SIZE),
    "tiny": GENERATOR.normal(0, 1e-15, SIZE),
    "huge": GENERATOR.normal(0, 1e15, SIZE),
    "of all sizes": GENERATOR.normal(size=SIZE) * 10.0 ** GENERATOR.integers(-15, 16, SIZE),
    "24 bits": GENERATOR.integers(-(2**24), 2**24, SIZE),
    "half digits": GENERATOR.integers(-40, 40, SIZE) * 0.5,
    "one number": np.array([3.7]),
}
compiled = jax.jit(moments)


def exactly(values):
    numbers = [Fraction(float(value)) for value in values]
    mean = sum(numbers) / len(numbers)
    return float(sum((number - mean) ** 2 for number in numbers))


@pytest.mark.parametrize("case", CASES)
def test_deviations_are_exact(case):
    values = CASES[case].astype(np.float32)
    sums = compiled(values[:, None], np.ones(len(values), np.int32))
    assert squared_deviations(sums) == [exactly(values)]


def test_sums_of_parts_are_the_sums_of_the_whole_and_padding_counts_for_nothing():
    values = np.stack([CASES["mean 10,000, stddev 1"], CASES["of all sizes"]], axis=1).astype(np.float32)
    examples = (np.arange(SIZE) % 5 > 0).astype(np.int32)
    parts = [compiled(values[rows], examples[rows]) for rows in np.split(np.arange(SIZE), [3, 700, 701])]
    np.testing.assert_array_equal(sum(parts), compiled(values, examples))
    assert squared_deviations(sum(parts)).tolist() == [exactly(column[examples == 1]) for column in values.T]


def test_no_digit_is_larger_than_8():
    values = np.concatenate([np.array([8.0, 24.0, -136.0, 0.5]), *CASES.values()]).astype(np.float32)
    each = np.asarray(compiled(values[None], np.ones(1, np.int32)))
    assert np.abs(each).max() == 64
    assert np.iinfo(np.int32).max // 64 == 2**25 - 1
