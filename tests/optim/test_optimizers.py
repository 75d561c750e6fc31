"""Optimizers against optax's own, against the papers' formulas in NumPy, and as functions of traced numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuralmon.optim import SGD, Adam, AdamW, Constant, Cosine, Linear

STEPS = 20
SHAPES = {"dense": {"kernel": (6, 4), "bias": (4,)}, "norm": {"scale": (4,), "bias": (4,)}, "embedding": (5, 3)}


def draw(seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: generator.normal(size=shape).astype(np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )


START, TARGET, CURVATURE = draw(0), draw(1), jax.tree.map(np.abs, draw(2))


def gradient(params):
    """Of sum(c (w - t)^2) / 2."""
    return jax.tree.map(lambda w, t, c: c * (w - t), params, TARGET, CURVATURE)


def run(transform, params=START, steps=STEPS):
    params = jax.tree.map(jnp.asarray, params)
    state = transform.init(params)
    for _ in range(steps):
        updates, state = transform.update(gradient(params), state, params)
        params = optax.apply_updates(params, updates)
    return params


def run_numpy(update, rate):
    """`update(gradients, w, t)` gives one leaf's direction from all its gradients so far, in float64; t from 1."""
    params = jax.tree.map(lambda w: w.astype(np.float64), START)
    history = []
    for step in range(STEPS):
        history.append(jax.tree.leaves(gradient(params)))
        leaves, tree = jax.tree_util.tree_flatten_with_path(params)
        moved = [
            w - rate(step) * update([gradients[i] for gradients in history], w, path[-1].key)
            for i, (path, w) in enumerate(leaves)
        ]
        params = jax.tree.unflatten(tree, moved)
    return params


def assert_close(one, other, rtol=2e-5, atol=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


def not_bias_or_scale(params):
    return {"dense": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}, "embedding": True}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(learning_rate=0.1), optax.sgd(0.1)),
        (SGD(learning_rate=0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        (SGD(learning_rate=Cosine(0.1)), optax.sgd(optax.cosine_decay_schedule(0.1, STEPS))),
        (SGD(learning_rate=0.1, clip_norm=0.5), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1))),
        (Adam(), optax.adam(1e-3)),
        (Adam(learning_rate=0.03, b1=0.8, b2=0.95, eps=1e-3), optax.adam(0.03, 0.8, 0.95, 1e-3)),
        (Adam(learning_rate=Linear(0.1)), optax.adam(optax.linear_schedule(0.1, 0, STEPS))),
        (AdamW(), optax.adamw(1e-3, weight_decay=1e-2, mask=not_bias_or_scale)),
        (
            AdamW(learning_rate=0.03, weight_decay=0.3, b1=0.8, b2=0.95, eps=1e-3),
            optax.adamw(0.03, 0.8, 0.95, 1e-3, weight_decay=0.3, mask=not_bias_or_scale),
        ),
        (
            AdamW(learning_rate=0.03, weight_decay=0.3, clip_norm=0.1),
            optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(0.03, weight_decay=0.3, mask=not_bias_or_scale)),
        ),
    ],
    ids=lambda value: str(value) if dataclasses.is_dataclass(value) else "",
)
def test_twenty_steps_are_those_of_optax(ours, theirs):
    assert_close(run(ours.transform(STEPS)), run(theirs), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("momentum", [None, 0.0, 0.9])
def test_sgd_is_the_textbook_formula(momentum):
    def velocity(gradients, w, name):
        v = np.zeros_like(w)
        for g in gradients:
            v = (momentum or 0.0) * v + g
        return v

    ours = SGD(learning_rate=0.1, momentum=momentum).transform(STEPS)
    assert_close(run(ours), run_numpy(velocity, lambda step: 0.1))


@pytest.mark.parametrize("weight_decay", [None, 0.0, 0.3])
def test_adam_and_adamw_are_the_papers_algorithms(weight_decay):
    b1, b2, eps = 0.8, 0.95, 1e-3

    def direction(gradients, w, name):
        m = v = np.zeros_like(w)
        for g in gradients:
            m = b1 * m + (1 - b1) * g
            v = b2 * v + (1 - b2) * g**2
        t = len(gradients)
        step = (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
        return step + (weight_decay or 0.0) * w * (name not in ("bias", "scale"))

    decay = {} if weight_decay is None else {"weight_decay": weight_decay}
    ours = (Adam if weight_decay is None else AdamW)(learning_rate=Linear(0.1), b1=b1, b2=b2, eps=eps, **decay)
    assert_close(run(ours.transform(STEPS)), run_numpy(direction, lambda step: 0.1 * (1 - step / STEPS)))


def test_weight_decay_spares_biases_and_scales():
    transform = AdamW(learning_rate=0.1, weight_decay=0.5).transform(STEPS)
    zeros = jax.tree.map(np.zeros_like, START)
    updates, _ = transform.update(zeros, transform.init(START), START)
    expected = jax.tree.map(
        lambda w, decayed: -0.1 * 0.5 * w if decayed else np.zeros_like(w), START, not_bias_or_scale(START)
    )
    assert_close(updates, expected, rtol=1e-6)


@pytest.mark.parametrize("clip_norm", [1e-3, 1.0, 1e6])
def test_clipping_keeps_the_direction_and_bounds_the_norm(clip_norm):
    transform = SGD(learning_rate=1.0, clip_norm=clip_norm).transform(STEPS)
    gradients = gradient(START)
    updates, _ = transform.update(gradients, transform.init(START), START)
    norm = np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(gradients)))
    scale = min(1.0, clip_norm / norm)
    assert_close(updates, jax.tree.map(lambda g: -g * scale, gradients), rtol=1e-5, atol=0)


