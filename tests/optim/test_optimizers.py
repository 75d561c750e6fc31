"""Optimizers against optax's own, against PyTorch's and the papers' formulas, as functions of traced numbers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuralmon as nm
from neuralmon.optim import (
    LAMB,
    SGD,
    AdaDelta,
    Adafactor,
    AdaGrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    LayerRate,
    Linear,
    Lion,
    Muon,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
)

STEPS = 20
SHAPES = {"dense": {"kernel": (6, 4), "bias": (4,)}, "norm": {"scale": (4,), "bias": (4,)}, "embedding": (5, 3)}
IS_WEIGHT = {"dense": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}, "embedding": True}
IS_KERNEL = {"dense": {"kernel": True, "bias": False}, "norm": {"scale": False, "bias": False}, "embedding": False}


def draw(seed):
    generator = np.random.default_rng(seed)
    return jax.tree.map(lambda shape: generator.normal(size=shape), SHAPES, is_leaf=lambda x: isinstance(x, tuple))


# In float64 throughout (jax.enable_x64), where two right implementations agree far better than 1e-6.
START, TARGET, CURVATURE = draw(0), draw(1), jax.tree.map(np.abs, draw(2))


def gradient(params, step):
    """Of sum(c (w - t)^2) / 2, with a disturbance that changes from step to step."""
    return jax.tree.map(lambda w, t, c: c * (w - t) + 0.1 * (step % 3 - 1.0), params, TARGET, CURVATURE)


def descend(transform):
    """Returns the parameters after each of the steps, stacked."""

    def step(carry, number):
        params, state = carry
        updates, state = transform.update(gradient(params, number), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    start = jax.tree.map(jnp.asarray, START)
    return jax.lax.scan(step, (start, transform.init(start)), jnp.arange(STEPS, dtype=jnp.float64))[1]


def assert_close(one, other, rtol=1e-6, atol=1e-7):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), one, other)


@dataclasses.dataclass(frozen=True)
class Case:
    """An optimizer's numbers and structure, what optax calls it, and what PyTorch calls it."""

    kind: type[Optimizer]
    numbers: dict[str, float]
    optax: Callable[..., Any]
    torch: Callable[..., Any] | None = None
    structure: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __str__(self):
        return "-".join([self.kind.__name__, *(f"{name}={value}" for name, value in self.structure.items())])


def by_label(labels, **transforms):
    return optax.partition(transforms, jax.tree.map(lambda yes: "yes" if yes else "no", labels))


def torch_groups(params, weight_decay):
    """The parameter groups of torch.optim: what decays, and what does not."""
    leaves = list(zip(params, jax.tree.leaves(IS_WEIGHT), strict=True))
    return [
        {"params": [p for p, decays in leaves if decays], "weight_decay": weight_decay},
        {"params": [p for p, decays in leaves if not decays], "weight_decay": 0.0},
    ]


