"""GPT beside Hugging Face transformers (GPT-1, GPT-2) and a PyTorch implementation by hand (GPT-3's banded blocks)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity.comparison import Case, Result, both_types, cotangent, ours, random_variables

from neuralmon.interop import gpt as interop
from neuralmon.interop.weights import flatten, unflatten
from neuralmon.models import GPT, beam_search
from neuralmon.models.generation import generate


@dataclasses.dataclass(frozen=True)
class Texts:
    """A batch of texts: so many tokens in each, padded at the end to the longest."""

    lengths: tuple[int, ...]

    @property
    def real(self):
        return np.arange(max(self.lengths)) < np.array(self.lengths)[:, None]

    def tokens(self, model):
        drawn = np.random.default_rng(len(self.lengths)).integers(0, model.vocab_size, self.real.shape)
        return np.where(self.real, drawn, 0)


def variables_of(model, dtype="float32"):
    return random_variables(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32)), dtype)


def reference_of(model, variables, dtype="float32"):
    """Returns the model of transformers with these variables."""
    import torch
    import transformers

    sizes = {
        "vocab_size": model.vocab_size,
        "n_positions": model.context_length,
        "n_layer": model.num_layers,
        "n_head": model.num_heads,
        "n_embd": model.width,
        "layer_norm_epsilon": model.norm_epsilon,
        "attn_implementation": "eager",
    }
    if model.pre_norm:
        config = transformers.GPT2Config(**sizes, n_inner=model.feedforward_dim, bos_token_id=0, eos_token_id=None)
        reference = transformers.GPT2LMHeadModel(config)
    else:
        reference = transformers.OpenAIGPTLMHeadModel(transformers.OpenAIGPTConfig(**sizes))
    tensors = {key: torch.tensor(one) for key, one in interop.to_huggingface(model, variables).items()}
    reference.to(getattr(torch, dtype)).load_state_dict(tensors)
    return reference.eval()


def with_transformers(model, texts, dtype):
    import torch

    model = model.clone(dtype=jnp.dtype(dtype))
    variables, tokens, real = variables_of(model, dtype), texts.tokens(model), texts.real
    weights = cotangent((*tokens.shape, model.vocab_size), dtype) * real[:, :, None]
    reference = reference_of(model, variables, dtype)
    logits = reference(torch.tensor(tokens), attention_mask=torch.tensor(real.astype(np.int64))).logits
    logits = torch.where(torch.tensor(real)[:, :, None], logits, 0)
    (logits * torch.tensor(weights)).sum().backward()
    gradients = {name: parameter.grad for name, parameter in reference.named_parameters()}
    theirs = Result(logits.detach().numpy(), interop.from_huggingface(model, gradients)["params"])
    return ours(model.apply, variables, tokens, weights, real[:, :, None]), theirs


def by_hand(model, texts, dtype):
    """The formulas of the papers, for one head, one block, one text at a time."""
    import torch

    model = model.clone(dtype=jnp.dtype(dtype))
    variables, tokens = variables_of(model, dtype), texts.tokens(model)
    time, head_dim = tokens.shape[1], model.width // model.num_heads
    weights = cotangent((*tokens.shape, model.vocab_size), dtype)
    leaves = jax.tree.map(lambda leaf: torch.tensor(leaf, requires_grad=True), variables["params"])

    def dense(x, layer, index):
        return x @ layer["kernel"][index] + layer["bias"][index]

    def norm(x, scale, bias):
        return torch.nn.functional.layer_norm(x, (model.width,), scale, bias, model.norm_epsilon)

    def attention(x, parts, index):
        heads = []
        query, key, value = (dense(x, parts[name], index) for name in ("query", "key", "value"))
        for head in range(model.num_heads):
            own = slice(head * head_dim, (head + 1) * head_dim)
            rows = []
            for place in range(time):
                first = max(0, place - model.band + 1) if index % 2 else 0
                scores = key[first : place + 1, own] @ query[place, own] / head_dim**0.5
                rows.append(torch.softmax(scores, dim=0) @ value[first : place + 1, own])
            heads.append(torch.stack(rows))
        return dense(torch.cat(heads, dim=1), parts["out"], index)

    def text(row):
        layers = leaves["layers"]
        x = leaves["token_embedding"]["embedding"][row] + leaves["position_embedding"]["embedding"][:time]
        for index in range(model.num_layers):
            first, second = (
                [layers[f"{part}_norm"][name][index] for name in ("scale", "bias")]
                for part in ("attention", "feedforward")
            )
            x = x + attention(norm(x, *first), layers["attention"], index)
            hidden = dense(norm(x, *second), layers["feedforward"]["hidden"], index)
            x = x + dense(torch.nn.functional.gelu(hidden, approximate="tanh"), layers["feedforward"]["out"], index)
        x = norm(x, leaves["final_norm"]["scale"], leaves["final_norm"]["bias"])
        return x @ leaves["token_embedding"]["embedding"].T

    logits = torch.stack([text(torch.tensor(row)) for row in tokens])
    (logits * torch.tensor(weights)).sum().backward()
    theirs = Result(logits.detach().numpy(), jax.tree.map(lambda leaf: leaf.grad.numpy(), leaves))
    return ours(model.apply, variables, tokens, weights), theirs


GPT1 = GPT(vocab_size=37, context_length=13, num_layers=2, num_heads=2, width=12, pre_norm=False)
GPT2 = GPT(vocab_size=41, context_length=16, num_layers=3, num_heads=4, width=16)
GPT3 = GPT(vocab_size=23, context_length=10, num_layers=4, num_heads=2, width=8, attention="alternating", band=3)
GPT1_NAME, GPT2_NAME = "OpenAIGPTLMHeadModel", "GPT2LMHeadModel"


def case(row, name, reference, model, lengths):
    run = by_hand if reference == "by hand" else with_transformers
    package = "torch" if reference == "by hand" else "transformers"
    return Case(row, name, reference, package, functools.partial(run, model, Texts(lengths)))


CASES = [
    case("GPT-1", "one text", GPT1_NAME, GPT1, (5,)),
    case("GPT-1", "whole context, three lengths", GPT1_NAME, GPT1, (13, 1, 6)),
    case("GPT-1", "one layer, one head, another epsilon", GPT1_NAME,
         GPT1.clone(num_layers=1, num_heads=1, norm_epsilon=1e-3), (7, 7)),
    case("GPT-1", "rematerialised", GPT1_NAME, GPT1.clone(remat=True), (4, 9)),
    case("GPT-2", "one token", GPT2_NAME, GPT2, (1,)),
    case("GPT-2", "whole context, four lengths", GPT2_NAME, GPT2, (16, 3, 9, 1)),
    case("GPT-2", "five layers, narrow feed-forward", GPT2_NAME, GPT2.clone(num_layers=5, feedforward_dim=10), (11, 8)),
    case("GPT-2", "rematerialised, one head", GPT2_NAME, GPT2.clone(remat=True, num_heads=1), (6, 6, 2)),
    case("GPT-3 (banded)", "band of 3", "by hand", GPT3, (10, 10)),
    case("GPT-3 (banded)", "band of 1", "by hand", GPT3.clone(band=1, num_layers=2), (7,)),
    case("GPT-3 (banded)", "band longer than the text, three layers", "by hand",
         GPT3.clone(band=9, num_layers=3), (6, 6, 6)),
]  # fmt: skip


@both_types
@pytest.mark.parametrize("case", CASES, ids=str)
def test_gpt(case, dtype):
    case.check(dtype)


both_kinds = pytest.mark.parametrize("model", [GPT1, GPT2], ids=["GPT-1", "GPT-2"])


@both_kinds
def test_a_saved_model_is_read_and_described(model, tmp_path):
    pytest.importorskip("transformers")
    variables = variables_of(model)
    reference_of(model, variables).save_pretrained(tmp_path)
    found = interop.model_from_huggingface(tmp_path)
    assert found.clone(dropout=None, embedding_dropout=None, attention_dropout=None) == model
    assert found.dropout == found.embedding_dropout == found.attention_dropout == 0.1
    for source in (tmp_path, tmp_path / "model.safetensors"):
        jax.tree.map(np.testing.assert_array_equal, interop.from_huggingface(found, source), variables)


@both_kinds
def test_keys_without_prefix_and_buffers_of_old_files_are_read(model):
    torch = pytest.importorskip("torch")
    variables = variables_of(model)
    tensors = interop.to_huggingface(model, variables)
    del tensors["lm_head.weight"]
    tensors = {key.removeprefix("transformer."): torch.tensor(one) for key, one in tensors.items()}
    tensors |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    jax.tree.map(np.testing.assert_array_equal, interop.from_huggingface(model, tensors), variables)


def lively_variables(model):
    """Returns variables with small biases and large differences between the places, or one token would always win."""
    leaves = flatten(variables_of(model))
    factors = {"bias": 0.1, "position_embedding/embedding": 10}
    scale = {path: next((factor for end, factor in factors.items() if path.endswith(end)), 1) for path in leaves}
    return unflatten({path: leaf * scale[path] for path, leaf in leaves.items()})


@both_kinds
def test_greedy_generation_is_that_of_transformers(model):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    lengths, count = (3, 6, 1), 5
    variables = lively_variables(model)
    prompts = Texts(lengths).tokens(model)
    reference = reference_of(model, variables)
    expected = []
    for prompt, length in zip(prompts, lengths, strict=True):
        ids = torch.tensor(prompt[None, :length])
        options = {"max_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        expected.append(reference.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, length:].numpy())
    tokens = generate(model, variables, prompts, count, jax.random.key(0), np.array(lengths), temperature=0.0)
    np.testing.assert_array_equal(tokens, expected)
    assert len(np.unique(expected)) >= 4


@both_kinds
@pytest.mark.parametrize("beam_size", [1, 4])
def test_beam_search_is_that_of_transformers(model, beam_size):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    variables, count = lively_variables(model), 7
    prompts = np.random.default_rng(1).integers(0, model.vocab_size, (12, 4))
    # What is often written, but never first, is taken for the end.
    written = np.asarray(generate(model, variables, prompts, count, jax.random.key(0), temperature=0.0))
    end = int(max(set(written[:, 1:].flat) - set(written[:, 0]), key=lambda token: (written == token).sum()))
    options = {"num_beams": beam_size, "early_stopping": True, "length_penalty": 0.0} if beam_size > 1 else {}
    ids = torch.tensor(prompts)
    options |= {"max_new_tokens": count, "do_sample": False, "pad_token_id": end, "eos_token_id": end}
    generated = reference_of(model, variables).generate(ids, attention_mask=torch.ones_like(ids), **options).numpy()
    expected = np.full((12, count), end)
    expected[:, : generated.shape[1] - 4] = generated[:, 4:]

    def decode(tokens, cache):
        return model.apply(variables, tokens[:, None], cache, method="decode")

    _, cache = model.apply(variables, prompts[:, :-1], model.empty_cache(12, 4 + count), method="decode")
    search = jax.jit(functools.partial(beam_search, decode, max_length=count, beam_size=beam_size))
    tokens, _ = search(cache, prompts[:, -1], end, length_penalty=0.0)
    np.testing.assert_array_equal(tokens, expected)
    # Texts that end, and not all alike.
    assert (expected == end).any() and len({tuple(row) for row in expected.tolist()}) > 1
