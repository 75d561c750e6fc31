"""Schedules against optax's, PyTorch's and the papers' formulas, and as functions of traced numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuralmon as nm
from neuralmon.optim import (
    Constant,
    Cosine,
    CosineRestarts,
    Exponential,
    InverseSquareRoot,
    Linear,
    OneCycle,
    Polynomial,
    Schedule,
    Step,
)

STEPS = 100


def values(schedule, num_steps=STEPS, until=None):
    steps = jnp.arange((until or num_steps) + 1)
    return np.asarray(jax.vmap(lambda step: schedule.value(step, num_steps))(steps))


def of_optax(schedule, until=STEPS):
    return np.asarray(jax.vmap(schedule)(jnp.arange(until + 1)))


def warmed_up(after, warmup_steps, peak):
    """optax rises from its init_value at step 0 to the peak at step w. Ours is peak * (step + 1) / w: no update has a
    rate of zero, and the peak is reached one step earlier, at w - 1."""
    rise = optax.linear_schedule(peak / warmup_steps, peak, warmup_steps - 1)
    return optax.join_schedules([rise, after], [warmup_steps])


def piecewise(peak, falls):
    return optax.piecewise_constant_schedule(peak, falls)


def restarts(peak, alpha, *lengths):
    falls = [optax.cosine_decay_schedule(peak, length, alpha) for length in lengths]
    return optax.join_schedules(falls, np.cumsum(lengths)[:-1].tolist())


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
        (Polynomial(0.3), optax.polynomial_schedule(0.3, 0.0, 2, STEPS)),
        (Polynomial(0.3, 0.2, 0.1, power=0.5), warmed_up(optax.polynomial_schedule(0.3, 0.1, 0.5, 80), 20, 0.3)),
        (Exponential(0.3), optax.exponential_decay(0.3, STEPS, 0.01)),
        (Exponential(0.3, 0.2, 0.5), warmed_up(optax.exponential_decay(0.3, 80, 0.5), 20, 0.3)),
        (Step(0.3), piecewise(0.3, {50: 0.1, 75: 0.1})),
        (Step(0.3, factor=0.5, at=(0.9, 0.3, 0.6)), piecewise(0.3, {30: 0.5, 60: 0.5, 90: 0.5})),
        (Step(0.3, warmup=0.3, at=(0.3,)), warmed_up(piecewise(0.3, {21: 0.1}), 30, 0.3)),
        (Step(0.3, at=()), optax.constant_schedule(0.3)),
        (OneCycle(0.3), optax.cosine_onecycle_schedule(STEPS, 0.3, 0.3, 25, 1e4)),
        (
            OneCycle(0.3, rise=0.6, start_factor=0.5, end_factor=0.1),
            optax.cosine_onecycle_schedule(STEPS, 0.3, 0.6, 2, 5),
        ),
        (CosineRestarts(0.3, cycles=1), optax.cosine_decay_schedule(0.3, STEPS)),
        (CosineRestarts(0.3, end=0.03, cycles=4, growth=1.0), restarts(0.3, 0.1, 25, 25, 25, 25)),
        (CosineRestarts(0.3, 0.3, cycles=3, growth=2.0), warmed_up(restarts(0.3, 0.0, 10, 20, 40), 30, 0.3)),
        (CosineRestarts(0.3, cycles=2, growth=0.25), restarts(0.3, 0.0, 80, 20)),
    ],
    ids=lambda value: str(value) if dataclasses.is_dataclass(value) else "",
)
def test_the_curves_are_those_of_optax(ours, theirs):
    np.testing.assert_allclose(values(ours), of_optax(theirs), rtol=1e-6, atol=3e-7)
    # Beyond the end it stays as it is.
    np.testing.assert_allclose(values(ours, until=STEPS + 30)[STEPS:], values(ours)[STEPS], rtol=1e-6)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Constant(0.3), lambda s, o: s.ConstantLR(o, factor=1.0)),
        (Linear(0.3, end=0.1), lambda s, o: s.LinearLR(o, 1.0, 1 / 3, STEPS)),
        (Polynomial(0.3, power=0.9), lambda s, o: s.PolynomialLR(o, STEPS, 0.9)),
        (Cosine(0.3, end=0.03), lambda s, o: s.CosineAnnealingLR(o, STEPS, 0.03)),
        (
            CosineRestarts(0.3, end=0.03, cycles=2, growth=3.0),
            lambda s, o: s.CosineAnnealingWarmRestarts(o, STEPS // 4, 3, 0.03),
        ),
        (Step(0.3, at=(0.29, 0.58)), lambda s, o: s.MultiStepLR(o, [29, 58])),
        (Step(0.3, factor=0.5, at=(0.2, 0.4, 0.6, 0.8)), lambda s, o: s.StepLR(o, 20, 0.5)),
        (Exponential(0.3, end_factor=0.05), lambda s, o: s.ExponentialLR(o, 0.05 ** (1 / STEPS))),
        # Theirs ends with the last update, ours with the end of the run: an update more.
        (
            OneCycle(0.3, rise=0.4),
            lambda s, o: s.OneCycleLR(o, 0.3, total_steps=STEPS + 1, pct_start=(0.4 * STEPS + 1) / (STEPS + 1)),
        ),
        # Vaswani et al., eq. 3, one update later after the warm-up: every schedule here stays a second update at peak.
        (
            InverseSquareRoot(0.3, warmup=0.2),
            lambda s, o: s.LambdaLR(o, lambda t: 20**0.5 * min((t + 1) * 20**-1.5, max(t, 1) ** -0.5)),
        ),
    ],
    ids=lambda value: str(value) if dataclasses.is_dataclass(value) else "",
)
def test_the_curves_are_those_of_pytorch(ours, theirs):
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.3)
    scheduler = theirs(torch.optim.lr_scheduler, optimizer)
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(values(ours)[:STEPS], rates, rtol=1e-6, atol=3e-7)


SCHEDULES = [kind for name in nm.optim.__all__ if issubclass(kind := getattr(nm.optim, name), Schedule)]
SCHEDULES.remove(Schedule)


def compiled(kind, most_steps, **fields):
    """Returns a function of a warm-up and a number of steps; the values at later steps are those of no update."""

    @jax.jit
    def curve(warmup, num_steps):
        schedule = kind(1.0, warmup, **fields)
        return jax.vmap(lambda step: schedule.value(step, num_steps))(jnp.arange(most_steps))

    return lambda warmup, num_steps: np.asarray(curve(warmup, num_steps))[:num_steps]


def test_falls_and_restarts_are_at_the_update_meant():
    at = (0.1, 0.3, 0.6, 0.7, 0.9)
    steps, restarts = compiled(Step, 93_800, at=at), compiled(CosineRestarts, 93_800, cycles=5, growth=1.0)
    for num_steps in (10, 30, 70, 130, 1000, 93_800):
        for warmup in (0.0, 0.1):
            begin, length = round(num_steps * warmup), num_steps - num_steps * warmup
            meant = {place: int(np.ceil(round(length * place, 6))) for place in (*at, 0.2, 0.4, 0.8)}
            falls = np.flatnonzero(np.diff(steps(warmup, num_steps)[begin:])) + 1
            assert falls.tolist() == [meant[place] for place in at if begin + meant[place] < num_steps]
            rises = np.flatnonzero(np.diff(restarts(warmup, num_steps)[begin:]) > 0) + 1
            assert rises.tolist() == [
                meant[place] for place in (0.2, 0.4, 0.6, 0.8) if begin + meant[place] < num_steps
            ]


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


@pytest.mark.parametrize("kind", SCHEDULES)
def test_any_warmup_of_any_run_is_finite_positive_and_at_most_the_peak(kind):
    curve_of = compiled(kind, 100)
    for num_steps in (1, 2, 7, 100):
        for warmup in (1e-9 if kind is InverseSquareRoot else 0.0, 1e-6, 0.005, 0.15, 0.999, 1.0):
            curve = curve_of(warmup, num_steps)  # the updates from 0 to num_steps - 1
            assert np.isfinite(curve).all()
            assert (curve > 0).all()
            assert curve.max() <= 1 + 1e-6


@pytest.mark.parametrize("kind", SCHEDULES)
def test_the_shape_does_not_depend_on_the_length(kind):
    schedule = kind(0.5, warmup=0.5)
    sparse = [schedule.value(step, 10_000) for step in range(5000, 10_001, 100)]
    np.testing.assert_allclose(sparse, values(schedule, 100)[50:], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rise", [0.0, 1e-3, 1.0])
def test_one_cycle_may_only_rise_or_only_fall(rise):
    curve = values(OneCycle(0.5, rise=rise))
    assert np.isfinite(curve).all()
    assert curve.max() == pytest.approx(0.5, abs=1e-3)
    assert curve[0] == pytest.approx(0.5 if rise == 0 else 0.02)
    assert curve[STEPS] == pytest.approx(0.5 if rise == 1 else 2e-6, abs=1e-7)


@pytest.mark.parametrize(
    "schedule",
    [
        Constant(0.3, 0.1),
        Linear(0.3, 0.1, 0.05),
        Cosine(0.3, 0.0),
        Cosine(0.3, 1.0),
        Cosine(0.0),
        Polynomial(0.3, 0.1, 0.05, 3.0),
        CosineRestarts(0.3, 0.1, 0.05, 3, 1.5),
        OneCycle(0.3, 0.1, 0.4, 0.1, 0.01),
        Step(0.3, 0.1, 0.5, (0.2, 0.7)),
        Exponential(0.3, 0.1, 0.2),
        InverseSquareRoot(0.3, 0.2),
    ],
    ids=str,
)
def test_traced_numbers_give_the_same_and_trace_once(schedule):
    fields = {field.name: getattr(schedule, field.name) for field in dataclasses.fields(schedule)}
    numbers = {name: value for name, value in fields.items() if isinstance(value, float)}
    structure = {name: value for name, value in fields.items() if not isinstance(value, float)}
    traces = []

    @jax.jit
    def traced(numbers, step):
        traces.append(step)
        return type(schedule)(**numbers, **structure).value(step, STEPS)

    for step in (0, 9, 10, 57, STEPS):
        assert traced(numbers, step) == pytest.approx(float(schedule.value(step, STEPS)), rel=1e-6, abs=1e-8)
    other = {name: number / 2 for name, number in numbers.items()}
    halved = type(schedule)(**other, **structure)
    assert traced(other, 33) == pytest.approx(float(halved.value(33, STEPS)), rel=1e-6, abs=1e-8)
    assert len(traces) == 1