def test_a_gradient_of_zero_is_clipped_to_zero():
    transform = SGD(learning_rate=1.0, clip_norm=0.1).transform(STEPS)
    zeros = jax.tree.map(np.zeros_like, START)
    updates, _ = transform.update(zeros, transform.init(START), START)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(learning_rate=0.1, momentum=0.9, clip_norm=1.0),
        Adam(learning_rate=0.1, clip_norm=1.0),
        AdamW(learning_rate=0.1, clip_norm=1.0),
    ],
    ids=str,
)
def test_traced_numbers_give_the_same_and_trace_once(optimizer):
    numbers = {
        field.name: getattr(optimizer, field.name) for field in dataclasses.fields(optimizer) if field.name != "frozen"
    }
    traces = []

    @jax.jit
    def traced(numbers):
        traces.append(numbers)
        return run(type(optimizer)(**numbers).transform(STEPS), steps=3)

    # Compiled, sums are made in another order.
    assert_close(traced(numbers), run(optimizer.transform(STEPS), steps=3))
    other = {name: number * 0.5 for name, number in numbers.items()}
    assert_close(traced(other), run(type(optimizer)(**other).transform(STEPS), steps=3))
    assert len(traces) == 1


def test_a_schedule_of_traced_numbers_traces_once():
    traces = []

    @jax.jit
    def traced(peak, warmup, end):
        traces.append(peak)
        return run(SGD(learning_rate=Cosine(peak, warmup, end)).transform(STEPS), steps=3)

    for numbers in ((0.1, 0.0, 0.0), (0.1, 0.5, 0.01), (0.2, 1.0, 0.1)):
        assert_close(traced(*numbers), run(SGD(learning_rate=Cosine(*numbers)).transform(STEPS), steps=3))
    assert len(traces) == 1


def test_a_schedule_starts_at_step_0_and_moves_on_with_each_update():
    schedule = Constant(0.8, warmup=0.2)  # 0.2 0.4 0.6 0.8 0.8 ...
    transform = SGD(learning_rate=schedule).transform(STEPS)
    state = transform.init({"w": jnp.zeros(())})
    rates = []
    for _ in range(6):
        updates, state = transform.update({"w": jnp.ones(())}, state)
        rates.append(-float(updates["w"]))
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])
