"""What a task does with a trained model beyond one pass over the examples: in a run, afterwards, and from the shell."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import neuralmon as nm
from neuralmon.cli import main
from neuralmon.sampling import SampleRequest

_EXPERIMENT = """
import dataclasses
import neuralmon as nm
from neuralmon.tasks import Findings

@dataclasses.dataclass(frozen=True)
class Studied(nm.tasks.Classification):
    def study(self, trained, split):
        batch = trained.prepared(split)
        wrong = (trained.apply(batch["inputs"]).argmax(axis=-1) != batch["targets"]).sum()
        points = trained.examples(split, 2)["inputs"]
        return Findings(metrics={"wrong": float(wrong), "of": float(batch["weights"].sum())},
                        figures={"wrong": ("data", {"inputs": points, "labels": ["a", "b"]})},
                        texts={"wrong": f"{split}: {wrong} wrong"})

    def glimpse(self, trained):
        return Findings(texts={"seen": f"{trained.examples('validation', 3)['targets'].shape}"})

    def sample(self, trained, request):
        request.only("prompt", "num_samples", what="this task")
        for index in range(request.num_samples):
            yield f"{request.prompt} {index} "

def experiment():
    return nm.Experiment(dataset=nm.data.Moons(), model=nm.models.MLP(hidden=(4,)), task=Studied(),
                         optimizer=nm.optim.SGD(learning_rate=0.1),
                         training=nm.Training(batch_size=50, steps=6, evaluate_every=3))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, drawing: Callable[[], contextlib.AbstractContextManager]) -> Path:
    folder = tmp_path_factory.mktemp("studied")
    (folder / "mine.py").write_text(_EXPERIMENT)
    with drawing():
        nm.train(nm.load_experiment(str(folder / "mine.py")), folder / "run")
    return folder


def test_a_run_records_what_the_task_finds(run: Path) -> None:
    metrics = json.loads((run / "run" / "result.json").read_text())["metrics"]
    for split, values in metrics.items():
        assert values["wrong"] == pytest.approx((1 - values["accuracy"]) * values["of"]), split
    assert (run / "run" / "samples" / "wrong.txt").read_text() == f"test: {metrics['test']['wrong']:.0f} wrong"
    assert (run / "run" / "figures" / "wrong.png").read_bytes().startswith(b"\x89PNG")


def test_each_evaluation_leaves_a_glimpse(run: Path) -> None:
    texts = {file.name: file.read_text() for file in (run / "run" / "samples").glob("seen*")}
    assert texts == {"seen_000003.txt": "(3,)", "seen_000006.txt": "(3,)"}


def test_an_evaluation_finds_the_same(run: Path) -> None:
    result = nm.load_run(run / "run", str(run / "mine.py"))
    found, recorded = result.evaluate("test"), result.metrics["test"]
    assert found.keys() == recorded.keys()
    assert (found["wrong"], found["of"]) == (recorded["wrong"], recorded["of"])


def test_a_trained_model_gives_what_predict_says(run: Path) -> None:
    result = nm.load_run(run / "run", str(run / "mine.py"))
    trained = result.trained
    logits = trained.apply(trained.prepared("test", 7)["inputs"])
    said = result.predict(trained.examples("test", 7)["inputs"])
    np.testing.assert_array_equal(logits.argmax(axis=-1), said["class"])


def said(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        return main(["neuralmon", *argv]), out.getvalue(), err.getvalue()


def test_samples_come_from_the_folder(run: Path) -> None:
    launch = ("--mode=sample", f"--workdir={run / 'run'}", f"--experiment={run / 'mine.py'}")
    assert said(*launch, "--prompt=Oh", "--num_samples=2") == (0, "Oh 0 Oh 1 ", "")
    code, _, error = said(*launch, "--top_k=3")
    assert (code, error) == (
        2,
        "neuralmon: error: --top_k means nothing to this task; it takes --prompt, --num_samples\n",
    )


def test_other_tasks_make_no_samples(run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(_EXPERIMENT.replace("def sample(", "def not_sample("))
    code, _, error = said("--mode=sample", f"--workdir={run / 'run'}", f"--experiment={tmp_path / 'mine.py'}")
    assert code == 2
    assert "Studied makes no samples" in error


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("num_samples", 0, "1 or more"),
        ("length", 0, "1 or more"),
        ("temperature", -0.1, "0 or more"),
        ("top_k", 0, "1 or more"),
        ("top_p", 0.0, "more than 0 and at most 1"),
        ("top_p", 1.1, "more than 0 and at most 1"),
        ("repetition_penalty", 0.0, "more than 0"),
        ("stop", "", "any text but the empty one"),
        ("beam_size", 0, "1 or more"),
        ("length_penalty", -1.0, "0 or more"),
    ],
)
def test_what_cannot_be_sampled_is_refused(name: str, value: object, allowed: str) -> None:
    with pytest.raises(nm.RequestError, match=f"^--{name}={value} is out of range: allowed is {allowed}$"):
        SampleRequest(**{name: value})


def test_options_of_samples_are_refused_elsewhere() -> None:
    code, _, error = said("--mode=train", "--experiment=mlp_moons", "--temperature=0.5")
    assert code == 2
    assert "--temperature has no effect in --mode=train: it is for sample" in error