ADAM = {"learning_rate": 0.1, "b1": 0.8, "b2": 0.95, "eps": 1e-3}
ADAMW = {**ADAM, "weight_decay": 0.3}
CASES = [
    Case(SGD, {"learning_rate": 0.1}, lambda learning_rate: optax.sgd(learning_rate)),
    Case(
        SGD,
        {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.2},
        lambda learning_rate, momentum, weight_decay: optax.chain(
            optax.add_decayed_weights(weight_decay, IS_WEIGHT), optax.sgd(learning_rate, momentum)
        ),
        lambda t, p, n: [t.SGD(torch_groups(p, n["weight_decay"]), n["learning_rate"], n["momentum"])],
    ),
    Case(
        SGD,
        {"learning_rate": 0.1, "momentum": 0.9},
        lambda learning_rate, momentum: optax.sgd(learning_rate, momentum, nesterov=True),
        lambda t, p, n: [t.SGD(p, n["learning_rate"], n["momentum"], nesterov=True)],
        {"nesterov": True},
    ),
    Case(
        Adam,
        ADAM,
        lambda learning_rate, b1, b2, eps: optax.adam(learning_rate, b1, b2, eps),
        lambda t, p, n: [t.Adam(p, n["learning_rate"], (n["b1"], n["b2"]), n["eps"])],
    ),
    Case(
        AdamW,
        ADAMW,
        lambda learning_rate, b1, b2, eps, weight_decay: optax.adamw(
            learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=IS_WEIGHT
        ),
        lambda t, p, n: [t.AdamW(torch_groups(p, n["weight_decay"]), n["learning_rate"], (n["b1"], n["b2"]), n["eps"])],
    ),
    Case(
        NAdam,
        ADAM,
        lambda learning_rate, b1, b2, eps: optax.nadam(learning_rate, b1, b2, eps),
        # PyTorch lets b1 grow, by 1 - 0.96^(t momentum_decay) / 2; with a huge momentum_decay it is constant, as here.
        lambda t, p, n: [t.NAdam(p, n["learning_rate"], (n["b1"], n["b2"]), n["eps"], momentum_decay=1e9)],
    ),
    Case(
        RAdam,
        {**ADAM, "eps": 1e-12},  # PyTorch adds it before the mean square is corrected for its start
        lambda learning_rate, b1, b2, eps: optax.radam(learning_rate, b1, b2, eps),
        lambda t, p, n: [t.RAdam(p, n["learning_rate"], (n["b1"], n["b2"]), n["eps"])],
    ),
    Case(
        Lion,
        {"learning_rate": 0.05, "b1": 0.8, "b2": 0.95, "weight_decay": 0.3},
        lambda learning_rate, b1, b2, weight_decay: optax.lion(
            learning_rate, b1, b2, weight_decay=weight_decay, mask=IS_WEIGHT
        ),
    ),
    Case(
        AdaGrad,
        {"learning_rate": 0.5, "initial_sum": 0.1, "eps": 1e-12},  # ours is under the root, PyTorch's beside it
        lambda learning_rate, initial_sum, eps: optax.adagrad(learning_rate, initial_sum, eps),
        lambda t, p, n: [t.Adagrad(p, n["learning_rate"], initial_accumulator_value=n["initial_sum"], eps=n["eps"])],
    ),
    Case(
        AdaDelta,
        {"learning_rate": 1.0, "decay": 0.9, "eps": 1e-2},
        lambda learning_rate, decay, eps: optax.adadelta(learning_rate, decay, eps),
        lambda t, p, n: [t.Adadelta(p, n["learning_rate"], n["decay"], n["eps"])],
    ),
    *[
        Case(
            RMSprop,
            {"learning_rate": 0.05, "decay": 0.8, "eps": 1e-3, **momentum},
            lambda learning_rate, decay, eps, momentum=None, centered=centered: optax.rmsprop(
                learning_rate, decay, eps, eps_in_sqrt=False, centered=centered, momentum=momentum
            ),
            lambda t, p, n, centered=centered: [
                t.RMSprop(p, n["learning_rate"], n["decay"], n["eps"], momentum=n.get("momentum", 0), centered=centered)
            ],
            {"centered": centered},
        )
        for centered, momentum in ((False, {}), (False, {"momentum": 0.5}), (True, {"momentum": 0.5}))
    ],
    Case(
        Adafactor,
        {"learning_rate": 0.2, "decay_power": 0.8, "clip_threshold": 1.0, "eps": 1e-30, "weight_decay": 0.3},
        # optax does not multiply the decay by the learning rate.
        lambda learning_rate, decay_power, clip_threshold, eps, weight_decay: optax.adafactor(
            learning_rate,
            min_dim_size_to_factor=1,
            decay_rate=decay_power,
            clipping_threshold=clip_threshold,
            eps=eps,
            weight_decay_rate=learning_rate * weight_decay,
            weight_decay_mask=IS_WEIGHT,
        ),
        # PyTorch factors every matrix, and bounds the learning rate by 1 / sqrt(step): 0.22 at the last one here.
        lambda t, p, n: [
            t.Adafactor(
                torch_groups(p, n["weight_decay"]),
                n["learning_rate"],
                -n["decay_power"],
                eps=(n["eps"], 1e-3),
                d=n["clip_threshold"],
            )
        ],
        {"min_factored": 1},
    ),
    Case(
        Adafactor,
        {"learning_rate": 0.2, "weight_decay": 0.0},
        lambda learning_rate, weight_decay: optax.adafactor(learning_rate),
    ),
    Case(
        LAMB,
        ADAMW,
        # optax scales the steps of biases and scales too.
        lambda learning_rate, b1, b2, eps, weight_decay: by_label(
            IS_WEIGHT,
            yes=optax.lamb(learning_rate, b1, b2, eps, weight_decay=weight_decay),
            no=optax.adam(learning_rate, b1, b2, eps),
        ),
    ),
    *[
        Case(
            Muon,
            {**ADAMW, "momentum": 0.9, "update_rms": 0.2},
            lambda learning_rate, b1, b2, eps, weight_decay, momentum, update_rms, nesterov=nesterov: by_label(
                IS_KERNEL,
                yes=optax.contrib.muon(
                    learning_rate,
                    beta=momentum,
                    nesterov=nesterov,
                    weight_decay=weight_decay,
                    consistent_rms=update_rms,
                ),
                no=optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=IS_WEIGHT),
            ),
            # PyTorch's momentum begins at zero and is not corrected for that, which changes Nesterov's mixture.
            None if nesterov else lambda t, p, n: torch_muon(t, p, n),
            {"nesterov": nesterov},
        )
        for nesterov in (True, False)
    ],
]


