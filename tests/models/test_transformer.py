"""The Transformer and the captioner: what sees what, decoding step by step, weights across, errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.transformer import from_torch, to_torch
from neuralmon.layers import Dropout, Flatten
from neuralmon.models import BERT, Captioner, Transformer, ViT

RNG = np.random.default_rng(0)
SIZES = {"vocab_size": 7, "num_layers": 1, "num_heads": 2, "width": 8, "feedforward_dim": 8}
TIME = 4
SOURCE = np.array([[3, 1, 5, 0, 0], [2, 2, 6, 4, 1]])
TARGET = RNG.integers(1, 7, (2, TIME))
INPUTS = {"source": SOURCE, "target": TARGET}
IMAGES = RNG.normal(size=(2, 8, 4, 1)).astype(np.float32)
CAPTION = {"images": IMAGES, "target": TARGET}


def drawn(model, inputs):
    """Returns random variables of a model, without compiling its initialisation."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: 0.5 * RNG.normal(size=leaf.shape).astype(np.float32), shapes)


def test_no_gradient_comes_from_later_tokens_or_from_padding():
    """Each place has a position of its own, by which every logit is differentiated."""
    model = Transformer(**SIZES, positions="learned", share_embeddings="target", max_length=5)
    variables = drawn(model, INPUTS)
    one = jax.tree.map(lambda tokens: tokens[:1], INPUTS)

    @jax.jit
    @jax.jacrev
    def by_position(tables):
        params = dict(variables["params"])
        for part, table in tables.items():
            params[part] = {**params[part], "position": {"embedding": table}}
        return model.apply({"params": params}, one)[0].sum(axis=-1) * jnp.arange(1, TIME + 1)

    tables = {
        part: variables["params"][part]["position"]["embedding"] for part in ("source_embedding", "target_embedding")
    }
    sizes = jax.tree.map(lambda jacobian: np.abs(jacobian).max(axis=-1), by_position(tables))
    target, source = sizes["target_embedding"][:, :TIME], sizes["source_embedding"]
    np.testing.assert_array_equal(target > 0, np.tril(np.ones((TIME, TIME), bool)))
    np.testing.assert_array_equal(source > 0, np.broadcast_to(SOURCE[0] != 0, (TIME, 5)))


def check_decoding(model, inputs, cuts):
    """Compares the logits of one pass with those of parts of so many tokens, where the last one has no room."""
    variables = drawn(model, inputs)

    @jax.jit
    def run(variables, inputs):
        def call(*arguments, method):
            return model.apply(variables, *arguments, method=method)

        if "source" in inputs:
            memory, mask = call(inputs["source"], method="encode")
        else:
            memory, mask = call(inputs["images"], method="encode"), None
        memory = call(memory, method="project_memory")
        cache, parts, start = model.empty_cache(2, TIME - 1), [], 0
        for time in cuts:
            tokens = inputs["target"][:, start : start + time]
            logits, cache = call(tokens, memory, mask, cache, method="decode")
            parts.append(logits)
            start += time
        return model.apply(variables, inputs), jnp.concatenate(parts, axis=1)

    whole, parts = run(variables, inputs)
    assert whole.shape == (2, TIME, 7) and whole.dtype == jnp.float32
    np.testing.assert_allclose(parts[:, :-1], whole[:, :-1], atol=1e-5)
    assert np.isnan(parts[:, -1]).all()


PRE_NORM = {"pre_norm": True, "positions": "learned", "share_embeddings": "none"}


@pytest.mark.parametrize(
    ("model", "inputs", "cuts"),
    [
        (Transformer(**SIZES, **PRE_NORM), INPUTS, (2, 1, 1)),
        pytest.param(Captioner(**SIZES), CAPTION, (3, 1), marks=pytest.mark.slow),
    ],
    ids=["Transformer", "Captioner"],
)
def test_decoding_with_a_cache_is_the_full_forward_pass(model, inputs, cuts):
    check_decoding(model, inputs, cuts)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, PRE_NORM], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("prompt", range(1, TIME))
def test_decoding_behind_a_prompt_of_any_length(prompt, options):
    model = Transformer(**{**SIZES, "num_layers": 2}, **options)
    check_decoding(model, INPUTS, (prompt, *(1,) * (TIME - prompt)))


def test_padding_changes_nothing_and_half_precision_little():
    model = Transformer(**SIZES)
    variables = drawn(model, INPUTS)

    def memory(model, source):
        return jax.jit(lambda variables, source: model.apply(variables, source, method="encode")[0])(variables, source)

    expected, padded = memory(model, SOURCE), memory(model, np.pad(SOURCE, ((0, 0), (0, 2))))
    np.testing.assert_allclose(padded[:, :5], expected, atol=1e-5)
    half = memory(model.clone(dtype=jnp.bfloat16), SOURCE)
    assert half.dtype == jnp.bfloat16
    # Some ten roundings of 2^-9 one after the other.
    assert 0 < np.abs(half - expected).max() < 10 * 2**-8 * np.abs(expected).max()
    logits = jax.eval_shape(model.clone(dtype=jnp.bfloat16).apply, variables, INPUTS)
    assert logits.dtype == jnp.float32


BLOCK = ["attention/Dropout_0", "residual_dropout", "residual_dropout"]
DECODER = [*BLOCK, "cross_attention/Dropout_0", "residual_dropout"]
DROPOUTS = {
    "Transformer": (Transformer(**SIZES), INPUTS, ["embedding/sum_dropout"] * 2, BLOCK, DECODER),
    "Captioner": (Captioner(**SIZES), CAPTION, ["embedding/sum_dropout", "memory_dropout"], [], DECODER),
    "BERT": (BERT(3, **SIZES), TARGET, ["unit_dropout"] * 2, BLOCK, []),
    "ViT": (ViT(3, 4, 1, 2, 8, 8), IMAGES, ["Dropout_0"], BLOCK, []),
}


