"""GPT without a reference: what sees what, reading on equals reading at once, and what each size costs."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.layers import Normal, ScaledResidual, TransformerBlock
from neuralmon.models import GPT, gpt3_175b, gpt_tiny
from neuralmon.models.generation import generate, sample_token
from neuralmon.models.presets import PRESETS
from neuralmon.training.flops import trace_model

VOCAB, TIME = 11, 7
DENSE = GPT(vocab_size=VOCAB, context_length=TIME, num_layers=3, num_heads=2, width=8)
MODELS = {"GPT-1": DENSE.clone(pre_norm=False), "GPT-2": DENSE, "GPT-3": DENSE.clone(attention="alternating", band=3)}
models = pytest.mark.parametrize(
    "model",
    [pytest.param(model, id=name, marks=[] if name == "GPT-3" else pytest.mark.slow) for name, model in MODELS.items()],
)
TOKENS = np.random.default_rng(0).integers(0, VOCAB, TIME)


def shapes_of(model, length=TIME):
    return jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, length), jnp.int32))


def variables_of(model, seed=1):
    """Returns variables of which none is zero, and in which attention is far from even."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.5, leaf.shape).astype(np.float32), shapes_of(model))


@functools.cache
def logits_of(model):
    """Returns (TIME, VOCAB): what the whole forward pass says of TOKENS."""
    return np.asarray(jax.jit(model.apply)(variables_of(model), TOKENS[None])[0])


def close(a, b, limit=1e-5):
    np.testing.assert_allclose(a, b, rtol=0, atol=limit * np.abs(b).max())


@models
def test_no_logits_depend_on_a_later_token(model):
    variables, weights = variables_of(model), np.random.default_rng(2).normal(size=(TIME, VOCAB))

    @jax.jit
    def sensitivity(table):
        def outputs(table):
            params = {**variables["params"], "position_embedding": {"embedding": table}}
            return (model.apply({"params": params}, TOKENS[None])[0] * weights).sum(axis=-1)

        return jax.jacrev(outputs)(table)

    depends = np.abs(sensitivity(variables["params"]["position_embedding"]["embedding"])).max(axis=-1) > 0
    # Behind a first, dense block even a band sees all that came before.
    np.testing.assert_array_equal(depends, np.tri(TIME, dtype=bool))


def test_every_second_block_sees_exactly_its_band():
    model = MODELS["GPT-3"]
    capture = jax.jit(lambda variables: model.apply(variables, TOKENS[None], capture_intermediates=True)[1])
    captured = capture(variables_of(model))["intermediates"]["layers"]
    (weights,) = captured["attention"]["attention_weights"]
    assert weights.shape == (3, 1, 2, TIME, TIME)
    dense = np.tri(TIME, dtype=bool)
    for block, seen in enumerate([dense, dense & ~np.tri(TIME, k=-3, dtype=bool), dense]):
        np.testing.assert_array_equal(weights[block, 0] > 0, np.stack([seen, seen]))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    ((hidden, _),) = captured["__call__"]
    assert hidden.shape == (3, 1, TIME, 8)


@models
def test_reading_on_equals_reading_at_once_for_every_length_of_the_prompt(model):
    """One batch has prompts of every length; each example goes on to the end of the text, and then a token too far."""
    variables, expected = variables_of(model), logits_of(model)
    decode = jax.jit(lambda *arguments: model.apply(variables, *arguments, method="decode"))
    lengths = np.arange(1, TIME + 1)
    padding = np.random.default_rng(3).integers(0, VOCAB, (TIME, TIME))
    prompts = np.where(np.arange(TIME) < lengths[:, None], TOKENS, padding)
    logits, cache = decode(prompts, model.empty_cache(TIME), lengths)
    close(logits, expected)
    nobodys = np.array([0, *lengths[1:-1], TIME + 1])  # no prompt of so many tokens was given
    np.testing.assert_array_equal(
        np.isnan(decode(prompts, model.empty_cache(TIME), nobodys)[0]).all(axis=-1), nobodys != lengths
    )
    for step in range(TIME):
        position = lengths + step
        logits, cache = decode(TOKENS[np.minimum(position, TIME - 1), None], cache)
        fits = position < TIME
        if fits.any():
            close(logits[fits], expected[position[fits]])
        assert np.isnan(logits[~fits]).all()


