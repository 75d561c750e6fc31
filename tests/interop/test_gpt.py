"""GPT's weights in the layout of Hugging Face transformers, without it; tests/parity/test_gpt.py has the real one."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.errors import RequestError
from neuralmon.interop.gpt import from_huggingface, model_from_huggingface, to_huggingface
from neuralmon.models import GPT

GPT2 = GPT(vocab_size=7, context_length=5, num_layers=2, num_heads=2, width=4)
GPT1 = GPT2.clone(pre_norm=False)
CONFIG = {
    "model_type": "gpt2",
    **{"vocab_size": 7, "n_positions": 5, "n_layer": 2, "n_head": 2, "n_embd": 4, "n_inner": None},
    **{"activation_function": "gelu_new", "resid_pdrop": 0, "embd_pdrop": 0.0, "attn_pdrop": 0.3},
}


def variables_of(model):
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize("model", [GPT1, GPT2], ids=["GPT-1", "GPT-2"])
def test_weights_go_out_and_come_back(model):
    variables = variables_of(model)
    tensors = to_huggingface(model, variables)
    joint = tensors["transformer.h.1.attn.c_attn.weight"]
    assert joint.shape == (4, 12)
    np.testing.assert_array_equal(joint[:, 4:8], variables["params"]["layers"]["attention"]["key"]["kernel"][1])
    names = ("transformer.wte.weight", "transformer.tokens_embed.weight")
    np.testing.assert_array_equal(tensors["lm_head.weight"], tensors[names[model is GPT1]])
    jax.tree.map(np.testing.assert_array_equal, from_huggingface(model, tensors), variables)


def test_all_that_is_wrong_with_weights_is_said_at_once():
    tensors = to_huggingface(GPT2, variables_of(GPT2))
    tensors["transformer.h.2.ln_1.weight"] = tensors.pop("transformer.h.1.ln_1.weight")
    tensors["transformer.h.0.mlp.c_fc.weight"] = np.ones((16, 4), np.float32)
    with pytest.raises(RequestError) as caught:
        from_huggingface(GPT2, tensors)
    for message in ("h.1.ln_1.weight is missing", "h.2.ln_1.weight is left over", "h.0.mlp.c_fc.weight (16, 4)"):
        assert message in str(caught.value)


def test_an_output_layer_of_its_own_is_refused():
    tensors = to_huggingface(GPT2, variables_of(GPT2))
    tensors["lm_head.weight"] = tensors["lm_head.weight"] + 1
    with pytest.raises(RequestError, match=r"lm_head\.weight is not wte\.weight"):
        from_huggingface(GPT2, tensors)


def test_a_folder_describes_its_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    assert model_from_huggingface(tmp_path) == GPT2.clone(attention_dropout=0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "llama"}, "of type 'llama'; GPT is gpt2 or openai-gpt"),
        ({"activation_function": "gelu"}, "activation_function 'gelu' is not known; known are gelu_new"),
        ({"scale_attn_by_inverse_layer_idx": True}, "no scale_attn_by_inverse_layer_idx=True, only False"),
        ({"tie_word_embeddings": False}, "no tie_word_embeddings=False"),
        ({"n_head": ...}, "does not say n_head"),
        ({"n_head": "2"}, "n_head '2' is no number of 1 or more"),
    ],
)
def test_what_gpt_is_not_is_refused(change, message, tmp_path):
    config = {name: value for name, value in (CONFIG | change).items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(RequestError, match=message):
        model_from_huggingface(tmp_path)


def test_a_folder_without_a_description(tmp_path):
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(RequestError, match=r"config\.json describes no model"):
        model_from_huggingface(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(RequestError, match=r"config\.json cannot be read"):
        model_from_huggingface(tmp_path)
