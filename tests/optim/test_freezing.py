"""Frozen parameters: patterns, taking apart and putting together, and that they really stand still."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuralmon as nm
from neuralmon.optim import SGD, AdamW, Cosine, Optimizer
from neuralmon.optim.freezing import combine, partition, path_name, unmatched

TREE = {
    "conv_0": {"kernel": 1, "bias": 2},
    "conv_10": {"kernel": 3},
    "block": {"conv_0": {"kernel": 4, "bias": 5}, "norm": {"scale": 6}},
    "layers": [{"kernel": 7}, {"kernel": 8}],
}


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ((), ()),
        (("*",), (1, 2, 3, 4, 5, 6, 7, 8)),
        (("conv_0",), (1, 2)),
        (("conv_0/kernel",), (1,)),
        (("conv_0/*",), (1, 2)),
        (("conv_*",), (1, 2, 3)),
        (("conv_?",), (1, 2)),
        (("*/bias",), (2, 5)),
        (("*/conv_0",), (4, 5)),
        (("block",), (4, 5, 6)),
        (("block/conv_0",), (4, 5)),
        (("layers/1",), (8,)),
        (("conv",), ()),
        (("Conv_0",), ()),
        (("conv_10", "*/bias", "block/norm"), (2, 3, 5, 6)),
    ],
    ids=str,
)
def test_patterns(patterns, frozen):
    trainable_part, frozen_part = partition(TREE, patterns)
    assert sorted(jax.tree.leaves(frozen_part)) == sorted(frozen)
    assert sorted(jax.tree.leaves(trainable_part)) == sorted(set(range(1, 9)) - set(frozen))
    assert combine(trainable_part, frozen_part) == TREE


def test_unmatched_patterns_are_found():
    assert unmatched(TREE, ("conv_0", "conv", "*/bias", "decoder/*")) == ("conv", "decoder/*")
    assert unmatched(TREE, ()) == ()
    assert unmatched({}, ("*",)) == ("*",)


def test_paths_read_as_in_a_summary():
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(TREE)]
    assert "block/conv_0/kernel" in names
    assert "layers/1/kernel" in names


def draw_params():
    generator = np.random.default_rng(0)
    shapes = {"body": {"kernel": (5, 7), "bias": (7,)}, "head": {"kernel": (7, 3), "bias": (3,)}}
    return jax.tree.map(
        lambda shape: jnp.asarray(generator.normal(size=shape), jnp.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )


@pytest.mark.parametrize("kind", [SGD, AdamW])
@pytest.mark.parametrize("frozen", [("body",), ("*/bias",), ("body", "head/kernel"), ("*",)], ids=str)
def test_a_frozen_parameter_has_no_state(kind, frozen):
    extra = {"momentum": 0.9} if kind is SGD else {}
    trainable, _ = partition(draw_params(), frozen)
    state = kind(learning_rate=Cosine(0.1), frozen=frozen, **extra).transform(10).init(trainable)
    moments = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim > 0)
    assert moments == (1 if kind is SGD else 2) * sum(leaf.size for leaf in jax.tree.leaves(trainable))


KINDS = [kind for name in nm.optim.__all__ if issubclass(kind := getattr(nm.optim, name), Optimizer)]


@pytest.mark.parametrize(
    ("kind", "frozen"),
    [
        *[(SGD, patterns) for patterns in (("body",), ("body", "head/kernel"), ("*",))],
        *[(kind, ("*/bias", "head/kernel")) for kind in KINDS if kind is not Optimizer],
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else value.__name__,
)
def test_a_frozen_parameter_does_not_move_by_a_bit(kind, frozen):
    optimizer = kind(learning_rate=Cosine(0.1), clip_norm=1.0, frozen=frozen)
    params = draw_params()
    transform = optimizer.transform(10)
    trainable, still = partition(params, optimizer.frozen)
    state = transform.init(trainable)

    def loss(trainable):
        whole = combine(trainable, still)
        hidden = jnp.ones((2, 5)) @ whole["body"]["kernel"] + whole["body"]["bias"]
        return ((jnp.tanh(hidden) @ whole["head"]["kernel"] + whole["head"]["bias"]) ** 2).sum()

    @jax.jit
    def step(trainable, state):
        updates, state = transform.update(jax.grad(loss)(trainable), state, trainable)
        return optax.apply_updates(trainable, updates), state

    for _ in range(3):
        trainable, state = step(trainable, state)
    after = combine(trainable, still)
    frozen_names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(still)]
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(after), strict=True):
        assert (np.asarray(old) == np.asarray(new)).all() == (path_name(path) in frozen_names), path