def test_reading_on_with_each_layers_arrays_apart_is_the_same():
    model = MODELS["GPT-3"]
    decode = jax.jit(functools.partial(model.apply, method="decode"))
    stacked = variables_of(model), model.empty_cache(2, 3)
    apart = model.unstacked(*stacked)
    assert "layers" in stacked[0]["params"]
    assert not any(leaf.shape[:1] == (3,) and leaf.ndim > 2 for leaf in jax.tree.leaves(apart))
    for lengths in (np.array([2, 1]), None, None):  # the first has no room for the last
        tokens = TOKENS[None, : 1 if lengths is None else 2].repeat(2, axis=0)
        answers = []
        for variables, cache in (stacked, apart):
            logits, cache = decode(variables, tokens, cache, lengths)
            answers.append((logits, (variables, cache)))
        (expected, stacked), (logits, apart) = answers
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal([own.lengths for own in apart[1]], stacked[1].lengths)
    assert np.isnan(expected).all(axis=-1).tolist() == [True, False]


@pytest.mark.slow
def test_a_prompt_may_be_read_in_pieces_of_different_lengths():
    model = MODELS["GPT-3"]
    variables, expected = variables_of(model), logits_of(model)
    decode = jax.jit(lambda *arguments: model.apply(variables, *arguments, method="decode"))
    first, second = np.array([4, 1, 3, 2]), np.array([3, 4, 1, 4])
    cache = model.empty_cache(4)
    for start, count in ((0 * first, first), (first, second)):
        places = np.minimum(start[:, None] + np.arange(4), TIME - 1)
        # The last piece's padding does not fit into the cache any more, and nothing is overwritten by it.
        logits, cache = decode(np.where(np.arange(4) < count[:, None], TOKENS[places], 0), cache, count)
        close(logits, expected[start + count - 1])
    np.testing.assert_array_equal(cache.lengths, np.broadcast_to(first + second, (3, 4)))


@models
def test_the_scan_over_layers_is_a_loop_over_blocks(model):
    variables = variables_of(model)
    params = variables["params"]
    block = TransformerBlock(2, 32, model.pre_norm, model.activation)
    mask = np.tri(TIME, dtype=bool)

    def norm(x):
        x = (x - x.mean(axis=-1, keepdims=True)) / jnp.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return x * params["final_norm"]["scale"] + params["final_norm"]["bias"]

    def layer(index):
        return {"params": jax.tree.map(lambda leaf: leaf[index], params["layers"])}

    @jax.jit
    def loop():
        table = params["token_embedding"]["embedding"]
        x = (table[TOKENS] + params["position_embedding"]["embedding"])[None]
        for index in range(model.num_layers):
            banded = model.attention == "alternating" and index % 2
            seen = mask & ~np.tri(TIME, k=-model.band, dtype=bool) if banded else mask
            x, _ = block.apply(layer(index), x, seen[None, None])
        return (norm(x) if model.pre_norm else x)[0] @ table.T

    close(logits_of(model), loop())


@pytest.mark.slow
def test_rematerialisation_changes_no_gradient_with_dropout_of_any_rate():
    """The rates are traced numbers, as in training."""
    inputs = np.stack([TOKENS, TOKENS[::-1]])

    def gradients(remat):
        def loss(variables, rate):
            model = DENSE.clone(dropout=rate, embedding_dropout=rate, attention_dropout=rate, remat=remat)
            logits = model.apply(variables, inputs, train=True, rngs={"dropout": jax.random.key(0)})
            return (logits**2).mean()

        return jax.jit(jax.value_and_grad(loss))

    plain, again = gradients(False), gradients(True)
    variables = variables_of(DENSE)
    half = plain(variables, 0.5)
    jax.tree.map(close, again(variables, 0.5), half)
    none = plain(variables, 0.0)
    evaluated = (np.asarray(jax.jit(DENSE.apply)(variables, inputs)) ** 2).mean()
    np.testing.assert_allclose(none[0], evaluated, rtol=1e-5)
    assert abs(half[0] - none[0]) > 1e-3 * none[0]


