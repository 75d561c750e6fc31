"""The order of the examples: a bijection without structure, the same on host and device, at every position."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.data.permutation import MAX_POSITION, batch_indices, batch_indices_numpy

SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 97, 99, 100, 101, 1023, 1024, 1025, 7919, 55_000, 60_000, 60_017)
on_device = jax.jit(batch_indices, static_argnums=(2, 3))


def epoch_order(seed, epoch, size):
    """With a batch as large as the data, batch number t is epoch t."""
    return batch_indices_numpy(seed, epoch, size, size).astype(np.int64)


def in_python(seed, position, size):
    """The definition once more, in Python's integers: Feistel on Z_a x Z_b, walking cycles."""

    def mix(x):
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        return x ^ (x >> 16)

    epoch, x = divmod(position, size)
    a = math.ceil(math.sqrt(size))
    b = math.ceil(size / a)
    key = mix(seed ^ mix((epoch + 0x9E3779B9) % 2**32))
    while True:
        halves, moduli = [x // b, x % b], (a, b)
        for index in range(8):
            round_key = mix((key + 0x9E3779B9 * (index + 1)) % 2**32)
            moved = index % 2
            halves[moved] = (halves[moved] + mix(halves[1 - moved] ^ round_key) % moduli[moved]) % moduli[moved]
        x = halves[0] * b + halves[1]
        if x < size:
            return x


@pytest.mark.parametrize("size", SIZES)
def test_an_epoch_holds_every_example_exactly_once(size):
    for seed, epoch in ((0, 0), (1, 0), (0, 1), (2**31 - 1, 3)):
        np.testing.assert_array_equal(np.sort(epoch_order(seed, epoch, size)), np.arange(size))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 99, 100, 101, 7919, 55_000, 60_000])
def test_host_and_device_agree(size):
    batch_size = min(2 * size + 1, 1000)
    for seed, step in ((0, 0), (2**31 - 1, 5), (12345, 400)):
        host = batch_indices_numpy(seed, step, batch_size, size)
        device = on_device(jnp.int32(seed), jnp.int32(step), batch_size, size)
        assert host.dtype == device.dtype == np.uint32
        np.testing.assert_array_equal(host, device)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100, 101, 60_000])
def test_the_order_is_the_documented_one_at_any_position(size):
    for seed, step, batch_size in ((0, 0, 64), (7, 1000, 64), (2**31 - 1, MAX_POSITION // 64 - 1, 64)):
        expected = [in_python(seed, step * batch_size + i, size) for i in range(batch_size)]
        np.testing.assert_array_equal(batch_indices_numpy(seed, step, batch_size, size), expected)
        np.testing.assert_array_equal(on_device(seed, step, batch_size, size), expected)


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (10, 7), (3, 8), (1, 4), (101, 10), (1000, 128)])
def test_batches_that_straddle_epochs_hold_every_example_once_an_epoch(size, batch_size):
    epochs = 4
    steps = -(-size * epochs // batch_size)
    stream = np.concatenate([batch_indices_numpy(5, step, batch_size, size) for step in range(steps)])
    for epoch in range(epochs):
        block = stream[epoch * size : (epoch + 1) * size]
        np.testing.assert_array_equal(np.sort(block), np.arange(size))
        np.testing.assert_array_equal(block, epoch_order(5, epoch, size))


def test_the_order_does_not_depend_on_how_the_stream_is_cut():
    def stream(batch_size):
        return np.concatenate([batch_indices_numpy(3, step, batch_size, 97) for step in range(420 // batch_size)])

    for batch_size in (1, 4, 42, 210):
        np.testing.assert_array_equal(stream(batch_size), stream(420))


ORDERS = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (1, 1), (256, 0), (2**16, 0), (2**31 - 1, 0)]


@pytest.mark.parametrize("size", [7919, 10_000, 55_000])
def test_other_seeds_and_epochs_have_unrelated_orders(size):
    # Of two independent permutations, the number of positions with the same difference (mod size) is Poisson(1);
    # among `size` differences more than 14 has a probability of about size * 1e-13.
    orders = {order: epoch_order(*order, size) for order in ORDERS}
    for one, other in itertools.combinations(ORDERS, 2):
        difference = (orders[one] - orders[other]) % size
        assert np.bincount(difference).max() <= 14, (one, other)


@pytest.mark.parametrize("size", [7919, 10_000, 55_000])
@pytest.mark.parametrize(("seed", "epoch"), ORDERS[::2])
def test_an_order_has_no_structure(size, seed, epoch):
    order = epoch_order(seed, epoch, size)
    positions = np.arange(size)
    # Where an example comes says nothing of which it is: 16 x 16 table, chi-square with 225 degrees of freedom, within
    # 6 standard deviations.
    table = np.zeros((16, 16))
    np.add.at(table, (positions * 16 // size, order * 16 // size), 1)
    expected = size / 256
    assert ((table - expected) ** 2 / expected).sum() < 225 + 6 * math.sqrt(2 * 225)
    # Nor does one example of the next ones: serial correlations, within 5 standard deviations.
    for lag in (1, 2, 3, math.isqrt(size), math.isqrt(size) + 1):
        assert abs(np.corrcoef(order[:-lag], order[lag:])[0, 1]) < 5 / math.sqrt(size - lag)
        assert np.bincount((order[lag:] - order[:-lag]) % size).max() <= 14
    assert (order == positions).sum() <= 12  # Poisson(1)


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_for_the_smallest_sizes_all_permutations_are_about_as_likely(size):
    permutations = math.factorial(size)
    counts = dict.fromkeys(itertools.permutations(range(size)), 0)
    for index in range(40 * permutations):
        counts[tuple(epoch_order(index // 20, index % 20, size))] += 1
    # Up to size 4 as even as chance, within 6 standard deviations of chi-square. Eight rounds on Z_3 x Z_2 leave
    # the 120 permutations of five some 15 % uneven.
    freedom, uneven = permutations - 1, 0.0 if size < 5 else 0.2
    bound = freedom + 6 * math.sqrt(2 * freedom) + 40 * permutations * uneven**2
    assert sum((count - 40) ** 2 / 40 for count in counts.values()) < bound
