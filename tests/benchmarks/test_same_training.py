"""What is compared has to be the same training: tiny works, from the same weights, with the losses of some steps."""

import dataclasses
import importlib

import jax
import pytest

import neuralmon as nm
from benchmarks.contenders.flax_loop import FlaxLoop
from benchmarks.job import Job, prepare
from benchmarks.training import check
from benchmarks.works import Examples, Work
from neuralmon.errors import RunError
from neuralmon.training.progress import Silent

LEARNED = nm.optim.Adam(learning_rate=1e-3)
STEPS = 4


def work(model, examples, task, optimizer=LEARNED, name="adam"):
    training = nm.Training(batch_size=4, epochs=1)
    experiment = nm.Experiment(model=model, dataset=examples, task=task, optimizer=optimizer, training=training)
    return Work("tiny", lambda: experiment, 1, name)


DIGITS, WORDS = nm.tasks.Classification(), nm.tasks.LanguageModel()
MOMENTUM = nm.optim.SGD(learning_rate=0.1, momentum=0.9)
TEXT = Examples("text", 5, 32)
WORKS = {
    "mlp": work(nm.models.MLP(hidden=(8, 7)), Examples("digits", size=32), DIGITS),
    "cnn": work(nm.models.CNN(features=(2, 3), hidden=8), Examples("digits", size=32), DIGITS),
    "resnet": work(
        nm.models.ResNet((1, 1), features=2), Examples("wide digits", size=32), DIGITS, MOMENTUM, "momentum"
    ),
    "lstm": work(nm.models.LSTM(hidden=(6,), embedding_dim=4, output="all"), TEXT, WORDS),
    "gpt": work(nm.models.GPT(context_length=5, num_layers=2, num_heads=2, width=8), TEXT, WORDS),
    "transformer": work(
        nm.models.Transformer(num_layers=1, num_heads=2, width=8, feedforward_dim=12),
        Examples("reversed text", 4, 32),
        WORDS,
    ),
}


QUICK = ("mlp", "cnn")
PARAMS = [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in WORKS]


@pytest.fixture(scope="module", params=PARAMS)
def trained(request, tmp_path_factory):
    """The folder of a job, and the losses of `nm.train`."""
    work, folder = WORKS[request.param], tmp_path_factory.mktemp(request.param)
    prepare(work, folder)
    experiment = work.experiment()
    training = dataclasses.replace(experiment.training, steps=STEPS, steps_per_chunk=1)
    result = nm.train(dataclasses.replace(experiment, training=training), progress=Silent())
    return folder, [row["loss"] for row in result.history]


def test_the_flax_loop_trains_the_same(trained):
    folder, losses = trained
    theirs = FlaxLoop(Job.read(folder, "flax")).losses(STEPS)
    assert theirs == pytest.approx(losses, rel=1e-4)
    assert len({round(loss, 4) for loss in theirs}) == STEPS  # it does train


def test_pytorch_trains_the_same_in_every_way_it_may_choose(trained):
    pytest.importorskip("torch")
    folder, losses = trained
    loop = importlib.import_module("benchmarks.contenders.torch_loop").TorchLoop(Job.read(folder, "torch"), False)
    for option, values in loop.options().items():
        for value in values:
            loop.choice = {**loop.choice, option: value}
            assert loop.losses(STEPS) == pytest.approx(losses, rel=1e-4), loop.choice


def test_the_bare_scan_is_the_same_step():
    from benchmarks.contenders.bare_scan import BareScan

    experiment = WORKS["mlp"].experiment()
    training = dataclasses.replace(experiment.training, steps=STEPS, steps_per_chunk=1)
    result = nm.train(dataclasses.replace(experiment, training=training), progress=Silent())
    assert BareScan(experiment).losses(STEPS) == pytest.approx([row["loss"] for row in result.history], rel=1e-5)


def test_a_loop_of_flax_compiles_once(trained):
    loop = FlaxLoop(Job.read(trained[0], "flax"))
    loop.losses(3)
    with jax.no_tracing():
        assert loop.run(2) > 0


def test_other_losses_are_an_error_that_says_whose():
    ours = [2.0, 1.5, 1.0]
    assert check({"neuralmon": ours, "Flax loop": [2.0, 1.5, 1.001]}) == {"Flax loop": pytest.approx(1e-3)}
    with pytest.raises(RunError, match=r"PyTorch eager does not train the same: its losses differ by 20.0%, 2.0000 1"):
        check({"neuralmon": ours, "PyTorch eager": [2.0, 1.5, 1.2]})
    with pytest.raises(RunError, match="does not train the same"):
        check({"neuralmon": ours, "Flax loop": [2.0, 1.5, float("nan")]})