@pytest.mark.parametrize("name", DROPOUTS)
def test_training_is_evaluation_but_for_dropout(name):
    model, inputs, places, encoder, decoder = DROPOUTS[name]
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)

    def program(train, dropout=None):
        """Returns what is computed, as text, and where something is dropped."""
        dropped = []

        def note(call, arguments, options, context):
            module = context.module
            is_dropout = isinstance(module, Dropout) and context.method_name == "__call__"
            if is_dropout and arguments[1] and module.rate is not None:
                dropped.append("/".join(module.path))
            return call(*arguments, **options)

        apply = model.clone(dropout=dropout, attention_dropout=dropout).apply
        rngs = {"dropout": jax.random.key(1)}
        with nn.intercept_methods(note):
            text = str(jax.make_jaxpr(lambda variables: apply(variables, inputs, train=train, rngs=rngs))(shapes))
        return text, sorted(dropped)

    assert program(train=True) == program(train=False) == program(train=False, dropout=0.5)
    assert not program(train=True)[1]
    expected = [*places, *(f"encoder/layers_0/{place}" for place in encoder)]
    expected += [f"decoder/layers_0/{place}" for place in decoder]
    text, dropped = program(train=True, dropout=0.5)
    assert dropped == sorted(expected) and text != program(train=True)[0]


def test_published_sizes():
    """The base model's parameters, counted by hand (table 3): d = 512, d_ff = 2048, 6 + 6 layers."""
    from neuralmon.models.presets import PRESETS

    attention, feedforward, norm = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512, 2 * 512
    encoder, decoder = attention + feedforward + 2 * norm, 2 * attention + feedforward + 3 * norm
    assert PRESETS["transformer_base"].num_parameters == 37_000 * 512 + 6 * (encoder + decoder)


SHARING = [
    {"share_embeddings": "all"},
    {"share_embeddings": "target", "source_vocab_size": 5, "final_norm": True},
    {"share_embeddings": "none", "positions": "learned", "pre_norm": True},
]


@pytest.mark.parametrize("options", SHARING, ids=lambda options: options["share_embeddings"])
def test_weights_go_to_torch_and_back(options):
    model = Transformer(**SIZES, **options)
    variables = drawn(model, INPUTS)
    names = {"transformer": "net.", "target_embedding": "tgt.weight"}
    state = to_torch(model, variables, names)
    assert state["net.decoder.layers.0.multihead_attn.in_proj_weight"].shape == (24, 8)
    assert ("net.encoder.norm.weight" in state) == (options["share_embeddings"] != "all")
    again = from_torch(model, state, names)
    jax.tree.map(np.testing.assert_array_equal, again, variables)
    state["net.encoder.layers.0.self_attn.in_proj_weight"] = np.zeros((25, 8))
    state["surplus"] = state.pop("net.decoder.layers.0.linear1.bias")
    with pytest.raises(RequestError, match=r"linear1.bias is missing; surplus is left over; .*in_proj_weight") as error:
        from_torch(model, state, names)
    assert "\n" not in str(error.value)
    with pytest.raises(RequestError, match="there is no encoder; there are transformer, embedding"):
        from_torch(model, state, {"encoder": "e."})


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (Transformer(), INPUTS, r"Transformer\(vocab_size=None\)"),
        (Transformer(**SIZES), SOURCE, 'takes {"source": tokens, "target": tokens}, not'),
        (Transformer(**SIZES), {"source": SOURCE}, r"not \['source'\]"),
        (Transformer(**SIZES), {**INPUTS, "source": IMAGES}, r"integers \(batch, time\), not float32"),
        (Transformer(**SIZES, source_vocab_size=5), INPUTS, "cannot share all embeddings"),
        (Transformer(**{**SIZES, "num_heads": 3}), INPUTS, "width of 8 into 3 heads"),
        (Transformer(**SIZES, positions="learned", max_length=4), INPUTS, "learned for 4 places, fewer than 5"),
        (Captioner(), INPUTS, r"Captioner\(vocab_size=None\)"),
        (Captioner(**SIZES), INPUTS, 'takes {"images": images, "target": tokens}'),
        (Captioner(**{**SIZES, "width": 6}), INPUTS, "multiple of 4"),
        (Captioner(encoder=Flatten(), **SIZES), {"images": IMAGES, "target": TARGET}, r"Flatten makes \(2, 32\)"),
    ],
)
def test_errors(model, inputs, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(model.init, jax.random.key(0), inputs)


def test_a_caption_is_of_its_own_image():
    model = Captioner(**SIZES)
    inputs = {"images": IMAGES, "target": TARGET}
    variables = drawn(model, inputs)

    apply, other = jax.jit(model.apply), IMAGES * np.array([1, -1], np.float32)[:, None, None, None]
    expected, logits = apply(variables, inputs), apply(variables, {"images": other, "target": TARGET})
    np.testing.assert_array_equal(logits[0], expected[0])
    assert np.abs(logits[1] - expected[1]).max() > 1e-2
    _, seen = jax.eval_shape(lambda variables: model.apply(variables, inputs, mutable="intermediates"), variables)
    seen = seen["intermediates"]
    assert seen["feature_map"][0].shape == (2, 2, 1, 64)
    assert seen["decoder"]["layers_0"]["cross_attention"]["attention_weights"][0].shape == (2, 2, TIME, 2)
