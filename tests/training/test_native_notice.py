"""A run says it when layers of it would be faster with the compiled part."""

import jax
import jax.numpy as jnp
import pytest

import neuralmon as nm
from neuralmon.ops import native
from neuralmon.state import TrainState
from neuralmon.training.options import Options
from neuralmon.training.train import _misses_native

MODELS = {
    "MLP": (nm.models.MLP(num_classes=2), jnp.zeros((1, 4)), False),
    "CNN": (nm.models.CNN((4,), num_classes=2), jnp.zeros((1, 8, 8, 1)), True),
    "LSTM": (nm.models.LSTM((4,), num_classes=2), jnp.zeros((1, 3, 2)), True),
    "GPT": (nm.models.GPT(5, 4, 2, 2, 4), jnp.zeros((1, 4), jnp.int32), True),
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_missing_is_said_of_what_would_use_it(name, monkeypatch):
    model, inputs, uses = MODELS[name]
    params = jax.eval_shape(model.init, jax.random.key(0), inputs)["params"]
    state = TrainState(jnp.int32(0), params, {}, (), None)

    def misses(status, **options):
        monkeypatch.setattr(native, "native_status", lambda: status)
        return _misses_native(state, Options(**options))

    assert misses("no native operations: it was not compiled") == uses
    assert not misses("no native operations: it was not compiled", reference_ops=True)
    assert not misses("no native operations: switched off by NEURALMON_NATIVE=0")
    assert not misses("native operations: avx2")
