"""What a wrong request gets: its exit code and one line that says what, where and what is allowed."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuralmon.cli import main

_TINY = '''
import dataclasses
import flax.linen as nn
import jax
import numpy as np
import neuralmon as nm

@dataclasses.dataclass(frozen=True)
class Tiny:
    """64 random images of 4 x 4 pixels."""

    missing: str | None = None

    def spec(self):
        image, label = jax.ShapeDtypeStruct((4, 4, 1), np.float32), jax.ShapeDtypeStruct((), np.int32)
        sizes = {"train": 64, "validation": 8, "test": 8}
        return nm.data.Spec({"inputs": image, "targets": label}, sizes, ("a", "b", "c"))

    def load(self):
        if self.missing:
            open(self.missing)
        random = np.random.default_rng(0)
        return {
            split: {"inputs": random.normal(size=(size, 4, 4, 1)).astype(np.float32),
                    "targets": random.integers(0, 3, size).astype(np.int32)}
            for split, size in self.spec().sizes.items()
        }

    def prepare(self, key, batch, train):
        return batch

class Narrow(nn.Module):
    def __call__(self, inputs):
        raise ValueError("inputs are too narrow\\nand this is a second line")

def experiment():
    return nm.Experiment(
        dataset=Tiny(), model=nm.models.MLP(hidden=()), task=nm.tasks.Classification(), optimizer=nm.optim.SGD(),
        training=nm.Training(batch_size=16, steps=3),
    )
'''

_FILES = {
    "tiny.py": _TINY,
    "unparsable.py": "import neuralmon\n\ndef experiment(:\n",
    "raising.py": "x = 1\n\ny = x / 0\n",
    "raising_later.py": "def experiment():\n    return undefined_name\n",
    "exiting.py": "import sys\n\nsys.exit(0)\n",
    "empty.py": "",
    "returning.py": "def experiment():\n    return {'model': 3}\n",
    "lacking.py": "import neuralmon as nm\ndef experiment():\n    return nm.Experiment(model=nm.models.MLP())\n",
    "swapped.py": _TINY.replace("model=nm.models.MLP(hidden=())", "model=nm.optim.SGD()"),
    "wordy.py": _TINY.replace("MLP(hidden=())", "MLP(hidden='big')"),
    "nameless.py": _TINY.replace("MLP(hidden=())", "MLP(activation=lambda x: x)"),
    "private.py": _TINY.replace("Tiny", "_Tiny"),
    "unvalidated.py": _TINY.replace('"validation": 8, ', ""),
    "words.txt": "words",
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A command line; `{}` is the folder of `place`. `says` are parts of the message, in this order."""

    line: str
    says: tuple[str, ...]
    code: int = 2


def case(line: str, *says: str, code: int = 2) -> Case:
    return Case(line, says, code)


