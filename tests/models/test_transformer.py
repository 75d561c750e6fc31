"""The Transformer and the captioner: what sees what, decoding step by step, weights across, errors."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.transformer import from_torch, to_torch
from neuralmon.layers import Conv, Dropout, Flatten, Normal, TransformerBlock
from neuralmon.models import BERT, GPT, Captioner, Transformer, ViT

RNG = np.random.default_rng(0)
SIZES = {"vocab_size": 7, "num_layers": 1, "num_heads": 2, "width": 8, "feedforward_dim": 8}
TIME = 4
SOURCE = np.array([[3, 1, 5, 0, 0], [2, 2, 6, 4, 1]])
TARGET = RNG.integers(1, 7, (2, TIME))
INPUTS = {"source": SOURCE, "target": TARGET}
QUICK = {"xla_backend_optimization_level": 0}  # these programs are compiled for longer than they run
IMAGES = RNG.normal(size=(2, 8, 4, 1)).astype(np.float32)
CAPTION = {"images": IMAGES, "target": TARGET}


def drawn(model, inputs):
    """Returns random variables of a model, without compiling its initialisation."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda leaf: 0.5 * RNG.normal(size=leaf.shape).astype(np.float32), shapes)


PRE_NORM = {"pre_norm": True, "positions": "learned", "share_embeddings": "none", "max_length": 7}
MODEL = Transformer(**SIZES, **PRE_NORM)
VARIABLES = drawn(MODEL, INPUTS)


@functools.cache
def compiled(model, method="__call__"):
    """Returns a method of a model; the decoder writes into its cache in place."""
    written = 4 if method == "decode" else ()
    return jax.jit(functools.partial(model.apply, method=method), donate_argnums=written, compiler_options=QUICK)


@pytest.fixture(scope="module")
def whole():
    """The logits of one pass, and the derivatives of their sums by the source's and the target's positions.

    Its source has two places of padding more than `SOURCE`.
    """
    inputs = {**INPUTS, "source": np.pad(SOURCE, ((0, 0), (0, 2)))}

    @functools.partial(jax.jit, compiler_options=QUICK)
    def run(params, tables):
        def sums(tables):
            placed = {part: {**params[part], "position": {"embedding": table}} for part, table in tables.items()}
            logits = MODEL.apply({"params": {**params, **placed}}, inputs)
            return logits.sum(axis=-1), logits

        return jax.jacrev(sums, has_aux=True)(tables)

    params, parts = VARIABLES["params"], ("source_embedding", "target_embedding")
    derivatives, logits = run(params, {part: params[part]["position"]["embedding"] for part in parts})
    return logits, *(np.abs(derivatives[part]).max(axis=-1) for part in parts)


def test_no_gradient_comes_from_later_tokens_or_from_padding(whole):
    """Each place has a position of its own, by which every logit is differentiated: [example, logits' place, place]."""
    _, source, target = whole
    target_places, places = np.arange(TIME)[:, None], np.arange(7)
    np.testing.assert_array_equal(target > 0, np.broadcast_to(places <= target_places, (2, TIME, 7)))
    real = np.pad(SOURCE != 0, ((0, 0), (0, 2)))
    np.testing.assert_array_equal(source > 0, np.broadcast_to(real[:, None], (2, TIME, 7)))


def check_decoding(model, variables, inputs, cuts, expected):
    """Compares the logits of one pass with those of parts of so many tokens, where the last one has no room."""
    if isinstance(model, Captioner):
        memory, mask = compiled(model, "encode")(variables, inputs["images"]), None
    else:
        memory, mask = compiled(model, "encode")(variables, inputs["source"])
    memory = compiled(model, "project_memory")(variables, memory)
    cache, parts, start = model.empty_cache(2, TIME - 1), [], 0
    for time in cuts:
        tokens = inputs["target"][:, start : start + time]
        logits, cache = compiled(model, "decode")(variables, tokens, memory, mask, cache)
        parts.append(np.asarray(logits))
        start += time
    parts = np.concatenate(parts, axis=1)
    assert expected.shape == parts.shape == (2, TIME, 7) and expected.dtype == parts.dtype == jnp.float32
    np.testing.assert_allclose(parts[:, :-1], expected[:, :-1], atol=1e-5)
    assert np.isnan(parts[:, -1]).all()


def test_decoding_with_a_cache_is_the_full_forward_pass_and_padding_changes_nothing(whole):
    check_decoding(MODEL, VARIABLES, INPUTS, (2, 1, 1), whole[0])


