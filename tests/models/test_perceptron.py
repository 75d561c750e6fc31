"""The perceptron: its learning rule is Rosenblatt's, and what follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.linear_model

import neuralmon as nm
from neuralmon.data.permutation import batch_indices_numpy
from neuralmon.layers import step
from neuralmon.models import MLP, Perceptron
from neuralmon.tasks.decisions import perceptron_criterion

ALL = nm.data.RandomSplit(validation=0.0, test=0.0)
# A power of 2, like the data: all sums are exact, in float32 as in float64.
RATE = 0.5


def problem(classes, size=80, seed=0):
    """Returns points with coordinates that are multiples of 1/8, and their classes; no plane divides them."""
    random = np.random.default_rng(seed)
    targets = random.integers(0, classes, size)
    centres = random.normal(size=(classes, 3))
    inputs = np.round(8 * (centres[targets] + random.normal(size=(size, 3)))) / 8
    return inputs, targets


def ours(inputs, targets, classes, epochs=1, rate=RATE):
    """Returns weights (units, inputs) and biases, and how often an example changed them, by the real task and SGD."""
    binary = classes == 2
    kind = nm.tasks.BinaryClassification if binary else nm.tasks.Classification
    task, model = kind(objective="perceptron"), Perceptron(num_classes=1 if binary else classes)
    transform = nm.optim.SGD(learning_rate=rate).transform(epochs * len(inputs))

    def update(carry, example):
        params, state = carry

        def loss(params):
            batch = {"targets": example[1][None], "weights": jnp.ones(1)}
            (total, count), _ = task.loss(model.apply({"params": params}, example[0][None]), batch)
            return total / count

        gradients = jax.grad(loss)(params)
        updates, state = transform.update(gradients, state, params)
        return (optax.apply_updates(params, updates), state), jnp.any(gradients["output"]["bias"] != 0)

    @jax.jit
    def train(inputs, targets):
        params = model.init(jax.random.key(0), inputs)["params"]
        carry, changed = jax.lax.scan(update, (params, transform.init(params)), (inputs, targets))
        return carry[0]["output"], changed.sum()

    repeated = np.tile(inputs, (epochs, 1)).astype(np.float32), np.tile(targets, epochs).astype(np.int32)
    output, changes = train(*repeated)
    return np.asarray(output["kernel"]).T, np.asarray(output["bias"]), int(changes)


def rosenblatt(inputs, targets, classes, epochs=1):
    """The rule by hand."""
    units = [1] if classes == 2 else range(classes)
    weights, biases = np.zeros((len(units), inputs.shape[1])), np.zeros(len(units))
    for _ in range(epochs):
        for x, target in zip(inputs, targets, strict=True):
            for unit, yes in enumerate(units):
                wanted = 1 if target == yes else -1
                if wanted * (weights[unit] @ x + biases[unit]) <= 0:
                    weights[unit] += RATE * wanted * x
                    biases[unit] += RATE * wanted
    return weights, biases


@pytest.mark.parametrize("classes", [2, 4])
def test_sgd_on_the_criterion_is_rosenblatts_rule_bit_by_bit(classes):
    inputs, targets = problem(classes)
    weights, biases, _ = ours(inputs, targets, classes, epochs=2)
    expected_weights, expected_biases = rosenblatt(inputs, targets, classes, epochs=2)
    np.testing.assert_array_equal(weights, expected_weights)
    np.testing.assert_array_equal(biases, expected_biases)
    assert (np.abs(weights).max(axis=1) > 0).all()

    theirs = sklearn.linear_model.Perceptron(max_iter=2, tol=None, shuffle=False, eta0=RATE).fit(inputs, targets)
    np.testing.assert_array_equal(weights, theirs.coef_)
    np.testing.assert_array_equal(biases, theirs.intercept_)


def test_a_whole_run_is_the_rule_in_the_order_of_the_run():
    """Through `nm.train`: batches of one, each epoch in an order of its own."""
    inputs, targets = problem(2, size=50)
    experiment = nm.Experiment(
        dataset=nm.data.Arrays(inputs=inputs.astype(np.float32), targets=targets, standardize=False, split=ALL),
        model=Perceptron(),
        task=nm.tasks.BinaryClassification(objective="perceptron"),
        optimizer=nm.optim.SGD(learning_rate=RATE),
        training=nm.Training(batch_size=1, epochs=2),
    )
    result = nm.train(experiment, None)
    order = np.concatenate([batch_indices_numpy(0, step, 1, 50) for step in range(100)])
    weights, biases = rosenblatt(inputs[order], targets[order], 2)
    output = result.state.params["output"]
    np.testing.assert_array_equal(np.asarray(output["kernel"]).T, weights)
    np.testing.assert_array_equal(output["bias"], biases)


def test_it_ends_if_a_plane_divides_the_classes_within_novikoffs_bound():
    random = np.random.default_rng(1)
    plane = np.array([0.6, -0.8, 0.3])
    inputs = random.normal(size=(200, 2))
    with_one = np.concatenate([inputs, np.ones((200, 1))], axis=1)
    margins = with_one @ plane / np.linalg.norm(plane)
    far = np.abs(margins) > 0.1
    inputs, targets = inputs[far], (margins[far] > 0).astype(int)
    bound = (np.linalg.norm(with_one[far], axis=1).max() / np.abs(margins[far]).min()) ** 2
    weights, biases, mistakes = ours(inputs, targets, 2, epochs=40)
    assert 0 < mistakes <= bound
    assert ((inputs @ weights[0] + biases[0] > 0) == targets).all()
    # From zero the learning rate is a unit of length.
    longer, _, as_many = ours(inputs, targets, 2, epochs=40, rate=8 * RATE)
    np.testing.assert_array_equal(longer, 8 * weights)
    assert as_many == mistakes


def test_the_criterion_counts_zero_as_a_mistake_and_lets_nan_through():
    sums = jnp.array([-2.0, 0.0, 3.0, -2.0, 0.0, 3.0])
    targets = jnp.array([1, 1, 1, 0, 0, 0])
    np.testing.assert_array_equal(perceptron_criterion(sums, targets, 4.0), [8, 0, 0, 0, 0, 3])
    slope = jax.grad(lambda sums: perceptron_criterion(sums, targets, 4.0).sum())(sums)
    np.testing.assert_array_equal(slope, [-4, -4, 0, 0, 1, 1])
    assert np.isnan(perceptron_criterion(jnp.array([jnp.nan, jnp.nan]), jnp.array([0, 1]))).all()


SPEC = {
    classes: nm.data.Spec({"targets": jax.ShapeDtypeStruct((), np.int32)}, {}, class_names=tuple("abcd"[:classes]))
    for classes in (2, 4)
}


@pytest.mark.parametrize(("classes", "units"), [(2, 1), (4, 4)])
def test_the_task_says_how_many_units_and_takes_the_step(classes, units):
    task = nm.tasks.BinaryClassification if classes == 2 else nm.tasks.Classification
    task = task(objective="perceptron")
    assert task.num_outputs(SPEC[classes]) == units
    sums = np.array([[-3.0, -1.0, -2.0, -4.0], [0.0, 0.1, 0.2, 0.0]], np.float32)[:, :units]
    assert task.check(jax.ShapeDtypeStruct(sums.shape, sums.dtype), SPEC[classes]) is None
    said = task.predict(sums, SPEC[classes])
    answers = [0, 0] if classes == 2 else [1, 2]
    np.testing.assert_array_equal(said["class"], answers)
    np.testing.assert_array_equal(said["probabilities"], np.eye(classes)[answers])


@pytest.mark.parametrize("kind", [nm.tasks.BinaryClassification, nm.tasks.Classification])
def test_mistakes_have_no_probabilities_to_smooth(kind):
    message = kind(objective="perceptron", label_smoothing=0.1).check(jax.ShapeDtypeStruct((8, 1), np.float32), SPEC[2])
    assert message == f"{kind.__name__}(objective=perceptron) has no probabilities to smooth: use label_smoothing=0"


def test_images_are_flattened_and_sums_are_at_least_float32():
    images = jax.ShapeDtypeStruct((2, 4, 5, 3), jnp.float32)
    for dtype in (jnp.float32, jnp.bfloat16):
        sums, variables = jax.eval_shape(Perceptron(7, dtype=dtype).init_with_output, jax.random.key(0), images)
        assert (sums.shape, sums.dtype) == ((2, 7), jnp.float32)
        kernel = variables["params"]["output"]["kernel"]
        assert (kernel.shape, kernel.dtype) == ((60, 7), jnp.float32)
        assert jax.eval_shape(Perceptron(7, dtype=dtype).apply, variables, jnp.zeros((0, 60))).shape == (0, 7)
    with pytest.raises(ValueError, match="number of units, 1 for two classes"):
        Perceptron().init(jax.random.key(0), np.zeros((1, 2)))


def test_the_step_and_a_network_of_steps():
    np.testing.assert_array_equal(step(jnp.array([-1.0, -0.0, 0.0, 1e-30, jnp.inf, jnp.nan])), [0, 0, 0, 1, 1, jnp.nan])
    assert step(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16
    # One perceptron cannot compute "either, or" (Minsky & Papert 1969), two layers of them can.
    params = {
        "hidden_0": {"kernel": jnp.ones((2, 2)), "bias": jnp.array([-0.5, -1.5])},
        "output": {"kernel": jnp.array([[1.0], [-1.0]]), "bias": jnp.array([-0.5])},
    }
    model = MLP(hidden=(2,), num_classes=1, activation=step)
    sums = model.apply({"params": params}, jnp.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
    np.testing.assert_array_equal(step(sums)[:, 0], [0, 1, 1, 0])