def torch_muon(t, params, n):
    kernels = [p for p, is_kernel in zip(params, jax.tree.leaves(IS_KERNEL), strict=True) if is_kernel]
    groups = torch_groups(params, n["weight_decay"])
    for group in groups:
        group["params"] = [p for p in group["params"] if all(p is not kernel for kernel in kernels)]
    # In PyTorch the scale of 0.2, which update_rms is here, is fixed.
    return [
        t.Muon(kernels, n["learning_rate"], n["weight_decay"], n["momentum"], False, adjust_lr_fn="match_rms_adamw"),
        t.AdamW(groups, n["learning_rate"], (n["b1"], n["b2"]), n["eps"]),
    ]


# It runs 20 small steps: what compiles fastest is fastest.
quickly = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@functools.cache
def results(index):
    """Returns where a case goes with its numbers and with half of each, and how often the program was traced."""
    case, traces = CASES[index], []

    @quickly
    def compiled(numbers):
        traces.append(numbers)
        return descend(case.kind(**numbers, **case.structure).transform(STEPS))

    with jax.enable_x64(True):
        paths = [jax.device_get(compiled(jax.tree.map(jnp.asarray, numbers))) for numbers in both(case)]
    return paths, len(traces)


def both(case):
    return case.numbers, {name: number / 2 for name, number in case.numbers.items()}


each_case = pytest.mark.parametrize("index", range(len(CASES)), ids=lambda index: str(CASES[index]))


@each_case
def test_twenty_steps_are_those_of_optax_and_new_numbers_trace_nothing(index):
    case = CASES[index]
    paths, count = results(index)
    with jax.enable_x64(True):
        reference = quickly(lambda numbers: descend(case.optax(**numbers)))
        for path, numbers in zip(paths, both(case), strict=True):
            assert_close(path, reference(jax.tree.map(jnp.asarray, numbers)))
    assert count == 1
    moved = jax.tree.map(lambda path, start: np.abs(path[-1] - start).max(), paths[0], START)
    assert min(jax.tree.leaves(moved)) > 0.05