def test_bfloat16_is_close_and_the_logits_are_float32():
    model = MODELS["GPT-3"].clone(dtype=jnp.bfloat16)
    expected, logits = logits_of(MODELS["GPT-3"]), logits_of(model)
    assert logits.dtype == np.float32
    assert (logits != expected).any()
    close(logits, expected, 0.03)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes_of(model))} == {np.dtype("float32")}


def test_each_weight_has_its_initialiser():
    model = DENSE.clone(kernel_init=Normal(0.3))
    modules = trace_model(model, jax.ShapeDtypeStruct((2, TIME), jnp.int32)).modules
    for part, inner, last in (("attention", ("query", "key", "value"), "out"), ("feedforward", ("hidden",), "out")):
        assert {modules[f"layers/{part}/{name}"].kernel_init for name in inner} == {Normal(0.3)}
        assert modules[f"layers/{part}/{last}"].kernel_init == ScaledResidual(0.02, num_layers=3)
    assert modules["token_embedding"].embedding_init == Normal(0.02)
    assert modules["position_embedding"].embedding_init == Normal(0.01)


@pytest.mark.slow
def test_the_initial_weights_are_those_of_gpt2():
    model = gpt_tiny.clone(vocab_size=65)
    params = jax.jit(model.init)(jax.random.key(0, impl="rbg"), jnp.zeros((1, 8), jnp.int32))["params"]
    layers = params["layers"]
    residual = [layers["attention"]["out"], layers["feedforward"]["out"]]
    kernels = [layers["attention"]["query"], layers["feedforward"]["hidden"]]
    deviations = {
        0.02: [
            params["token_embedding"]["embedding"],
            *(layer["kernel"][index] for layer in kernels for index in (0, 1)),
        ],
        0.02 / math.sqrt(2 * model.num_layers): [layer["kernel"][index] for layer in residual for index in (0, 1)],
        0.01: [params["position_embedding"]["embedding"]],
    }
    for deviation, arrays in deviations.items():
        for array in arrays:  # the standard error of a deviation is 1 / sqrt(2 n) of it, at most 0.011 here
            np.testing.assert_allclose(array.std(), deviation, rtol=0.05)
    kernel = layers["attention"]["query"]["kernel"]
    assert abs(np.corrcoef(kernel[0].ravel(), kernel[1].ravel())[0, 1]) < 0.1  # the layers' keys differ


@pytest.mark.parametrize("name", ["gpt1", "gpt2_xl", "gpt3_175b"])
def test_the_parameters_are_as_many_as_the_formulas_say(name):
    model = PRESETS[name].model
    width, tables = model.width, (model.vocab_size + model.context_length) * model.width
    # Four projections of attention, two of the feed-forward network, their biases, two normalisations; the last one.
    blocks = model.num_layers * (12 * width**2 + 13 * width)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model, model.context_length)))
    assert count == tables + blocks + (2 * width if model.pre_norm else 0)


@pytest.mark.parametrize("remat", [False, True])
def test_operations_are_counted_once_for_each_layer(remat):
    flops = trace_model(DENSE.clone(remat=remat), jax.ShapeDtypeStruct((2, TIME), jnp.int32)).flops
    places, width = 2 * TIME, 8
    assert flops.total() == 2 * places * (3 * (12 * width**2 + 2 * TIME * width) + VOCAB * width)


def test_gpt3_175b_is_made_ready_for_every_platform_without_its_memory():
    model = gpt3_175b.clone(vocab_size=50_257)
    inputs = jax.ShapeDtypeStruct((1, model.context_length), jnp.int32)
    exported = jax.export.export(jax.jit(model.apply), platforms=("cpu", "cuda", "tpu"))(shapes_of(model, 1), inputs)
    assert exported.out_avals[0].shape == (1, 2048, 50_257)
    assert len(exported.mlir_module_serialized) < 100_000  # no layer stands there twice, and no mask


