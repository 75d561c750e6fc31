"""Batches gathered on the device."""

import jax
import numpy as np
import pytest

from neuralmon.data import pipeline


def numbered(size):
    """Data in which each example tells its number in every feature."""
    return {
        "inputs": np.arange(size, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32),
        "targets": np.arange(size, dtype=np.int32),
    }


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (10, 5), (10, 10), (10, 16), (1, 4), (7, 1), (101, 32)])
def test_an_evaluation_covers_every_example_exactly_once(size, batch_size):
    data = numbered(size)
    number = pipeline.num_evaluation_batches(data, batch_size)
    assert (number - 1) * batch_size < size <= number * batch_size
    get = jax.jit(pipeline.evaluation_batch, static_argnums=2)
    batches = [get(data, np.int32(index), batch_size) for index in range(number)]
    seen = []
    for batch in batches:
        assert batch["inputs"].shape == (batch_size, 3)
        assert batch["weights"].dtype == np.float32
        assert set(np.unique(batch["weights"])) <= {0.0, 1.0}
        np.testing.assert_array_equal(batch["inputs"][:, 0], batch["targets"])
        seen.extend(np.asarray(batch["targets"])[np.asarray(batch["weights"]) == 1])
    assert seen == list(range(size))
    assert sum(float(batch["weights"].sum()) for batch in batches) == size
    # Only the end of the last batch is padding.
    assert all((np.asarray(batch["weights"]) == 1).all() for batch in batches[:-1])


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (10, 10), (5, 8), (1, 3)])
def test_training_batches_hold_every_example_once_an_epoch_and_keep_features_together(size, batch_size):
    data = numbered(size)
    epochs = 3
    get = jax.jit(pipeline.resident_batch, static_argnums=3)
    targets = []
    for step in range(-(-epochs * size // batch_size)):
        batch = get(data, np.int32(4), np.int32(step), batch_size)
        np.testing.assert_array_equal(batch["inputs"][:, 0], batch["targets"])
        np.testing.assert_array_equal(batch["weights"], np.ones(batch_size, np.float32))
        targets.extend(np.asarray(batch["targets"]))
    for epoch in range(epochs):
        assert sorted(targets[epoch * size : (epoch + 1) * size]) == list(range(size))
