"""Attention, its masks and its cache; positions; the Transformer's block."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon import ops
from neuralmon.layers import (
    KeyValueCache,
    MultiHeadAttention,
    TokenEmbedding,
    TransformerBlock,
    TransformerStack,
    causal_mask,
    padding_mask,
    sinusoidal_positions,
)

RNG = np.random.default_rng(0)
BATCH, TIME, HEADS, WIDTH = 2, 5, 2, 8


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def drawn(module, *inputs, **options):
    """Returns random variables of a module, without compiling its initialisation."""
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), *inputs, **options))
    return jax.tree.map(lambda leaf: 0.4 * normal(*leaf.shape), shapes)


X = normal(BATCH, TIME, WIDTH)
ATTENTION = MultiHeadAttention(HEADS)
VARIABLES = drawn(ATTENTION, X)
attend = jax.jit(ATTENTION.apply)
weigh = jax.jit(ops.attention_weights)


def by_hand(query, key, mask):
    """Softmax place by place, in float64."""
    weights = np.zeros((query.shape[0], query.shape[2], query.shape[1], key.shape[1]))
    for b, h, q in np.ndindex(weights.shape[:3]):
        scores = [np.dot(query[b, q, h], key[b, k, h]) / np.sqrt(query.shape[-1]) for k in range(key.shape[1])]
        powers = np.exp(np.float64(scores)) * mask[b, h, q]
        weights[b, h, q] = powers / powers.sum() if powers.sum() else 0
    return weights


def test_weights_are_the_softmax_of_scaled_products():
    query, key = normal(BATCH, 3, HEADS, 4), normal(BATCH, TIME, HEADS, 4)
    everywhere = np.ones((BATCH, HEADS, 3, TIME), bool)
    np.testing.assert_allclose(weigh(query, key), by_hand(query, key, everywhere), atol=1e-6)
    mask = RNG.random((BATCH, 1, 3, TIME)) < 0.5
    mask[0, 0, 1] = False
    weights = weigh(query, key, mask)
    np.testing.assert_allclose(weights, by_hand(query, key, np.broadcast_to(mask, everywhere.shape)), atol=1e-6)
    np.testing.assert_array_equal(weights[0, :, 1], 0)


def test_large_scores_do_not_overflow_and_half_precision_keeps_its_sums():
    query, key = 300 * normal(1, 2, 1, 4), 300 * normal(1, 3, 1, 4)
    assert np.isfinite(weigh(query, key)).all()
    weights = weigh(query.astype(jnp.bfloat16), key.astype(jnp.bfloat16))
    assert weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)


def test_a_row_that_may_look_nowhere_gets_zeros_and_finite_gradients():
    key, cotangent = normal(1, TIME, 1, 4), normal(1, 1, TIME, TIME)
    mask = np.ones((1, 1, TIME, TIME), bool)
    mask[..., 2, :] = False

    @jax.jit
    @jax.grad
    def by_query(query):
        return (ops.attention_weights(query, key, mask) * cotangent).sum()

    gradient = by_query(normal(1, TIME, 1, 4))
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[0, 2], 0)
    assert np.abs(gradient[0, [0, 1, 3, 4]]).min() > 0


def test_heads_by_hand():
    """Each head has a part of the width, a mask hides keys, and the output mixes the heads."""
    memory, params = normal(BATCH, 3, 6), drawn(ATTENTION, X, memory=normal(BATCH, 3, 6))["params"]
    real = np.array([[True, True, False], [True, True, True]])
    outputs, cache = attend({"params": params}, X, memory=memory, mask=padding_mask(real))
    assert cache is None

    def projected(x, name):
        return (x @ params[name]["kernel"] + params[name]["bias"]).reshape(*x.shape[:2], HEADS, WIDTH // HEADS)

    query, key, value = projected(X, "query"), projected(memory, "key"), projected(memory, "value")
    weights = by_hand(query, key, np.broadcast_to(real[:, None, None], (BATCH, HEADS, TIME, 3)))
    heads = [weights[:, h] @ value[:, :, h] for h in range(HEADS)]
    expected = np.concatenate(heads, axis=-1) @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_without_positions_a_permutation_goes_through():
    order = RNG.permutation(TIME)
    outputs, _ = attend(VARIABLES, X)
    permuted, _ = attend(VARIABLES, X[:, order])
    np.testing.assert_allclose(permuted, outputs[:, order], atol=1e-5)
    causal, _ = attend(VARIABLES, X[:, order], mask=causal_mask(TIME))
    assert np.abs(causal - outputs[:, order]).max() > 0.1


@pytest.mark.parametrize("cuts", [(1,) * TIME, (2, 1, 2)], ids=str)
def test_reading_in_parts_is_reading_at_once(cuts):
    expected, _ = attend(VARIABLES, X, mask=causal_mask(TIME))
    cache, outputs, start = KeyValueCache.empty(BATCH, TIME + 1, HEADS, WIDTH // HEADS), [], 0
    for time in cuts:
        assert cache.has_room(time).all()
        part, cache = attend(VARIABLES, X[:, start : start + time], mask=cache.causal_mask(time), cache=cache)
        outputs.append(part)
        start += time
    np.testing.assert_allclose(np.concatenate(outputs, axis=1), expected, atol=1e-5)
    np.testing.assert_array_equal(cache.lengths, TIME)
    np.testing.assert_array_equal(cache.has_room(2), [[True, False]] * BATCH)


def test_examples_of_other_lengths_in_one_cache():
    fresh = KeyValueCache.empty(2, 4, 1, 1).replace(lengths=np.array([0, 2]))
    ones = np.ones((2, 3, 1, 1), np.float32)
    cache, mask = jax.jit(lambda cache: (cache.append(ones, 2 * ones), cache.causal_mask(2)))(fresh)
    np.testing.assert_array_equal(cache.key[:, 0, :, 0], [[1, 1, 1, 0], [0, 0, 1, 1]])
    np.testing.assert_array_equal(cache.value[:, 0, :, 0], [[2, 2, 2, 0], [0, 0, 2, 2]])
    np.testing.assert_array_equal(mask[:, 0], [[[1, 0, 0, 0], [1, 1, 0, 0]], [[1, 1, 1, 0], [1, 1, 1, 1]]])


def test_keys_and_values_of_a_memory_stand_for_it():
    stack = TransformerStack(2, TransformerBlock(HEADS, 4, pre_norm=True))
    memory, real = normal(BATCH, 3, WIDTH), np.array([[True, True, False], [True, True, True]])
    arguments = {"memory": memory, "memory_mask": padding_mask(real)}
    variables = drawn(stack, X, **arguments)
    assert "norm" in variables["params"]

    @functools.partial(
        jax.jit, compiler_options={"xla_backend_optimization_level": 0}
    )  # compiled for longer than it runs
    def run(variables):
        projected = stack.apply(variables, memory, method="project_memory")
        outputs, _ = stack.apply(variables, X, **{**arguments, "memory": projected})
        return stack.apply(variables, X, **arguments, mutable="intermediates"), outputs

    ((expected, _), seen), outputs = run(variables)
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    states = seen["intermediates"]["hidden_states"]
    np.testing.assert_array_equal(states[0], X)
    assert [state.shape for state in states] == [X.shape] * 3
    weights = seen["intermediates"]["layers_1"]["cross_attention"]["attention_weights"][0]
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(weights[0, ..., 2], 0)


def test_an_empty_cache_can_be_written_in_place():
    """No array of it stands in it twice, which donating it to a program would not allow."""
    cache = TransformerStack(2, TransformerBlock(HEADS, 4)).empty_cache(BATCH, 3, WIDTH)
    filled = jax.jit(lambda cache: jax.tree.map(lambda leaf: leaf + 1, cache), donate_argnums=0)(cache)
    assert [leaf.shape for leaf in jax.tree.leaves(filled)] == [
        (BATCH, HEADS, 3, 4),
        (BATCH, HEADS, 3, 4),
        (BATCH,),
    ] * 2


def test_where_a_block_normalises():
    """Post-norm outputs have mean 0 and variance 1; a pre-norm block of zero branches is the identity."""
    scale = {"scale": np.ones(WIDTH, np.float32), "bias": np.zeros(WIDTH, np.float32)}
    post, pre = (TransformerBlock(HEADS, 4, pre_norm=pre_norm) for pre_norm in (False, True))
    params = drawn(post, X)["params"]
    params = {name: scale if name.endswith("norm") else leaf for name, leaf in params.items()}
    outputs, _ = jax.jit(post.apply)({"params": params}, X)
    np.testing.assert_allclose(outputs.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(outputs.var(axis=-1), 1, rtol=1e-3)
    silent = {
        name: leaf if name.endswith("norm") else jax.tree.map(np.zeros_like, leaf) for name, leaf in params.items()
    }
    np.testing.assert_array_equal(jax.jit(pre.apply)({"params": silent}, X)[0], X)


def test_sines_and_cosines():
    table = np.asarray(sinusoidal_positions(20, 6))
    for place, i in np.ndindex(table.shape):
        angle = place / 10000 ** (2 * (i // 2) / 6)
        assert table[place, i] == pytest.approx(np.cos(angle) if i % 2 else np.sin(angle), abs=1e-6)
    # Section 3.5: a fixed offset is a linear function of the position, and so the same product everywhere.
    products = table @ table.T
    np.testing.assert_allclose(np.diag(products, 3), products[0, 3], rtol=1e-5)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_an_embedding_goes_on_where_the_cache_ends(positions):
    embedding = TokenEmbedding(7, WIDTH, positions, max_length=6)
    tokens = RNG.integers(0, 7, (2, 4))
    variables = drawn(embedding, tokens)
    apply = jax.jit(embedding.apply)
    whole = apply(variables, tokens)
    cache = KeyValueCache.empty(2, 6, 1, 1).replace(lengths=np.array([2, 2]))
    np.testing.assert_allclose(apply(variables, tokens[:, 2:], cache), whole[:, 2:], atol=1e-6)
    table = variables["params"]["token"]["embedding"]
    place = (
        sinusoidal_positions(4, WIDTH) if positions == "sinusoidal" else variables["params"]["position"]["embedding"]
    )
    np.testing.assert_allclose(whole, np.sqrt(WIDTH) * table[tokens] + place[:4], atol=1e-6)
    np.testing.assert_allclose(embedding.apply(variables, whole, method="logits"), whole @ table.T, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MultiHeadAttention(3).init(jax.random.key(0), X), "width of 8 into 3 heads"),
        (lambda: TokenEmbedding(7, 8).init(jax.random.key(0), X), r"integers \(batch, time\), not float32"),
        (lambda: TokenEmbedding(7, 8).init(jax.random.key(0), np.array([1])), r"not int\d+ of shape \(1,\)"),
        (
            lambda: TokenEmbedding(7, 8, "learned", max_length=2).init(jax.random.key(0), np.ones((1, 3), int)),
            "learned for 2 places, fewer than 3: raise max_length",
        ),
        (
            lambda: TokenEmbedding(7, 8).init(jax.random.key(0), np.ones((1, 3), int), KeyValueCache.empty(1, 2, 1, 1)),
            "3 tokens are more than the cache has room for, 2",
        ),
        (
            lambda: TokenEmbedding(7, 8).init(jax.random.key(0), np.ones((1, 1), int), KeyValueCache.empty(2, 2, 1, 1)),
            "tokens of 1 examples do not fit a cache of 2",
        ),
        (lambda: attend(VARIABLES, X, memory=X[:1]), r"queries .* \(2, 5, 2, 4\) do not fit keys \(1, 5, 2, 4\)"),
        (lambda: attend(VARIABLES, X, mask=np.ones((BATCH, TIME), bool)), r"not bool of shape \(2, 5\)"),
        (lambda: attend(VARIABLES, X, mask=np.ones((1, 1, 1, 4), bool)), r"not bool of shape \(1, 1, 1, 4\)"),
        (lambda: attend(VARIABLES, X, mask=np.zeros((1, 1, TIME, TIME))), "Boolean .* not float"),
        (lambda: attend(VARIABLES, X, cache=KeyValueCache.empty(BATCH, TIME, HEADS, 4)), "needs a mask"),
        (
            lambda: TransformerStack(2, TransformerBlock(HEADS, 4)).init(jax.random.key(0), X, cache=()),
            "2 blocks take a cache of as many elements, not 0",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
