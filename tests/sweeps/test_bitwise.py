"""Of every kind of network a trial is the run alone: dropout, schedules, running statistics, a game of two networks."""

import dataclasses

import jax
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.experiment import replace_at
from neuralmon.sweeps import mapped, slots
from neuralmon.sweeps.progress import SweepProgress
from neuralmon.training.progress import Silent


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Rows of 12 tokens, each the sum of the two before it modulo 7."""

    def spec(self):
        row = jax.ShapeDtypeStruct((12,), np.int32)
        return nm.data.Spec({"inputs": row, "targets": row}, {"train": 96, "validation": 40, "test": 24}, vocab_size=7)

    def load(self):
        rng, splits = np.random.default_rng(0), {}
        for name, size in self.spec().sizes.items():
            rows = rng.integers(0, 7, (size, 13)).astype(np.int32)
            for place in range(2, 13):
                rows[:, place] = (rows[:, place - 1] + rows[:, place - 2]) % 7
            splits[name] = {"inputs": rows[:, :-1], "targets": rows[:, 1:]}
        return splits

    def prepare(self, key, batch, train):
        return batch


def adversarial(tiny):
    model = nm.models.GAN(
        nm.models.MLPGenerator(sample_shape=(8, 8, 1), latent_dim=4, hidden=(8,)),
        nm.models.MLPDiscriminator(hidden=(8,), pieces=(2,)),
    )
    optimizer = nm.optim.Adam(learning_rate=nm.optim.Linear(peak=1e-3), ema_decay=0.9)
    return dataclasses.replace(tiny, model=model, task=nm.tasks.Adversarial(), optimizer=optimizer)


def language(tiny):
    model = nm.models.GPT(num_layers=2, num_heads=2, width=8, context_length=12, dropout=0.1)
    return dataclasses.replace(tiny, dataset=Tokens(), model=model, task=nm.tasks.LanguageModel())


KINDS = {
    "CNN": lambda tiny: tiny,
    "LSTM": lambda tiny: dataclasses.replace(
        tiny, dataset=nm.data.SequentialMnist(), model=nm.models.LSTM(hidden=(6,), dropout=0.2)
    ),
    "ResNet": lambda tiny: dataclasses.replace(tiny, model=nm.models.ResNet((1, 1), 4)),
    "GPT": language,
    "GAN": adversarial,
}


# Programs that are optimised as a user's are: JAX_DISABLE_MOST_OPTIMIZATIONS=0. Optimised less, XLA rounds what it
# maps otherwise than what it does not.
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_is_its_run_alone(tiny, kind, tmp_path):
    training = nm.Training(batch_size=16, steps=7, evaluate_every=4, steps_per_chunk=3)
    experiment = dataclasses.replace(KINDS[kind](tiny), training=training, name=kind)
    experiment = dataclasses.replace(experiment, names=nm.load_experiment("mlp_iris").names)
    space = {"optimizer.learning_rate.peak": [3e-3, 1e-2], "training.seed": [3, 4]}
    found = nm.sweep(experiment, space, progress=SweepProgress(), slots=3)
    assert [row["status"] for row in found.rows] == ["finished"] * 4
    for row in found.rows[1:3]:
        one = experiment
        for path, value in row["values"].items():
            one = replace_at(one, path, value)
        run = nm.train(one, None, progress=Silent())
        of_run = [line for line in run.history if line["split"] == "validation"]
        assert [line["step"] for line in of_run] == [4, 7]
        for evaluation, line in zip(row["evaluations"], of_run, strict=True):
            assert evaluation["validation"].items() <= line.items()
    if kind == "GAN":  # whose loss says not how good it is
        assert found.best is None
    else:
        assert found.best.metrics == nm.train(found.best.experiment, None, progress=Silent()).metrics


def test_there_are_as_many_slots_as_memory_holds(tiny, monkeypatch):
    experiment = dataclasses.replace(tiny, model=nm.models.MLP(hidden=(8,)), training=nm.Training(steps=2))
    sizes = []
    made = slots.Slots.__init__

    def counted(self, *args):
        made(self, *args)
        sizes.append((self.size, self._state_bytes))

    monkeypatch.setattr(slots.Slots, "__init__", counted)
    monkeypatch.setattr(slots, "_free_bytes", lambda mesh: 5 * 7_000 * len(jax.local_devices()))
    space = {"training.seed": range(6)}
    found = nm.sweep(experiment, space, progress=SweepProgress(), slots=6)
    (size, state_bytes), *_ = sizes
    assert 0 < size < 6 * len(jax.local_devices())
    assert 2 * size * state_bytes <= 5 * 7_000 * len(jax.local_devices())
    assert [row["status"] for row in found.rows] == ["finished"] * 6
    monkeypatch.setattr(slots, "_free_bytes", lambda mesh: 1000)
    with pytest.raises(nm.RequestError, match="for its state and the copies of it, but only"):
        nm.sweep(experiment, space, progress=SweepProgress(), slots=6)


def test_slots_as_an_axis_of_every_operation_mean_the_same(tiny, monkeypatch):
    """As on GPU and TPU; sums are taken in another order there, so it is not bitwise the same."""
    training = nm.Training(batch_size=16, steps=7, evaluate_every=4, steps_per_chunk=3)
    experiment = dataclasses.replace(tiny, model=nm.models.MLP(hidden=(8,), dropout=0.2), training=training)
    space = {"optimizer.learning_rate.peak": [1e-3, 1e-2, 1e9], "training.seed": [1]}
    in_turn = nm.sweep(experiment, space, progress=SweepProgress(), slots=2)
    monkeypatch.setattr(mapped, "_in_turn", lambda mesh: False)
    at_once = nm.sweep(experiment, space, progress=SweepProgress(), slots=2)
    assert at_once.compilations == 1
    for one, other in zip(in_turn.rows, at_once.rows, strict=True):
        assert (one["status"], one["step"]) == (other["status"], other["step"])
        losses = [[evaluation["validation"]["loss"] for evaluation in row["evaluations"]] for row in (one, other)]
        np.testing.assert_allclose(*losses, rtol=1e-4)
    assert in_turn.best.number == at_once.best.number
