"""Layer-wise learning rates: which parameter has which, and that it is exactly another learning rate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import neuralmon as nm
from neuralmon import codec
from neuralmon.names import Names
from neuralmon.optim import SGD, AdamW, Cosine, LayerRate, Muon
from neuralmon.optim.freezing import partition
from neuralmon.optim.layer_rates import rate_of_each, unused

PARAMS = {
    "conv_0": {"kernel": np.linspace(-1, 1, 6).reshape(2, 3), "bias": np.ones(3)},
    "conv_1": {"kernel": np.linspace(1, 2, 6).reshape(3, 2)},
    "head": {"kernel": np.linspace(0, 1, 4).reshape(2, 2), "bias": np.zeros(2)},
}
PARAMS = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
HEAD, BIAS, CONV = LayerRate("head", 2.0), LayerRate("*/bias", 0.0), LayerRate("conv_*", 0.1)


@pytest.mark.parametrize(
    ("rates", "factors", "left_over"),
    [
        ((), [None] * 5, ()),
        ((CONV,), [0.1, 0.1, 0.1, None, None], ()),
        ((BIAS, CONV), [0.0, 0.1, 0.1, 0.0, None], ()),
        ((CONV, BIAS), [0.1, 0.1, 0.1, 0.0, None], ()),
        ((HEAD, BIAS, CONV), [0.0, 0.1, 0.1, 2.0, 2.0], ()),
        ((LayerRate("*", 1.0), CONV), [1.0] * 5, ("conv_*",)),
        ((LayerRate("conv", 1.0), BIAS), [0.0, None, None, 0.0, None], ("conv",)),
        ((LayerRate("conv_?/kernel", 3.0),), [None, 3.0, 3.0, None, None], ()),
    ],
    ids=str,
)
def test_the_first_match_wins_and_unused_patterns_are_found(rates, factors, left_over):
    chosen = rate_of_each(PARAMS, rates)
    assert list(chosen) == ["conv_0/bias", "conv_0/kernel", "conv_1/kernel", "head/bias", "head/kernel"]
    assert [None if rate is None else rate.factor for rate in chosen.values()] == factors
    assert unused(PARAMS, rates) == left_over


def train(optimizer, params=PARAMS, steps=3):
    trainable, still = partition(params, optimizer.frozen)
    transform = optimizer.transform(10)
    state = transform.init(trainable)
    for step in range(steps):
        gradients = jax.tree.map(lambda w, step=step: jnp.cos(3.0 * w + step), trainable)
        updates, state = transform.update(gradients, state, trainable)
        trainable = optax.apply_updates(trainable, updates)
    return nm.optim.freezing.combine(trainable, still)


@pytest.mark.parametrize("kind", [SGD, AdamW, Muon])
def test_a_factor_is_another_learning_rate_for_its_parameters(kind):
    @jax.jit
    def result(peak, factors):
        rates = tuple(map(LayerRate, ("conv_0", "*/bias", "conv_1"), factors))
        return train(kind(learning_rate=Cosine(peak, warmup=0.3), layer_rates=rates))

    together = result(0.1, (0.25, 2.0, 0.0))
    for layer, name, factor in (
        ("conv_0", "kernel", 0.25),
        ("conv_0", "bias", 0.25),
        ("head", "bias", 2.0),
        ("head", "kernel", 1.0),
    ):
        alone = result(0.1 * factor, (1.0, 1.0, 1.0))
        np.testing.assert_allclose(together[layer][name], alone[layer][name], rtol=1e-6, atol=1e-7)
        assert np.abs(together[layer][name] - PARAMS[layer][name]).max() > 1e-4
    assert (np.asarray(together["conv_1"]["kernel"]) == np.asarray(PARAMS["conv_1"]["kernel"])).all()


def test_with_frozen_parameters():
    rates = (LayerRate("conv_*", 0.5),)
    after = train(SGD(learning_rate=0.1, layer_rates=rates, frozen=("conv_0",)))
    plain = train(SGD(learning_rate=0.05))
    assert (np.asarray(after["conv_0"]["bias"]) == np.asarray(PARAMS["conv_0"]["bias"])).all()
    np.testing.assert_allclose(after["conv_1"]["kernel"], plain["conv_1"]["kernel"], rtol=1e-6)


def test_factors_are_numbers_of_the_program_and_patterns_are_structure():
    optimizer = AdamW(layer_rates=(CONV, LayerRate("head", 3.0)))
    experiment = dataclasses.replace(nm.load_experiment("mlp_mnist"), optimizer=optimizer)
    structure, numbers = nm.experiment.split(experiment)
    assert numbers["optimizer.layer_rates.0.factor"] == np.float32(0.1)
    assert numbers["optimizer.layer_rates.1.factor"] == 3.0
    assert structure.optimizer.layer_rates[1].pattern == "head"
    traces = []

    @jax.jit
    def compiled(numbers):
        traces.append(numbers)
        return train(nm.experiment.merge(structure, numbers).optimizer)

    for factor in (0.1, 0.0, 2.0):
        expected = train(AdamW(layer_rates=(LayerRate("conv_*", factor), LayerRate("head", 3.0))))
        ours = compiled({**numbers, "optimizer.layer_rates.0.factor": np.float32(factor)})
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, expected)
    assert len(traces) == 1


def test_written_and_read_again():
    names = Names()
    text = "AdamW(layer_rates=(LayerRate('conv_*', 0.1), LayerRate(pattern='head', factor=0)))"
    optimizer = codec.parse(text, nm.optim.Optimizer, names)
    assert optimizer == AdamW(layer_rates=(CONV, LayerRate("head", 0.0)))
    assert codec.from_json(codec.to_json(optimizer, names), nm.optim.Optimizer, names) == optimizer
    with pytest.raises(nm.RequestError, match=r"factor.*-1.*allowed is 0 or more"):
        codec.parse("AdamW(layer_rates=(LayerRate('conv_*', -1),))", nm.optim.Optimizer, names)
