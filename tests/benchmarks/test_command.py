"""Pairs and rounds, the table, and what the command refuses."""

import importlib.util
import json
import statistics

import pytest

from benchmarks import __main__ as command
from benchmarks import figure, profile, report
from benchmarks.rounds import measured
from benchmarks.rows import Row, Spread
from benchmarks.workers import Worker
from neuralmon.errors import RunError

ROUNDS = [{"neuralmon": 10.0, "Flax loop": 5.0}, {"neuralmon": 3.0, "Flax loop": 1.0, "torch.compile": 6.0}]


def test_ratios_are_taken_within_rounds():
    rates = Row("work", "examples/s", ROUNDS)
    assert rates.ratios("Flax loop") == [2.0, 3.0]
    assert rates.ratios("torch.compile") == [0.5]
    assert Row("work", "s", ROUNDS, more_is_better=False).ratios("Flax loop") == [1 / 2, 1 / 3]
    assert rates.contenders == ["neuralmon", "Flax loop", "torch.compile"]
    # Where the machine halves its speed between rounds, the medians' ratio would be off, and the ratios' median is not.
    uneven = Row("work", "s", [{"neuralmon": 1.0 * f, "Flax loop": 2.0 * f} for f in (1, 1.9, 0.6)], False)
    assert uneven.ratios("Flax loop") == pytest.approx([2.0] * 3)
    assert Spread.of([3.0, 1.0, 2.5]) == Spread(statistics.median([3.0, 1.0, 2.5]), 1.0, 3.0)


def test_disturbed_rounds_are_done_again():
    order, speeds = [], iter([100, 101, 60, 99, 100.5])

    def turn(name):
        return lambda: float(len(order.append(name) or order))

    rounds, disturbed = measured(4, {"a": turn("a"), "b": turn("b")}, lambda: next(speeds))
    assert [one.machine for one in rounds] == [100, 101, 99, 100.5]
    assert [one.machine for one in disturbed] == [60]
    assert order == ["a", "b"] * 5


def test_a_machine_that_never_rests_ends_too():
    speeds = iter([1, 2, 4, 8, 16, 32])
    rounds, disturbed = measured(3, {"a": lambda: 1.0}, lambda: next(speeds))
    assert (len(rounds), len(rounds) + len(disturbed)) == (3, 6)


@pytest.fixture
def results():
    machine = {"processor": "a processor", "cores": 2, "python": "3.11", "versions": {"jax": "0.10"}}
    details = {
        "loss_differences": {"Flax loop": 2e-6},
        "flops_per_example": 1e6,
        "peak_flops": 1e8,
        "machine_flops": [1e9],
    }
    rows = [Row("MLP", "examples/s", ROUNDS, details=details)]
    saved = Row("checkpoint", "s", [{"neuralmon": 0.1, "torch.save": 2.0}], more_is_better=False, note="a note")
    return {
        "mlp": report.Measured(rows, "now", machine, {"rounds": 2}),
        "checkpoint": report.Measured([saved], "now", machine, {"rounds": 1}),
    }


def test_the_table_has_median_range_share_and_losses(results):
    lines = report.table(results).splitlines()
    assert lines[0].split(" | ")[2:5] == ["against PyTorch", "against torch.compile", "against Flax loop"]
    assert lines[2] == "| MLP | 6.5 examples/s |  | 0.50 of 7.69 (0.50 - 0.50) | 2.50 (2.00 - 3.00) | 6% | 2e-06 |"
    assert lines[3] == "| checkpoint | 0.1 s | 20.00 (20.00 - 20.00) |  |  |  |  |"
    assert lines[-1] == "- checkpoint: a note"


def test_results_come_back_from_their_file(results, tmp_path):
    report.write(results, tmp_path / "benchmarks.json")
    again = report.read(tmp_path / "benchmarks.json")
    assert report.page(again) == report.page(results)
    assert json.loads((tmp_path / "benchmarks.json").read_text())["mlp"]["rows"][0]["rounds"] == ROUNDS
    assert report.read(tmp_path / "none.json") == {}
    assert figure.draw(again).startswith(b"\x89PNG")


def test_names_are_checked(capsys):
    assert command.main(["--only=gtp"]) == 2
    assert "--only=gtp: there is no gtp (did you mean gpt?); there are mlp, cnn" in capsys.readouterr().err
    assert command.main(["--only=,"]) == 2
    assert "names nothing" in capsys.readouterr().err
    assert command.chosen("gpt, mlp", quick=True) == ["mlp", "gpt"]
    assert command.chosen("gpt_b12", quick=True) == ["gpt_b12"]
    assert "gpt_b12" not in command.chosen(None, quick=True)


def test_without_pytorch_it_says_how_to_get_it(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    assert command.main(["--only=mlp"]) == 2
    assert "pip install -e '.[references]'" in capsys.readouterr().err


def test_a_process_that_ends_says_why(tmp_path):
    worker = Worker("Flax loop", "mlp", tmp_path)  # there is no job in that folder
    worker.ask(losses=1)
    try:
        with pytest.raises(RunError, match=r"Flax loop ended with exit code 1: FileNotFoundError"):
            worker.answer()
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("line", "name", "kind"),
    [
        ("  %dot.4 = f32[784,256]{1,0} dot(%a, %b), lhs_contracting_dims={0}", "dot.4", "matrix products"),
        (
            '  ROOT %ynn_fusion.2 = f32[8,2]{1,0} fusion(%a), metadata={op_name="jit(chunk)/MLP/dot_general"}',
            "ynn_fusion.2",
            "matrix products",
        ),
        (
            '  %c.1 = (f32[8]{0}, f32[8]{0}) custom-call(%x), custom_call_target="neuralmon_moments"',
            "c.1",
            "sums of batch normalisation",
        ),
        ('  %c = f32[8,8,8,4]{3,2,1,0} custom-call(%x), custom_call_target="neuralmon_convolve"', "c", "convolutions"),
        ("  %copy.9 = f32[10]{0} copy(%p)", "copy.9", "copies"),
        ('  %a = f32[10]{0} fusion(%p), metadata={op_name="jit(chunk)/while/body/add"}', "a", profile.ELSEWHERE),
    ],
)
def test_a_profile_knows_instructions_by_their_kind(line, name, kind):
    found, instruction = profile.parse(line)
    assert (found, profile.kind_of(instruction)) == (name, kind)