def test_pairs_packed_into_a_row_are_computed_as_if_alone(whole):
    """Two pairs of the two examples behind each other, and padding at both ends of the same row."""
    segments = {"source": [[1] * 3 + [2] * 5 + [0]], "target": [[1] * TIME + [2] * TIME + [0]]}
    packed = {
        "source": np.concatenate([SOURCE[0, :3], SOURCE[1], [0]])[None],
        "target": np.concatenate([*TARGET, [0]])[None],
        **{f"{name}_segments": np.array(rows) for name, rows in segments.items()},
    }
    model = MODEL.clone(max_length=9)

    def widened(part):
        table = VARIABLES["params"][part]["position"]["embedding"]
        return {**VARIABLES["params"][part], "position": {"embedding": np.pad(table, ((0, 2), (0, 0)))}}

    params = VARIABLES["params"] | {part: widened(part) for part in ("source_embedding", "target_embedding")}
    logits = np.asarray(compiled(model)({"params": params}, packed))[0]
    np.testing.assert_allclose(logits[: 2 * TIME].reshape(2, TIME, 7), whole[0], atol=1e-5)
    assert np.isfinite(logits).all()


@pytest.mark.slow
def test_decoding_captions_with_a_cache_is_the_full_forward_pass():
    model = Captioner(**SIZES)
    variables = drawn(model, CAPTION)
    check_decoding(model, variables, CAPTION, (3, 1), compiled(model)(variables, CAPTION))


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, PRE_NORM], ids=["post-norm", "pre-norm"])
@pytest.mark.parametrize("prompt", range(1, TIME))
def test_decoding_behind_a_prompt_of_any_length(prompt, options):
    model = Transformer(**{**SIZES, "num_layers": 2}, **options)
    variables = drawn(model, INPUTS)
    check_decoding(model, variables, INPUTS, (prompt, *(1,) * (TIME - prompt)), compiled(model)(variables, INPUTS))


def test_half_precision_changes_little():
    expected, _ = compiled(MODEL, "encode")(VARIABLES, SOURCE)
    half, _ = compiled(MODEL.clone(dtype=jnp.bfloat16), "encode")(VARIABLES, SOURCE)
    assert half.dtype == jnp.bfloat16
    # Some ten roundings of 2^-9 one after the other.
    assert 0 < np.abs(half - expected).max() < 10 * 2**-8 * np.abs(expected).max()
    logits = jax.eval_shape(MODEL.clone(dtype=jnp.bfloat16).apply, VARIABLES, INPUTS)
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

    @functools.cache
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


BLOCK_FIELDS = {
    "num_heads": 4,
    "feedforward_dim": 6,
    "activation": jnp.tanh,
    "dropout": 0.25,
    "attention_dropout": 0.75,
    "norm_epsilon": 0.5,
    "kernel_init": Normal(0.3),
    "residual_init": Normal(0.4),
    "bias_init": Normal(0.5),
    "dtype": jnp.bfloat16,
}


@pytest.mark.parametrize("name", [*DROPOUTS, "GPT"])
def test_blocks_are_what_the_fields_of_their_model_say(name):
    model, inputs = (GPT(**SIZES), TARGET) if name == "GPT" else DROPOUTS[name][:2]
    changed = {field: value for field, value in BLOCK_FIELDS.items() if hasattr(model, field)}
    if hasattr(model, "pre_norm"):
        changed["pre_norm"] = not model.pre_norm
    expected = {"residual_init": changed["kernel_init"], **changed}
    blocks = []

    def note(call, arguments, options, context):
        if isinstance(context.module, TransformerBlock) and context.method_name == "__call__":
            blocks.append(
                {field.name: getattr(context.module, field.name) for field in dataclasses.fields(context.module)}
            )
        return call(*arguments, **options)

    with nn.intercept_methods(note):
        jax.eval_shape(model.clone(**changed).init, jax.random.key(0), inputs)
    assert blocks
    for block in blocks:
        assert {field: block[field] for field in expected} == expected


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
        (Transformer(**SIZES), {**INPUTS, "source_segments": SOURCE}, "source_segments and target_segments, or none"),
        (Transformer(**SIZES), {**INPUTS, "source": IMAGES}, r"integers \(batch, time\), not float32"),
        (Transformer(**SIZES, source_vocab_size=5), INPUTS, "cannot share all embeddings"),
        (Transformer(**{**SIZES, "num_heads": 3}), INPUTS, "width of 8 into 3 heads"),
        (Transformer(**SIZES), {**INPUTS, "source": SOURCE[:1]}, r"queries .* \(2, 4, 2, 4\) do not fit keys \(1, 5"),
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
    model = Captioner(**SIZES, encoder=Conv(4, (3, 3)))
    variables = drawn(model, CAPTION)
    other = IMAGES * np.array([1, -1], np.float32)[:, None, None, None]
    expected, logits = (compiled(model)(variables, {**CAPTION, "images": images}) for images in (IMAGES, other))
    np.testing.assert_array_equal(logits[0], expected[0])
    assert np.abs(logits[1] - expected[1]).max() > 1e-2
    _, seen = jax.eval_shape(lambda variables: model.apply(variables, CAPTION, mutable="intermediates"), variables)
    seen = seen["intermediates"]
    assert seen["feature_map"][0].shape == (2, 8, 4, 4)
    assert seen["decoder"]["layers_0"]["cross_attention"]["attention_weights"][0].shape == (2, 2, TIME, 8 * 4)
