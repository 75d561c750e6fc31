"""Novikoff's bound: the widest margin, and mistakes within it."""

import numpy as np
import pytest

import neuralmon as nm
from neuralmon.tasks import novikoff


@pytest.mark.parametrize("seed", range(4))
def test_no_order_of_the_examples_makes_more_mistakes(seed):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(40, 3))
    inputs = inputs[np.abs(inputs @ [1.0, -2.0, 0.5] + 0.3) > 0.3]
    targets = (inputs @ [1.0, -2.0, 0.5] + 0.3 > 0).astype(int)
    found = novikoff.bound(inputs, targets)
    points = np.where(targets > 0, 1, -1)[:, None] * np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)
    weights, mistakes = np.zeros(4), 0
    while (points @ weights <= 0).any():
        for row in rng.permutation(len(points)):
            if points[row] @ weights <= 0:
                weights, mistakes = weights + points[row], mistakes + 1
    assert 0 < mistakes <= found.mistakes
    # No plane has a wider margin: not the one that was used, nor any of many near the best.
    for normal in (np.array([1.0, -2.0, 0.5, 0.3]), weights, *rng.normal(size=(2000, 4))):
        assert (points @ normal).min() / np.linalg.norm(normal) <= found.margin * (1 + 1e-6)


def test_two_points_by_hand():
    found = novikoff.bound(np.array([[2.0], [-2.0]]), np.array([1, 0]))
    # (2, 1) and (2, -1): the plane is normal to (1, 0), 2 away; the points are as long as the root of 5.
    np.testing.assert_allclose([found.margin, found.radius, found.mistakes], [2, 5**0.5, 1.25], rtol=1e-6)


def test_what_no_plane_divides_has_no_bound():
    assert novikoff.bound(np.array([[0.0, 0], [1, 1], [0, 1], [1, 0]]), np.array([0, 0, 1, 1])) is None


def test_a_run_counts_its_mistakes_and_says_the_bound():
    experiment = nm.Experiment(
        dataset=nm.data.Iris(species=("setosa", "versicolor"), split=nm.data.RandomSplit(validation=0.1, test=0)),
        model=nm.models.Perceptron(),
        task=nm.tasks.BinaryClassification(objective="perceptron"),
        optimizer=nm.optim.SGD(learning_rate=1.0),
        training=nm.Training(batch_size=1, epochs=2, steps_per_chunk=45),
    )
    result = nm.train(experiment, None)
    rows = [45 * row["mistakes"] for row in result.history if row["split"] == "train"]
    metrics = result.metrics["validation"]
    assert metrics["training_mistakes"] == pytest.approx(sum(rows)) and 0 < sum(rows) <= metrics["most_mistakes"]
    assert rows[-1] == 0 and result.history[-1]["accuracy"] == 1
    assert result.experiment.dataset.spec().class_names == ("setosa", "versicolor")