_S, _T, _E = "--experiment=softmax_mnist ", "--experiment={}/tiny.py ", "--mode=evaluate --experiment={}/tiny.py "
_P = "--mode=predict --experiment={}/tiny.py "
_CASES = [
    # What is run.
    case("", "say what to run", "--experiment=NAME_OR_FILE", "--list"),
    case("--experiment=cnn_mnits", "no experiment 'cnn_mnits'", "did you mean cnn_mnist?", "./my_own.py"),
    case("--experiment=", "no experiment ''"),
    case("--experiment={}/nowhere.py", "nowhere.py does not exist", "path of a Python file"),
    case("--experiment={}/afolder/", "afolder/ is a folder", "path of a Python file"),
    case("--experiment={}/words.txt", "words.txt is not a Python file; its name must end in .py"),
    case("--experiment={}/unparsable.py", "unparsable.py, line 3: not valid Python"),
    case("--experiment={}/raising.py", "raising.py, line 3: ZeroDivisionError: division by zero"),
    case("--experiment={}/raising_later.py", "raising_later.py, line 2: NameError", "undefined_name"),
    case("--experiment={}/exiting.py", "exiting.py, line 3: SystemExit: 0"),
    case("--experiment={}/empty.py", "empty.py: has no function experiment()"),
    case("--experiment={}/returning.py", "experiment() returned dict, not an nm.Experiment"),
    case("--experiment={}/lacking.py", "lacking.py, line 3", "'dataset', 'task', and 'optimizer'"),
    case("--experiment={}/swapped.py", "model: expected Module, not SGD"),
    case("--experiment={}/wordy.py", "model.hidden: expected tuple of int (1 or more), not 'big'"),
    case("--experiment={}/nameless.py", "model.activation", "<lambda> has no public name", "use a named function"),
    case("--experiment={}/private.py", "dataset: _Tiny of private has no public name in private.py"),
    # Flags.
    case("--expriment=cnn_mnist", "no flag --expriment (did you mean --experiment?)", "--help"),
    case("--expriment=cnn_mnist --workdir={}/new", "no flag --expriment (did you mean --experiment?)"),
    case("--list --verbose", "no flag --verbose"),
    case(_S + "--optimizer.learning_rat=1", "no flag --optimizer.learning_rat (did you mean --optimizer.learning_rate"),
    case(_S + "--model.features=16", "no flag --model.features"),
    case(_S + "--modle=MLP", "no flag --modle", "--model"),
    case(_S + "fast", "'fast' is not a flag", "--name=value"),
    case("train --workdir={}/new", "'train' is not a flag"),
    case(_S + "--mode=trian", "--mode=trian", "train|evaluate|predict|sample|summary|results"),
    case(_S + "--allow_changes=perhaps", "--allow_changes=perhaps: allowed are true and false"),
    case(_S + "--devices=0", "--devices=0", "positive integer"),
    case(_S + "--training.epochs", "training.epochs"),
    # Values.
    case(_S + "--training.epochs=two", "--training.epochs=two: expected int (1 or more), not two"),
    case(_S + "--training.epochs=2.5", "--training.epochs=2.5: expected int (1 or more), not 2.5"),
    case(_S + "--training.epochs=", "--training.epochs=: ", "cannot be read: expected a number"),
    case(_S + "--training.epochs=0", "--training.epochs=0: 0 is out of range: allowed is 1 or more"),
    case(_S + "--training.seed=-1", "-1 is out of range: allowed is 0 to 2147483647"),
    case(_S + "--optimizer.learning_rate=-1", "--optimizer.learning_rate=-1: -1 is out of range: allowed is 0 or more"),
    case(_S + "--optimizer.learning_rate=nan", "nan is out of range: allowed is 0 or more"),
    case(_S + "--optimizer.learning_rate=1e39", "1e+39 is out of range: allowed is 0 or more, within float32"),
    case(_S + "--optimizer.learning_rate.peak=inf", "inf is out of range: allowed is 0 or more"),
    case(_S + "--model.dropout=1.5", "--model.dropout=1.5: 1.5 is out of range: allowed is 0 to 1"),
    case(_S + "--model.dropout=lots", "expected float (0 to 1) or None, not lots"),
    case(_S + "--dataset.join_validation=yes", "expected true or false, not yes"),
    case(_S + "--model.hidden=16,0", "0 is out of range: allowed is 1 or more"),
    case(_S + "--training=None", "expected Training, not None"),
    case(_T + "--training.batch_size=128", "training.batch_size: 128 is more than the 64 training examples"),
    case(_S + "--training.steps=1000000000", "1,000,000,000 steps of 128 examples are more than a run can count"),
    case(_S + "--model.activation=geluu", "no public function 'geluu' (did you mean gelu?)", "flax.linen"),
    case(_S + "--model.activation=3", "expected a function such as gelu, not 3"),
    case(_S + "--model.activation=os.system", "no public function 'os.system'"),
    case(_S + "--model.dtype=float33", "no array type 'float33' (did you mean float32?)", "bfloat16"),
    case(_S + "--model.dtype=3", "expected an array type such as bfloat16, not 3"),
    case(_S + "--model.dtype=gelu", "no array type 'gelu'"),
    case(_S + "--model.kernel_init=he_norml", "no public initializer 'he_norml' (did you mean he_normal?)", "zeros"),
    case(_S + "--model.kernel_init=gelu", "gelu cannot be used as initializer", "there are Constant(...)"),
    # Constructors.
    case(_S + "--model=MLP(hidden=(5,", "'MLP(hidden=(5,' cannot be read", "MLP(hidden=(512,))"),
    case(_S + "--model=MPL()", "no public module 'MPL' (did you mean MLP?)", "CNN(...)"),
    case(_S + "--model=__import__('os')", "no public module '__import__'"),
    case(_S + "--model=MLP.__init__", "no public module 'MLP.__init__'"),
    case(_S + "--model=MLP().clone()", "'MLP().clone()' is not a value"),
    case(_S + "--model=lambda:0", "'lambda: 0' is not a value", "tuples, names and constructors"),
    case(_S + "--model.hidden=[i|for|i|in|(1,2)]", "is not a value"),
    case(_S + "--training.epochs=2**10", "'2 ** 10' is not a value"),
    case(_S + "--model=MLP(widths=(5,))", "MLP has no field 'widths'; its fields are hidden, num_classes"),
    case(_S + "--model=MLP((5,),hidden=(5,))", "MLP was given hidden twice"),
    case(_S + "--model=MLP(hidden=(0,))", "MLP.hidden: 0 is out of range"),
    case(_S + "--optimizer.learning_rate=Cosine()", "--optimizer.learning_rate=Cosine(): Cosine needs peak"),
    case(_S + "--optimizer.learning_rate=Cosnie(peak=1)", "no public schedule 'Cosnie' (did you mean Cosine?)"),
    case(_S + "--optimizer.learning_rate=Schedule(peak=1)", "Schedule cannot be used as schedule; there are"),
    case(_S + "--model=AdamW()", "AdamW cannot be used as module; there are ", "CNN(...), "),
    case(_S + "--model=5", "expected Module, not 5; there are ", "ready ones such as vit_tiny"),
    # Parts that do not fit each other.
    case(_S + "--model.num_classes=7", "model and task do not fit", "(batch, 10)", "(128, 7)"),
    case(_T + "--model=CNN(features=(2,2,2))", "model: CNN cannot be applied to this data", "4 x 4 pixels"),
    case(_T + "--model=Narrow()", "model: Narrow cannot be applied to this data: ValueError: inputs are too narrow"),
    case(_S + "--optimizer.frozen=conv_*", "optimizer.frozen: no parameter matches 'conv_*'", "output/bias"),
    # Folders.
    case(_T + "--workdir=", "--workdir= is empty"),
    case(_T + "--workdir={}/words.txt", "words.txt is a file; give a folder"),
    case(_T + "--workdir={}/words.txt/x", "words.txt/x cannot be written: Not a directory"),
    case(_T + "--workdir={}", "holds something else (afolder", "and no run; give a new folder"),
    case("--workdir={}/afolder", "afolder holds no run", "experiment.json"),
    case("--workdir={}/words.txt", "words.txt holds no run"),
    case(_S + "--workdir={}/run", "belongs to the experiment 'tiny', not 'softmax_mnist'; give another --workdir"),
    case(_T + "--workdir={}/run --model.hidden=5", "another structure", "(model.hidden: () -> (5,))", "another"),
    case(_T + "--workdir={}/run --optimizer.learning_rate=Cosine(peak=1)", "another structure",
         "(optimizer.learning_rate: 0.1 -> Cosine(peak=1.0, warmup=0.0, end=0.0))"),
    case(_T + "--workdir={}/run --optimizer=Adam()", "another structure", "(optimizer: SGD(", " -> Adam("),
    case(_T + "--workdir={}/run --model.dropout=0.5", "another structure", "(model.dropout: None -> 0.5)"),
    case(_T + "--workdir={}/unfinished --optimizer.learning_rate=0.5", "other numbers",
         "(optimizer.learning_rate: 0.1 -> 0.5)", "--allow_changes", "another --workdir"),
    case(_T + "--workdir={}/run --training.seed=4 --allow_changes", "is finished", "another --workdir"),
    case(_T + "--workdir={}/locked", "locked is in use by another process"),
    case("--workdir={}/run", "no public dataset 'tiny.Tiny'", "give --experiment=FILE again"),
    case(_T + "--workdir={}/cut", "cut/experiment.json cannot be read"),
    case(_T + "--workdir={}/hollow", "hollow/experiment.json is damaged: there is no experiment in it"),
    case(_T + "--workdir={}/newer", "newer/experiment.json is not of format 1"),
    case("--workdir={}/evil", "no public experiment 'os.system'"),
    case(_T + "--workdir={}/damaged", "checkpoint at step 3 is damaged", "put back a copy", code=1),
    # Evaluating.
    case("--mode=evaluate", "needs the run's folder: --workdir=FOLDER"),
    case(_E + "--workdir={}/afolder", "afolder holds no run"),
    case(_E + "--workdir={}/early", "early has no checkpoint yet"),
    case(_E + "--workdir={}/run --split=tst", "no split 'tst'; it has train, validation, test"),
    case(_E + "--workdir={}/run --checkpoint=17", "no checkpoint at step 17", "holds steps: 3"),
    case(_E + "--workdir={}/run --checkpoint=bests", "--checkpoint=bests: allowed are latest, best, or a step"),
    case(_E + "--workdir={}/run --checkpoint=-1", "--checkpoint=-1: allowed are latest, best, or a step"),
    case(_E + "--workdir={}/run --training.seed=3", "--training.seed=3: --mode=evaluate takes every field"),
    case(_E + "--workdir={}/damaged", "checkpoint at step 3 is damaged", code=1),
    case("--mode=evaluate --workdir={}/run", "no public dataset 'tiny.Tiny'", "give --experiment=FILE again"),
    # Options of a run.
    case(_T + "--writers=xyz", "writers: there is no 'xyz'; there are wandb, mlflow"),
    case(_T + "--writers=wandb,xyz", "there is no 'xyz'"),
    case(_T + "--data_workers=-1", "--data_workers=-1: -1 is not a non-negative integer"),
    case(_T + "--figures=perhaps", "--figures=perhaps: allowed are true and false"),
    case(_T + "--debug_nans=maybe", "--debug_nans=maybe: allowed are true and false"),
    case(_T + "--format=xml", "--format=xml", "table|csv|json"),
    case(_T + "--init_form={}/run", "no flag --init_form (did you mean --init_from?)"),
    # How long, how often, how much at a time.
    case("--experiment={}/unvalidated.py --training.patience=2", "training.patience: the data has no validation split"),
    case(_T + "--training.patience=0", "0 is out of range: allowed is 1 or more"),
    case(_T + "--training.patience=long", "expected int (1 or more) or None, not long"),
    case(_T + "--training.monitor=acuracy", "training.monitor: there is no metric 'acuracy'; there are loss, accuracy"),
    case(_T + "--training.monitor=per_class", "there is no metric 'per_class'"),
    case(_T + "--training.micro_batches=3", "training.micro_batches: a batch of 16 cannot be cut into 3 equal parts"),
    case(_T + "--training.micro_batches=32", "a batch of 16 cannot be cut into 32 equal parts"),
    case(_T + "--training.evaluate_every=Epochs(0)", "Epochs.count: 0 is out of range: allowed is above 0"),
    case(_T + "--training.checkpoint_every=Epochs(nan)", "Epochs.count: nan is out of range: allowed is above 0"),
    case(_T + "--training.evaluate_every=Epoch(1)", "did you mean Epochs?"),
    case(_T + "--training.evaluate_every=0", "0 is out of range: allowed is 1 or more"),
    case(_T + "--training.keep_last=0", "0 is out of range: allowed is 1 or more"),
    # Rates.
    case(_T + "--optimizer.layer_rates=(LayerRate('conv_*',2),)", "optimizer.layer_rates: no parameter matches",
         "'conv_*'; the parameters are output/bias, output/kernel"),
    case(_T + "--optimizer.layer_rates=(LayerRate('*',-1),)", "LayerRate.factor: -1 is out of range"),
    case(_T + "--optimizer.layer_rates=(LayerRate('*'),)", "LayerRate needs factor"),
    case(_T + "--optimizer.learning_rate=Cosine(peak=-1)", "Cosine.peak: -1 is out of range: allowed is 0 or more"),
    case(_T + "--optimizer.learning_rate=Cosine(peak=1,warmup=2)", "Cosine.warmup: 2 is out of range: allowed is 0 to"),
    case(_T + "--optimizer.learning_rate=Polynomial(peak=1,power=0)", "Polynomial.power: 0 is out of range"),
    case(_T + "--optimizer.learning_rate=CosineRestarts(peak=1,cycles=0)", "CosineRestarts.cycles: 0 is out of range"),
    case(_T + "--optimizer.learning_rate=Steps(peak=1)", "no public schedule 'Steps' (did you mean Step?)"),
    case(_T + "--optimizer.clip_norm=0", "--optimizer.clip_norm=0: 0 is out of range: allowed is above 0"),
    case(_T + "--optimizer.ema_decay=1.5", "1.5 is out of range: allowed is 0 to 1"),
    case(_T + "--optimizer=Adm()", "no public optimizer 'Adm' (did you mean Adam?)"),
    # Augmentations and tasks.
    case(_S + "--dataset.augment=(Shift(-1),)", "Shift.pixels: -1 is out of range: allowed is 0 or more"),
    case(_S + "--dataset.augment=Flip(2)", "Flip.probability: 2 is out of range: allowed is 0 to 1"),
    case(_S + "--dataset.augment=(Rotate('far'),)", "Rotate.degrees: expected float (0 or more), not 'far'"),
    case(_S + "--dataset.augment=(Crop(border='wrap'),)", "Crop.border: expected zero or reflect, not 'wrap'"),
    case(_S + "--dataset.augment=(Filp(),)", "no public augmentation 'Filp' (did you mean Flip?)"),
    case(_S + "--dataset.augment=(Classification(),)", "Classification cannot be used as augmentation"),
    case(_S + "--dataset.augment=(Mixup(),CutMix())", "CutMix cannot mix examples that are mixtures already; take one"),
    case(_S + "--dataset.class_weights=1,2", "dataset.class_weights: 2 weights for 10 classes (0, 1, 2"),
    case(_S + "--dataset=Minst()", "no public dataset 'Minst' (did you mean Mnist?)"),
    case(_S + "--dataset=ImageFolder()", "ImageFolder needs path"),
    case(_T + "--task=Regression()", "targets that are numbers; this data's are 3 classes: use Classification"),
    case(_T + "--task=BinaryClassification()", "this data has 3: use Classification"),
    case(_T + "--task=Regression(objective='msle')", "expected mse or mae or huber, not 'msle'"),
    case(_T + "--task.label_smoothing=2", "2 is out of range: allowed is 0 to 1"),
    # Predicting.
    case("--mode=predict", "--mode=predict needs the run's folder: --workdir=FOLDER"),
    case("--mode=predict --input={}/words.txt", "needs the run's folder: --workdir=FOLDER"),
    case(_P + "--workdir={}/run", "--mode=predict needs examples: --input=FILE_OR_FOLDER"),
    case(_P + "--workdir={}/run --input=", "--mode=predict needs examples: --input=FILE_OR_FOLDER"),
    case(_P + "--workdir={}/afolder --input={}/words.txt", "afolder holds no run"),
    case(_P + "--workdir={}/early --input={}/words.txt", "early has no checkpoint yet"),
    case(_P + "--workdir={}/run --input={}/words.txt", "this data has no reader of its own; give a .npy file"),
    case(_P + "--workdir={}/run --input={}/nowhere.npy", "there is no file ", "nowhere.npy"),
    case(_P + "--workdir={}/run --input={}/afolder", "this data has no reader of its own; give a .npy file"),
    case(_P + "--workdir={}/run --input=x.npy --model.hidden=3", "--model.hidden=3: --mode=predict takes every field"),
    case(_P + "--workdir={}/run --input=x.npy --checkpoint=soon", "--checkpoint=soon: allowed are latest, best, or a"),
]  # fmt: skip
# Found after the run's folder was made, which is then left behind.
_LEAVING = [
    case(_T + "--init_from={}/afolder", "--init_from: ", "afolder holds no run: there is no experiment.json in it"),
    case(_T + "--init_from={}/nowhere", "nowhere holds no run"),
    case(_T + "--init_from={}/words.txt", "words.txt holds no run"),
    case(_T + "--init_from={}/early", "early/checkpoints holds no checkpoint"),
    case(_T + "--init_from={}/run --init_patterns=dense*", "--init_patterns: no parameter matches 'dense*'"),
    case(_T + "--init_from={}/run --init_patterns=output/kernel --model.hidden=5", "--init_from=", "run: nothing fits",
         "of another shape: output/kernel ([16, 3] there, [5, 3] here)"),
    case(_T + "--profile=often", "profile: 'often' is no range of steps such as 100:110"),
    case(_T + "--profile=1:9", "profile: 1:9 goes beyond the run, which has 3 steps (0 to 2)"),
    case(_T + "--profile=3:1", "profile: '3:1' holds no step: the second number must be larger"),
    case(_T + "--profile=-1", "profile: '-1' is no range of steps"),
]  # fmt: skip


