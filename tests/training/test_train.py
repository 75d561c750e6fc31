"""Properties of training: what must not depend on how the run was cut, compiled or spread over devices."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import neuralmon as nm
from neuralmon.data.pipeline import resident_batch
from neuralmon.experiment import merge, replace_at, split
from neuralmon.parallel import make_mesh
from neuralmon.training.checkpoint import fingerprint
from neuralmon.training.program import compile_train, make_train
from neuralmon.training.progress import Progress, Silent
from neuralmon.training.step import make_step


def trained(experiment, **options):
    return nm.train(experiment, None, progress=Silent(), **options)


def with_values(experiment, **values):
    for path, value in values.items():
        experiment = replace_at(experiment, path.replace("__", "."), value)
    return experiment


@pytest.fixture(scope="module")
def baseline(tiny):
    return trained(tiny)


def assert_close(left, right, rtol=2e-4, atol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), left, right)


def test_learns(baseline):
    assert baseline.metrics["test"]["accuracy"] > 0.8
    assert baseline.metrics["validation"]["accuracy"] > 0.8
    losses = [row["loss"] for row in baseline.history if row["split"] == "train"]
    assert losses[-1] < losses[0]


def test_history_has_a_row_for_each_chunk_and_evaluation(baseline):
    rows = [(row["step"], row["split"]) for row in baseline.history]
    assert [step for step, kind in rows if kind == "validation"] == [19, 38, 57, 76]
    boundaries = sorted({*range(7, 77, 7), 19, 38, 57, 76})
    assert [step for step, kind in rows if kind == "train"] == boundaries
    assert rows == sorted(rows, key=lambda row: (row[0], row[1] == "validation"))


@pytest.mark.parametrize("steps_per_chunk", [1, 16, 1000])
def test_chunk_length_does_not_matter(tiny, baseline, steps_per_chunk):
    other = trained(with_values(tiny, training__steps_per_chunk=steps_per_chunk))
    # The number of steps is an argument of the same program, so not even the rounding differs.
    assert other.fingerprint == baseline.fingerprint


def test_same_seed_same_bits_other_seed_other_bits(tiny, baseline):
    assert trained(tiny).fingerprint == baseline.fingerprint
    assert trained(with_values(tiny, training__seed=1)).fingerprint != baseline.fingerprint


@pytest.mark.slow
def test_jit_equals_no_jit(tiny):
    model = nm.models.MLP(hidden=())
    experiment = with_values(tiny, model=model, training__steps=1).resolve()
    structure, numbers = split(experiment)
    mesh = make_mesh(32)
    program = compile_train(structure, mesh)
    data = jax.device_put(dict(experiment.dataset.load()["train"]))

    def run():
        state, sums = program.chunk(numbers, program.init(numbers), data, 1)
        return state.params, sums

    compiled = run()
    with jax.disable_jit():
        plain = run()
    assert_close(plain, compiled)


def launched(root, folder, environment, *words):
    """Runs the tiny experiment in a process of its own, which has compiled nothing yet; returns the programs it did."""
    environment = {**environment, "JAX_LOG_COMPILES": "1", "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "launch.py", "--experiment=tests/tiny.py", f"--workdir={folder / 'run'}", "--quiet"]
    command += ["--figures=false", *words]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return re.findall(r"Finished XLA compilation of jit\((\w+)\)", done.stderr)


def test_two_devices_equal_one_and_a_fresh_run_compiles_its_program_once(baseline, root, tmp_path, quick_environment):
    # --devices must come before the process's first array.
    assert launched(root, tmp_path, quick_environment, "--devices=2").count("chunk") == 1
    other = nm.load_run(tmp_path / "run", experiment=str(root / "tests" / "tiny.py"))
    assert len(json.loads((tmp_path / "run" / "launches.json").read_text())[0]["devices"]) == 2
    assert_close(other.state.params, baseline.state.params)
    for name in ("validation", "test"):
        # Counts are exact, so the confusion matrices of (nearly) equal parameters are equal.
        assert other.metrics[name]["confusion"] == baseline.metrics[name]["confusion"]


@pytest.mark.slow
def test_a_fresh_run_on_one_device_compiles_its_program_once(root, tmp_path, quick_environment):
    assert launched(root, tmp_path, quick_environment).count("chunk") == 1


def test_changing_numbers_compiles_nothing(tiny, baseline):
    structure, _ = split(tiny.resolve())
    program = make_train(structure, make_mesh(32))
    before = [program.init._cache_size(), program.chunk._cache_size(), program.evaluate._cache_size()]
    compilations = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compilations.append(event) if "backend_compile" in event else None
    )
    changed = with_values(
        tiny,
        dataset__shift=2.0,
        model__dropout=0.5,
        model__kernel_init__scale=1.5,
        task__label_smoothing=0.2,
        optimizer__learning_rate__peak=3e-3,
        optimizer__learning_rate__warmup=0.3,
        optimizer__weight_decay=0.3,
        optimizer__b1=0.8,
        optimizer__clip_norm=0.5,
        training__seed=7,
    )
    try:
        result = trained(changed)
    finally:
        jax.monitoring.clear_event_listeners()
    assert [program.init._cache_size(), program.chunk._cache_size(), program.evaluate._cache_size()] == before
    assert compilations == []
    assert result.fingerprint != baseline.fingerprint


def test_every_number_reaches_the_program(tiny):
    """Each number on its own changes the parameters after some steps: none is baked in or ignored."""
    experiment = with_values(tiny, training__steps=30)
    structure, numbers = split(experiment.resolve())
    program = make_train(structure, make_mesh(32))
    data = jax.device_put(dict(experiment.dataset.load()["train"]))

    def final(numbers):
        return fingerprint(program.chunk(numbers, program.init(numbers), data, 30)[0].params)

    base = final(numbers)
    ignored = []
    for path, value in numbers.items():
        other = value + 1 if value.dtype == np.int32 else np.float32(value * 0.5 + 0.01)
        if final({**numbers, path: other}) == base:
            ignored.append(path)
    assert ignored == []


def test_merge_of_split_gives_the_same_step(tiny):
    """The step of the merged experiment equals the step of the experiment itself, numbers as Python floats."""
    experiment = tiny.resolve()
    structure, numbers = split(experiment)
    mesh = make_mesh(32)
    data = jax.device_put(dict(experiment.dataset.load()["train"]))
    state = make_train(structure, mesh).init(numbers)
    batch = resident_batch(data, jnp.int32(experiment.training.seed), state.step, 32)
    direct = jax.jit(make_step(experiment, 76, mesh))(state, batch)
    merged = jax.jit(make_step(merge(structure, numbers), 76, mesh))(state, batch)
    assert_close(direct, merged, rtol=1e-5, atol=1e-6)


def test_evaluation_covers_every_example_once(baseline):
    for name, size in (("validation", 101), ("test", 53)):
        metrics = baseline.metrics[name]
        assert sum(map(sum, metrics["confusion"])) == size
        data = baseline.experiment.dataset.load()[name]
        predicted = baseline.predict(data["inputs"])["class"]
        assert metrics["accuracy"] == pytest.approx((predicted == data["targets"]).mean())


def test_predict_takes_one_image_and_images_without_channels(baseline):
    images = baseline.experiment.dataset.load()["test"]["inputs"]
    whole = baseline.predict(images)["probabilities"]
    np.testing.assert_allclose(whole.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(baseline.predict(images[..., 0])["probabilities"], whole, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(baseline.predict(images[0])["probabilities"][0], whole[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(nm.RequestError, match=r"do not fit: expected \(examples, 8, 8, 1\)"):
        baseline.predict(np.zeros((3, 5, 5)))


def test_nothing_is_written_without_a_workdir(tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(tiny)
    assert list(tmp_path.iterdir()) == []


def test_load_run_equals_the_result(tiny, baseline, root, tmp_path):
    result = nm.train(tiny, tmp_path / "run", progress=Silent())
    assert result.fingerprint == baseline.fingerprint
    loaded = nm.load_run(tmp_path / "run", experiment=str(root / "tests" / "tiny.py"))
    assert loaded.fingerprint == result.fingerprint
    assert loaded.metrics == result.metrics
    assert loaded.history == [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [row["step"] for row in loaded.history] == [row["step"] for row in result.history]
    assert loaded.evaluate("test") == result.metrics["test"]
    # Finished: launched again it trains nothing and gives the same.
    again = nm.train(tiny, tmp_path / "run", progress=Silent())
    assert again.metrics == result.metrics
    assert again.fingerprint == result.fingerprint


class NormedNet(nn.Module):
    """A model of one's own, with running statistics and no neuralmon in it."""

    num_classes: int | None = None

    @nn.compact
    def __call__(self, inputs, train: bool = False):
        x = nn.Dense(8, name="first")(inputs.reshape(inputs.shape[0], -1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
        return nn.Dense(self.num_classes, name="last")(x)


def test_running_statistics_are_trained_and_frozen_ones_stand_still(tiny):
    experiment = with_values(tiny, model=NormedNet(), training__steps=5)
    free = trained(experiment)
    assert free.experiment.model.num_classes == 6
    assert np.abs(free.state.model_state["batch_stats"]["norm"]["mean"]).max() > 0
    frozen = trained(with_values(experiment, optimizer__frozen=("norm", "first/kernel")))
    structure, numbers = split(experiment.resolve())
    start = make_train(structure, make_mesh(32)).init(numbers)
    for path in (("norm", "scale"), ("norm", "bias"), ("first", "kernel")):
        np.testing.assert_array_equal(frozen.state.params[path[0]][path[1]], start.params[path[0]][path[1]])
    np.testing.assert_array_equal(
        frozen.state.model_state["batch_stats"]["norm"]["mean"], start.model_state["batch_stats"]["norm"]["mean"]
    )
    assert np.abs(np.asarray(frozen.state.params["last"]["kernel"] - start.params["last"]["kernel"])).max() > 0


class PlainNet(nn.Module):
    """A model without a `train` argument."""

    num_classes: int | None = None

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(self.num_classes)(inputs.reshape(inputs.shape[0], -1))


def test_a_model_needs_no_train_argument(tiny):
    assert trained(with_values(tiny, model=PlainNet())).metrics["test"]["accuracy"] > 0.5


def test_divergence_stops_with_the_step_and_what_to_try(tiny, tmp_path):
    # Infinite parameters after the first update make the second step's loss NaN.
    experiment = with_values(
        tiny, optimizer=nm.optim.SGD(learning_rate=1e38), training__checkpoint_every=1, training__steps_per_chunk=5
    )
    with pytest.raises(
        nm.RunError, match=r"training diverged: in step \d+ .* not finite; .*Try a smaller learning rate"
    ):
        nm.train(experiment, tmp_path / "run", progress=Silent())
    launch = json.loads((tmp_path / "run" / "launches.json").read_text())[-1]
    assert launch["status"].startswith("RunError: training diverged: in step")
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_model_made_in_a_notebook_is_saved_and_loaded(tiny, tmp_path):
    experiment = with_values(tiny, model=PlainNet(), training__steps=3)
    result = nm.train(experiment, tmp_path / "run", progress=Silent())
    assert nm.load_run(tmp_path / "run", experiment).fingerprint == result.fingerprint
    with pytest.raises(nm.RequestError, match="another structure"):
        nm.load_run(tmp_path / "run", with_values(experiment, training__steps=4))


@pytest.mark.slow
def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(tiny):
    result = trained(with_values(tiny, model=nm.models.MLP(hidden=(16,), dtype=jnp.bfloat16)))
    assert {leaf.dtype for leaf in jax.tree.leaves(result.state.params)} == {jnp.dtype("float32")}
    structure, numbers = split(result.experiment)
    state = make_train(structure, make_mesh(32)).init(numbers)
    images = jnp.zeros((1, 8, 8, 1))
    jaxpr = str(jax.make_jaxpr(lambda: result.experiment.model.apply(state.variables, images))())
    assert "bf16[1,16]" in jaxpr
    assert result.metrics["validation"]["accuracy"] > 0.6


def test_shown_progress_is_told_everything(tiny):
    told = []

    class Recorder(Progress):
        def start(self, title, total_steps, step):
            told.append(("start", title, total_steps, step))

        def train(self, step, metrics, examples_per_second):
            assert examples_per_second > 0
            told.append(("train", step))

        def evaluation(self, step, split, metrics):
            told.append((split, step))

    result = nm.train(tiny, progress=Recorder())
    rows = [(row["split"], row["step"]) for row in result.history]
    assert told == [("start", "tiny", 76, 0), *rows, ("test", 76)]


def test_a_class_defined_again_is_another_program(tiny):
    """Notebooks define a class again under the same name; its first program must not be used for it."""

    def net(width):
        @dataclasses.dataclass
        class Net(nn.Module):
            num_classes: int | None = None

            @nn.compact
            def __call__(self, inputs):
                return nn.Dense(self.num_classes)(nn.Dense(width)(inputs.reshape(inputs.shape[0], -1)))

        return Net()

    def hidden_width(width):
        structure, numbers = split(with_values(tiny, model=net(width)).resolve())
        state = jax.eval_shape(make_train(structure, make_mesh(32)).init, numbers)
        return state.params["Dense_1"]["kernel"].shape[1]

    assert [hidden_width(3), hidden_width(5)] == [3, 5]


@pytest.mark.parametrize("name", ["cnn_mnist", "mlp_mnist", "softmax_mnist"])
def test_the_step_lowers_for_cpu_cuda_and_tpu(name):
    from jax import export

    experiment = nm.load_experiment(name).resolve()
    structure, numbers = split(experiment)
    program = compile_train(structure, make_mesh(128))
    state = jax.eval_shape(program.init, numbers)
    spec = experiment.dataset.spec()
    data = {
        key: jax.ShapeDtypeStruct((spec.sizes["train"], *feature.shape), feature.dtype)
        for key, feature in spec.features.items()
    }
    exported = export.export(program.chunk, platforms=("cpu", "cuda", "tpu"))(numbers, state, data, np.int32(1))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert "stablehlo.while" in exported.mlir_module()


def test_a_signal_during_an_evaluation_saves(tiny, tmp_path, root):
    class Stopper(Progress):
        def evaluation(self, step, split, metrics):
            if step == 19:
                signal.raise_signal(signal.SIGTERM)

    experiment = with_values(tiny, training__checkpoint_every=1000)
    with pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM at step 19 of 76: saved"):
        nm.train(experiment, tmp_path / "run", progress=Stopper())
    assert nm.load_run(tmp_path / "run", experiment).state.step == 19


def test_a_changed_file_is_said_and_kept(root, tmp_path):
    source = (root / "tests" / "tiny.py").read_text()
    notices = []

    class Listener(Progress):
        def notice(self, text):
            notices.append(text)

    for text in (source, source + "# changed\n", source):
        (tmp_path / "mine.py").write_text(text)
        experiment = nm.load_experiment(str(tmp_path / "mine.py"))
        (tmp_path / "run" / "result.json").unlink(missing_ok=True)
        nm.train(with_values(experiment, training__steps=2), tmp_path / "run", progress=Listener())
    assert [notice for notice in notices if notice.startswith("the experiment's file")] == [
        "the experiment's file has changed since the run was started: kept as experiment.1.py"
    ]
    assert (tmp_path / "run" / "experiment.py").read_text() == source


def test_what_is_loaded_must_be_what_the_spec_says(tiny):
    @dataclasses.dataclass(frozen=True)
    class Short(type(tiny.dataset)):
        def load(self):
            return {name: split for name, split in super().load().items() if name != "test"}

    with pytest.raises(nm.RunError, match=r"load\(\) gave nothing as 'inputs' of 'test', but spec\(\) says"):
        trained(with_values(tiny, dataset=Short()))


def test_predict_refuses_what_would_be_cut_off(baseline):
    with pytest.raises(nm.RequestError, match="the dataset stores uint8, unscaled"):
        baseline.predict(np.full((8, 8), 0.5))


class RequiredTrain(nn.Module):
    """A model whose `train` argument has no default, with the field that Flax's own examples have."""

    features: Sequence[int] = (8,)
    num_classes: int | None = None

    @nn.compact
    def __call__(self, inputs, train):
        x = inputs.reshape(inputs.shape[0], -1)
        for width in self.features:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.num_classes)(x)


def test_a_train_argument_needs_no_default_and_sequences_are_tuples(tiny):
    result = trained(with_values(tiny, model=RequiredTrain(features=(4, 4)), training__steps=1))
    assert len(result.state.params) == 3
