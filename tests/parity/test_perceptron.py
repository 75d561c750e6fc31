"""The perceptron beside scikit-learn's, both taught the same examples in the same order."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from parity.comparison import Case, Result, both_types

import neuralmon as nm


def compare(classes, features, rate, dtype):
    """The outputs are the weighted sums of unseen points, the gradients are minus what an epoch added to weights."""
    from sklearn.linear_model import Perceptron

    random = np.random.default_rng(classes)
    targets = random.integers(0, classes, 100)
    inputs = (random.normal(size=(classes, features))[targets] + random.normal(size=(100, features))).astype(dtype)
    unseen = random.normal(size=(50, features)).astype(dtype)

    binary = classes == 2
    task = (nm.tasks.BinaryClassification if binary else nm.tasks.Classification)(objective="perceptron")
    model = nm.models.Perceptron(1 if binary else classes, dtype=jnp.dtype(dtype))
    transform = nm.optim.SGD(learning_rate=rate).transform(len(inputs))

    def update(carry, example):
        def loss(params):
            batch = {"targets": example[1][None], "weights": jnp.ones(1, dtype)}
            return task.loss(model.apply({"params": params}, example[0][None]), batch)[0][0]

        updates, state = transform.update(jax.grad(loss)(carry[0]), carry[1], carry[0])
        return (optax.apply_updates(carry[0], updates), state), None

    @jax.jit
    def learned(inputs, targets):
        zeros = {"output": {"kernel": jnp.zeros((features, model.num_classes), dtype)}}
        zeros["output"]["bias"] = jnp.zeros(model.num_classes, dtype)
        (params, _), _ = jax.lax.scan(update, (zeros, transform.init(zeros)), (inputs, targets))
        return params, model.apply({"params": params}, unseen)

    params, sums = learned(inputs, targets)
    sklearn = Perceptron(max_iter=1, tol=None, shuffle=False, eta0=rate).fit(inputs, targets)
    theirs = {"output": {"kernel": sklearn.coef_.T, "bias": sklearn.intercept_}}
    their_sums = sklearn.decision_function(unseen).reshape(sums.shape)
    return Result(sums, params), Result(their_sums.astype(dtype), jax.tree.map(lambda leaf: leaf.astype(dtype), theirs))


def case(name, classes, features, rate=1.0):
    run = lambda dtype: compare(classes, features, rate, dtype)  # noqa: E731
    return Case("Perceptron", name, "sklearn.linear_model.Perceptron", "sklearn", run)


CASES = [
    case("two classes", 2, 3),
    case("two classes, learning rate 0.1", 2, 20, 0.1),
    case("three, one against the rest", 3, 2, 0.3),
    case("ten, one against the rest", 10, 64),
]


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_learned_is_what_scikit_learn_learns(case, dtype):
    case.check(dtype)