_DEBUGGED = (*_CASES[::12], *_LEAVING[::4])  # whatever the error is, one place prints it


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of experiments, a finished run, and copies of it that something happened to."""
    folder = tmp_path_factory.mktemp("place")
    for name, text in _FILES.items():
        (folder / name).write_text(text)
    (folder / "afolder").mkdir()
    run = folder / "run"
    assert main(["launch.py", f"--experiment={folder}/tiny.py", f"--workdir={run}", "--quiet"]) == 0
    for name in ("unfinished", "early", "locked", "cut", "hollow", "newer", "evil", "damaged"):
        shutil.copytree(run, folder / name)
        (folder / name / "result.json").unlink()
    shutil.rmtree(folder / "early" / "checkpoints")
    record = run / "experiment.json"
    (folder / "cut" / "experiment.json").write_text(record.read_text()[:200])
    (folder / "hollow" / "experiment.json").write_text('{"format": 1}')
    (folder / "newer" / "experiment.json").write_text('{"format": 2}')
    evil = {"format": 1, "experiment": {"type": "os.system", "command": f"touch {folder}/executed"}}
    (folder / "evil" / "experiment.json").write_text(json.dumps(evil))
    for file in (folder / "damaged" / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    hold = "import filelock, sys; l = filelock.FileLock(sys.argv[1]); l.acquire(); print('held', flush=True); input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder / "locked" / ".lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    yield folder
    holder.communicate(b"\n")
    assert not (folder / "executed").exists()


@pytest.mark.parametrize(
    "asked", [*_CASES, *_LEAVING], ids=lambda asked: asked.line.replace("--experiment=", "") or "nothing"
)
def test_what_is_wrong_is_said_in_one_line(
    asked: Case, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(place.iterdir())
    line = ["launch.py", *(word.replace("{}", str(place)).replace("|", " ") for word in asked.line.split())]
    assert main(line) == asked.code
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("neuralmon: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    position = 0
    for part in asked.says:
        assert part in err[position:]
        position = err.index(part, position)
    # Nothing is left behind, in the folder asked for or in runs/.
    assert not list(tmp_path.iterdir())
    assert sorted(place.iterdir()) == before

    if asked in _DEBUGGED:
        assert main([line[0], "--debug", *line[1:]]) == asked.code
        out, debug = capfd.readouterr()
        assert out == ""
        assert debug.startswith("Traceback (most recent call last)")
        assert debug.endswith(err)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--optimizer.learning_rate=3e38", ("are not finite", "Try a smaller learning rate")),
        ("--dataset.missing=/nowhere/at/all", ("the run failed: FileNotFoundError", "/nowhere/at/all", "--debug")),
    ],
)
def test_a_run_that_fails_exits_with_1(
    line: str, says: tuple[str, ...], place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["launch.py", f"--experiment={place}/tiny.py", f"--workdir={tmp_path}/run", "--quiet", line]
    assert main(command) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for part in says:
        assert part in err
    assert json.loads((tmp_path / "run" / "launches.json").read_text())[-1]["status"] != "running"
    assert main([*command, "--debug"]) == 1
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("--list", 0, ""),
        ("--experiment={}/tiny.py --devices=3", 2, "training.batch_size: 16 cannot be cut evenly over 3 devices"),
        pytest.param(
            *("--experiment={}/tiny.py --workdir={}/damaged", 1, "checkpoint at step 3 is damaged"),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_process_exits_with_these_codes(line: str, code: int, says: str, place: Path, tmp_path: Path) -> None:
    launcher = Path(__file__).parents[1] / "launch.py"
    done = subprocess.run(
        [sys.executable, str(launcher), *line.replace("{}", str(place)).split()],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False,
    )  # fmt: skip
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert (done.stdout == "") == (code != 0)
    assert not list(tmp_path.iterdir())
