"""What tokens are drawn from, beside the logits processors of transformers."""

import jax.numpy as jnp
import numpy as np
import pytest

from neuralmon.models.generation import choice_logits

_OPTIONS = [
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_p": 0.8},
    {"top_p": 0.01},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8, "temperature": 1.7, "top_k": 20, "top_p": 0.6},
]


@pytest.mark.parametrize("options", _OPTIONS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_choices_are_those_of_the_logits_processors(options, seed):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from transformers.generation import logits_process

    draw = np.random.default_rng(seed)
    logits, said = draw.normal(size=(4, 50)).astype(np.float32) * 3, draw.integers(0, 50, (4, 12))
    seen = np.zeros((4, 50), bool)
    seen[np.arange(4)[:, None], said] = True
    expected = torch.tensor(logits)
    for name, processor in {
        "repetition_penalty": logits_process.RepetitionPenaltyLogitsProcessor,
        "temperature": logits_process.TemperatureLogitsWarper,
        "top_k": logits_process.TopKLogitsWarper,
        "top_p": logits_process.TopPLogitsWarper,
    }.items():
        if name in options:
            expected = processor(options[name])(torch.tensor(said), expected)
    found = np.asarray(choice_logits(jnp.asarray(logits), **options, seen=jnp.asarray(seen)))
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected.numpy()))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.isfinite(found).any(axis=-1).all()
