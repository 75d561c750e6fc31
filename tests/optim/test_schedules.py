"""Schedules against optax's, and as functions of traced numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from neuralmon.optim import Constant, Cosine, Linear

STEPS = 100


def values(schedule, num_steps=STEPS, until=None):
    steps = jnp.arange((until or num_steps) + 1)
    return np.asarray(jax.vmap(lambda step: schedule.value(step, num_steps))(steps))


def of_optax(schedule, until=STEPS):
    return np.asarray([schedule(step) for step in range(until + 1)])


def warmed_up(after, warmup_steps, peak):
    """optax rises from its init_value at step 0 to the peak at step w. Ours is peak * (step + 1) / w: no update has a
    rate of zero, and the peak is reached one step earlier, at w - 1."""
    rise = optax.linear_schedule(peak / warmup_steps, peak, warmup_steps - 1)
    return optax.join_schedules([rise, after], [warmup_steps])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(0.3), optax.constant_schedule(0.3)),
        (Linear(0.3), optax.linear_schedule(0.3, 0.0, STEPS)),
        (Linear(0.3, end=0.1), optax.linear_schedule(0.3, 0.1, STEPS)),
        (Cosine(0.3), optax.cosine_decay_schedule(0.3, STEPS)),
        (Cosine(0.3, end=0.03), optax.cosine_decay_schedule(0.3, STEPS, alpha=0.1)),  # theirs is relative to the peak
        (Constant(0.3, warmup=0.1), warmed_up(optax.constant_schedule(0.3), 10, 0.3)),
        (Linear(0.3, warmup=0.2, end=0.1), warmed_up(optax.linear_schedule(0.3, 0.1, 80), 20, 0.3)),
        (Cosine(0.3, warmup=0.2), warmed_up(optax.cosine_decay_schedule(0.3, 80), 20, 0.3)),
        (Cosine(0.3, warmup=0.2, end=0.03), warmed_up(optax.cosine_decay_schedule(0.3, 80, alpha=0.1), 20, 0.3)),
    ],
    ids=lambda value: str(value) if dataclasses.is_dataclass(value) else "",
)
def test_the_curves_are_those_of_optax(ours, theirs):
    np.testing.assert_allclose(values(ours), of_optax(theirs), rtol=1e-5, atol=1e-7)
    # Beyond the end it stays as it is.
    np.testing.assert_allclose(values(ours, until=STEPS + 30)[STEPS:], values(ours)[STEPS], rtol=1e-6)


@pytest.mark.parametrize("kind", [Constant, Linear, Cosine])
def test_values_at_the_corners(kind):
    schedule = kind(0.5, warmup=0.25)
    curve = values(schedule)
    assert curve[0] == pytest.approx(0.5 / 25)
    assert curve[24] == curve[25] == pytest.approx(0.5)
    assert curve[STEPS] == pytest.approx(0.5 if kind is Constant else 0.0, abs=1e-7)
    assert curve.max() == pytest.approx(0.5)
    assert (curve >= 0).all()
    assert (np.diff(curve[:25]) > 0).all()
    assert (np.diff(curve[25:]) <= 0).all()
    assert values(kind(0.5))[0] == pytest.approx(0.5)  # without a warm-up, at once


@pytest.mark.parametrize("kind", [Constant, Linear, Cosine])
@pytest.mark.parametrize("num_steps", [1, 2, 7, 100])
@pytest.mark.parametrize("warmup", [0.0, 1e-6, 0.005, 0.15, 0.999, 1.0])
def test_any_warmup_of_any_run_is_finite_positive_and_at_most_the_peak(kind, num_steps, warmup):
    curve = values(kind(0.5, warmup=warmup), num_steps)[:num_steps]  # the updates from 0 to num_steps - 1
    assert np.isfinite(curve).all()
    assert (curve > 0).all()
    assert curve.max() <= 0.5 * (1 + 1e-6)


@pytest.mark.parametrize("kind", [Linear, Cosine])
def test_the_shape_does_not_depend_on_the_length(kind):
    schedule = kind(0.5, warmup=0.5, end=0.1)
    np.testing.assert_allclose(values(schedule, 10_000)[5000::100], values(schedule, 100)[50:], rtol=1e-5)


@pytest.mark.parametrize(
    "schedule", [Constant(0.3, 0.1), Linear(0.3, 0.1, 0.05), Cosine(0.3, 0.0), Cosine(0.3, 1.0), Cosine(0.0)], ids=str
)
def test_traced_numbers_give_the_same_and_trace_once(schedule):
    numbers = {field.name: getattr(schedule, field.name) for field in dataclasses.fields(schedule)}
    traces = []

    @jax.jit
    def traced(numbers, step):
        traces.append(step)
        return type(schedule)(**numbers).value(step, STEPS)

    for step in (0, 9, 10, 57, STEPS):
        assert traced(numbers, step) == pytest.approx(float(schedule.value(step, STEPS)), rel=1e-6, abs=1e-8)
    traced({name: number / 2 for name, number in numbers.items()}, 3)
    assert len(traces) == 1