@each_case
def test_twenty_steps_are_those_of_pytorch(index, monkeypatch):
    torch = pytest.importorskip("torch")
    case = CASES[index]
    if case.torch is None:
        pytest.skip("PyTorch has no such optimizer")
    # Its Muon multiplies matrices in bfloat16, which has 3 digits.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    params = [torch.tensor(leaf, dtype=torch.float64) for leaf in jax.tree.leaves(START)]
    optimizers, (path, _) = case.torch(torch.optim, params, case.numbers), results(index)[0]
    for step in range(STEPS):
        tree = jax.tree.unflatten(jax.tree.structure(START), [p.numpy() for p in params])
        for p, g in zip(params, jax.tree.leaves(gradient(tree, float(step))), strict=True):
            p.grad = torch.tensor(g)
        for optimizer in optimizers:
            optimizer.step()
        for ours, theirs in zip(jax.tree.leaves(path), params, strict=True):
            np.testing.assert_allclose(ours[step], theirs.numpy(), rtol=1e-6, atol=1e-7)


def run_numpy(update, rate):
    """`update(gradients, w, name)` gives one leaf's direction from all its gradients so far."""
    params, path, history = START, [], []
    for step in range(STEPS):
        history.append(jax.tree.leaves(gradient(params, float(step))))
        leaves, tree = jax.tree_util.tree_flatten_with_path(params)
        moved = [
            w - rate * update([gradients[i] for gradients in history], w, place[-1].key)
            for i, (place, w) in enumerate(leaves)
        ]
        params = jax.tree.unflatten(tree, moved)
        path.append(params)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *path)


def adam_formula(gradients, n):
    m = v = np.zeros_like(gradients[0])
    for g in gradients:
        m = n["b1"] * m + (1 - n["b1"]) * g
        v = n["b2"] * v + (1 - n["b2"]) * g**2
    t = len(gradients)
    return (m / (1 - n["b1"] ** t)) / (np.sqrt(v / (1 - n["b2"] ** t)) + n["eps"])


def decayed(w, name, n):
    return n.get("weight_decay", 0.0) * w * (name not in ("bias", "scale"))


def momentum_formula(gradients, w, name, n):
    v = np.zeros_like(w)
    for g in gradients:
        v = n.get("momentum", 0.0) * v + g
    return v


def lion_formula(gradients, w, name, n):
    m = np.zeros_like(w)
    for g in gradients[:-1]:
        m = n["b2"] * m + (1 - n["b2"]) * g
    return np.sign(n["b1"] * m + (1 - n["b1"]) * gradients[-1]) + decayed(w, name, n)


def lamb_formula(gradients, w, name, n):
    update = adam_formula(gradients, n) + decayed(w, name, n)
    ratio = np.linalg.norm(w) / np.linalg.norm(update)
    return update * (1.0 if name in ("bias", "scale") else ratio)


@pytest.mark.parametrize(
    ("index", "formula"),
    [
        (0, momentum_formula),
        (3, lambda gradients, w, name, n: adam_formula(gradients, n)),
        (4, lambda gradients, w, name, n: adam_formula(gradients, n) + decayed(w, name, n)),
        *[(i, lion_formula) for i, case in enumerate(CASES) if case.kind is Lion],
        *[(i, lamb_formula) for i, case in enumerate(CASES) if case.kind is LAMB],
    ],
    ids=lambda value: str(CASES[value]) if isinstance(value, int) else "",
)
def test_the_papers_algorithms(index, formula):
    for path, numbers in zip(results(index)[0], both(CASES[index]), strict=True):
        assert_close(path, run_numpy(functools.partial(formula, n=numbers), numbers["learning_rate"]))


def test_every_optimizer_is_compared():
    public = {getattr(nm.optim, name) for name in nm.optim.__all__}
    kinds = {kind for kind in public if issubclass(kind, Optimizer)} - {Optimizer}
    assert kinds == {case.kind for case in CASES}


@pytest.mark.parametrize("centered", [False, True])
def test_rmsprop_stays_finite_where_the_gradient_never_changes(centered):
    transform = RMSprop(centered=centered).transform(STEPS)
    gradients = {"w": jnp.linspace(-1e3, 1e3, 50)}
    update = quickly(lambda state: transform.update(gradients, state))
    state = transform.init(gradients)
    for _ in range(200):
        updates, state = update(state)
        assert np.isfinite(np.asarray(updates["w"])).all()


# The base class: schedules, clipping, weight decay, in the program's float32.


def to_float32(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), tree)


START_32 = to_float32(START)