def test_greedy_generation_is_the_likeliest_token_again_and_again():
    model = MODELS["GPT-3"]
    variables = variables_of(model)
    apply = jax.jit(model.apply)
    prompts, lengths, count = np.array([[1, 2, 3], [4, 0, 0]]), np.array([3, 1]), 3
    texts = np.pad(prompts, ((0, 0), (0, TIME - 3)))
    for step in range(count):
        logits = np.asarray(apply(variables, texts))
        for row, length in enumerate(lengths + step):
            texts[row, length] = logits[row, length - 1].argmax()
    expected = [text[length : length + count] for text, length in zip(texts, lengths, strict=True)]
    tokens = generate(model, variables, prompts, count, jax.random.key(0), lengths, temperature=0.0)
    np.testing.assert_array_equal(tokens, expected)


def test_tokens_are_drawn_with_their_probabilities():
    logits, temperature, count = np.array([2.0, -1.0, 0.5, 1.5, 0.0]), 0.7, 20_000
    for top_k, allowed in ((None, [0, 1, 2, 3, 4]), (3, [0, 2, 3]), (99, [0, 1, 2, 3, 4])):
        expected = np.zeros(5)
        expected[allowed] = np.exp(logits[allowed] / temperature)
        expected /= expected.sum()
        drawn = sample_token(jax.random.key(1), jnp.tile(logits, (count, 1)), temperature, top_k)
        frequencies = np.bincount(drawn, minlength=5) / count
        assert (frequencies[expected == 0] == 0).all()
        np.testing.assert_allclose(frequencies, expected, atol=4 * 0.5 / math.sqrt(count))


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (DENSE.clone(vocab_size=None), jnp.zeros((1, 2), int), "vocab_size=None"),
        (DENSE, jnp.zeros((1, 2)), "integer tokens"),
        (DENSE, jnp.zeros((1, 2, 3), int), r"\(1, 2, 3\)"),
        (DENSE, jnp.zeros((1, 8), int), "8 tokens are more than the context_length has room for, 7"),
        (DENSE.clone(attention="banded"), jnp.zeros((1, 2), int), "attention='banded'.*: allowed are 'dense'"),
        (DENSE.clone(num_heads=3), jnp.zeros((1, 2), int), "width of 8 into 3 heads"),
    ],
)
def test_what_does_not_fit_is_said(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), inputs)


def test_tokens_cache_and_lengths_of_different_batches_are_refused():
    def decode(batch, cached, lengths=None, time=2):
        shapes, tokens = shapes_of(DENSE), jax.ShapeDtypeStruct((batch, time), jnp.int32)
        return jax.eval_shape(
            lambda v, t: DENSE.apply(v, t, DENSE.empty_cache(cached), lengths, method="decode"), shapes, tokens
        )

    for arguments in ((2, 1), (1, 2), (2, 2, [1, 2, 1]), (2, 2, 2)):
        with pytest.raises(ValueError, match="texts need a cache of"):
            decode(*arguments)
    with pytest.raises(ValueError, match="no tokens"):
        decode(1, 1, time=0)


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        (jnp.zeros(3, int), {}, r"prompts \(batch, time\), not \(3,\)"),
        (jnp.zeros((1, 3), int), {"num_tokens": -1}, "0 or more tokens"),
        (jnp.zeros((1, 3), int), {"top_k": 0}, "top_k=0: give at least 1"),
    ],
)
def test_what_cannot_be_generated_is_said(prompts, options, message):
    with pytest.raises(ValueError, match=message):
        generate(DENSE, shapes_of(DENSE), prompts, key=jax.random.key(0), **{"num_tokens": 2, **options})


def test_what_a_cache_has_no_room_for_is_said_before_compiling():
    with pytest.raises(ValueError, match="8 tokens are more than the context_length"):
        DENSE.empty_cache(1, 8)
    decode = {"method": "decode"}
    with pytest.raises(ValueError, match="3 tokens are more than the cache has room for, 2"):
        DENSE.apply(shapes_of(DENSE), jnp.zeros((1, 3), int), DENSE.empty_cache(1, 2), **decode)
    with pytest.raises(ValueError, match="8 tokens are more than the context_length"):
        generate(DENSE, shapes_of(DENSE), jnp.zeros((1, 3), int), 5, jax.random.key(0))
