"""TextCNN: padding is nothing, what a detector sees, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.models import TextCNN

RNG = np.random.default_rng(0)
TOKENS = RNG.integers(1, 9, (3, 6))
LENGTHS = np.array([6, 2, 4])
SIZES = {"kernel_sizes": (1, 3), "features": 4, "embedding_dim": 5, "num_classes": 2, "vocab_size": 9}


def variables_of(model):
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    return jax.tree.map(lambda leaf: RNG.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_padding_is_nothing(pool):
    model = TextCNN(**SIZES, pool=pool)
    variables, apply = variables_of(model), jax.jit(model.apply)
    together = apply(variables, {"sequence": TOKENS, "lengths": LENGTHS})
    assert together.shape == (3, 2) and together.dtype == jnp.float32
    other = np.where(np.arange(6) < LENGTHS[:, None], TOKENS, 8)
    np.testing.assert_array_equal(apply(variables, {"sequence": other, "lengths": LENGTHS}), together)
    mask = np.arange(6) < LENGTHS[:, None]
    np.testing.assert_array_equal(apply(variables, {"sequence": TOKENS, "mask": mask}), together)
    for row, length in enumerate(LENGTHS):
        alone = model.apply(variables, TOKENS[row : row + 1, :length])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_one_detector_of_one_token_and_the_mean_are_a_bag_of_words():
    model = TextCNN(**{**SIZES, "kernel_sizes": (1,)}, pool="mean")
    variables = variables_of(model)
    shuffled = TOKENS[:, RNG.permutation(6)]
    np.testing.assert_allclose(model.apply(variables, shuffled), model.apply(variables, TOKENS), atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match=r"TextCNN\(vocab_size=None\)"):
        jax.eval_shape(TextCNN(num_classes=2).init, jax.random.key(0), TOKENS)
    for inputs, message in (
        (TOKENS.astype(np.float32), "integer tokens"),
        (TOKENS[:, :0], "there is no token"),
        ({"tokens": TOKENS}, r"not \['tokens'\]"),
        ({"sequence": TOKENS, "lengths": LENGTHS[:2]}, "one length a text"),
        ({"sequence": TOKENS, "mask": TOKENS[:, :3] > 2}, "mask of shape"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(TextCNN(**SIZES).init, jax.random.key(0), inputs)