def run(transform):
    params, state = START_32, transform.init(START_32)
    for step in range(3):
        updates, state = transform.update(to_float32(gradient(params, float(step))), state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (SGD(learning_rate=Cosine(0.1)), optax.sgd(optax.cosine_decay_schedule(0.1, STEPS))),
        (Adam(learning_rate=Linear(0.1)), optax.adam(optax.linear_schedule(0.1, 0, STEPS))),
        (SGD(clip_norm=0.5), optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1))),
        (
            AdamW(weight_decay=0.3, clip_norm=0.1),
            optax.chain(optax.clip_by_global_norm(0.1), optax.adamw(1e-3, weight_decay=0.3, mask=IS_WEIGHT)),
        ),
    ],
    ids=["cosine", "linear", "clip", "clip-decay"],
)
def test_schedules_and_clipping_are_those_of_optax(ours, theirs):
    assert_close(*quickly(lambda: (run(ours.transform(STEPS)), run(theirs)))())


@pytest.mark.parametrize("kind", [AdamW, Lion, LAMB, Adafactor, Muon])
def test_weight_decay_is_decoupled_and_spares_biases_and_scales(kind):
    transform = kind(learning_rate=0.1, weight_decay=0.5).transform(STEPS)
    zeros = jax.tree.map(jnp.zeros_like, START_32)
    updates, _ = quickly(lambda params: transform.update(zeros, transform.init(params), params))(START_32)
    # LAMB's step for a layer is as long as the layer's weights, whatever it is made of.
    strength = 1.0 if kind is LAMB else 0.5
    expected = jax.tree.map(lambda w, decays: -0.1 * strength * w * decays, START_32, IS_WEIGHT)
    assert_close(updates, expected)


def test_clipping_keeps_the_direction_and_bounds_the_norm():
    gradients = gradient(START, 0.0)
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradients)))

    @quickly
    def clipped(clip_norm):
        transform = SGD(learning_rate=1.0, clip_norm=clip_norm).transform(STEPS)
        return transform.update(to_float32(gradients), transform.init(START_32), START_32)[0]

    for clip_norm in (1e-3, 1.0, 1e6):
        expected = jax.tree.map(lambda g, clip_norm=clip_norm: -g * min(1.0, clip_norm / norm), gradients)
        assert_close(clipped(clip_norm), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", list(dict.fromkeys(case.kind for case in CASES)))
def test_a_gradient_of_zero_gives_a_finite_step(kind):
    transform = kind(learning_rate=1.0, clip_norm=0.1).transform(STEPS)
    params = jax.tree.map(jnp.zeros_like, START_32)
    updates, _ = quickly(lambda params: transform.update(params, transform.init(params), params))(params)
    assert all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(updates))


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(learning_rate=Cosine(0.1, 0.5, 0.01), momentum=0.9, clip_norm=1.0, weight_decay=0.1),
        Muon(learning_rate=0.1, clip_norm=1.0, layer_rates=(LayerRate("*/bias", 0.5), LayerRate("norm", 3.0))),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_an_experiments_numbers_are_all_traced(optimizer):
    experiment = dataclasses.replace(nm.load_experiment("mlp_mnist"), optimizer=optimizer)
    structure, numbers = nm.experiment.split(experiment)
    own = {path: number for path, number in numbers.items() if path.startswith("optimizer.")}
    assert len(own) == (6 if isinstance(optimizer, SGD) else 10)
    traces = []

    @quickly
    def traced(numbers):
        traces.append(numbers)
        return run(nm.experiment.merge(structure, numbers).optimizer.transform(STEPS))

    for factor in (1.0, 0.5):
        changed = {path: np.float32(factor * number) for path, number in numbers.items()}
        plain = {path: float(number) for path, number in changed.items()}
        # As constants, numbers are folded; Newton's and Schulz's iteration makes what is rounded otherwise larger.
        expected = quickly(lambda plain=plain: run(nm.experiment.merge(structure, plain).optimizer.transform(STEPS)))()
        assert_close(traced(changed), expected, rtol=1e-4, atol=1e-5)
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
