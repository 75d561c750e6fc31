"""Published networks: their parameters are counted, never made, and their summaries are quick and small."""

import re
import subprocess
import sys
import time

import flax.linen as nn
import jax
import pytest

import neuralmon as nm
from neuralmon.models.presets import PRESETS
from neuralmon.names import Names, field_names

# Published counts that are further off than 1 %: see the model's file, or the table for the small numbers.
ROUGH = {"transformer_base": 0.03, "bert_large": 0.015, "resnet110": 0.02, "vit_tiny": 0.15}
ROUGH |= {"gpt3_medium": 0.02, "gpt3_xl": 0.015, "gpt3_2_7b": 0.02, "gpt3_13b": 0.012}
FACTORS = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9}


def count(preset):
    batch = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), preset.inputs)
    variables = jax.eval_shape(lambda inputs: preset.model.init(jax.random.key(0), inputs), batch)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


# Deep networks without a scan over their layers: tracing each takes a second, and shallower ones are counted alike.
DEEP = {"bert_large", "resnet101", "resnet110", "resnet110_v2", "resnet152", "resnet56", "transformer_big", "vit_base"}
DEEP |= {"vit_large", "vit_huge", "vit_small"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in DEEP else []) for name in PRESETS]
)
def test_parameters_are_as_many_as_published(name):
    preset = PRESETS[name]
    assert count(preset) == preset.num_parameters
    assert preset.source
    if preset.published:
        digits, unit = re.fullmatch(r"([\d.,]+)([kMB]?)", preset.published).groups()
        published = float(digits.replace(",", "")) * FACTORS[unit]
        # Sources round, and some leave biases or a vocabulary unsaid: 65M are 63.1M with the 37,000 tokens they state.
        assert abs(preset.num_parameters / published - 1) < ROUGH.get(name, 0.01), preset.published


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_value_that_a_flag_can_name(name):
    model = getattr(nm.models, name)
    published = PRESETS[name].model
    assert Names().find(name, nn.Module) is model
    for field in field_names(type(model)):
        value = getattr(model, field)
        # What the data decides is open in the value and filled in in the table.
        assert value == getattr(published, field) or (value is None and field in ("num_classes", "vocab_size")), field


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30, 2 * 2**30))
from neuralmon.cli import main
sys.exit(main(["launch.py", "--mode=summary", *sys.argv[1:]]))
"""


def launch(*arguments, seconds=120):
    return subprocess.run(
        [sys.executable, "-c", _LIMITED, *arguments], capture_output=True, text=True, timeout=seconds, check=False
    )


def check_summary(name):
    start = time.perf_counter()
    result = launch(f"--model={name}")
    seconds = time.perf_counter() - start
    assert result.returncode == 0, result.stderr
    assert f"parameters  {PRESETS[name].num_parameters:,}:" in result.stdout
    return seconds


def test_the_summary_of_175_billion_parameters_takes_seconds_and_little_memory():
    assert check_summary("gpt3_175b") < 10


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_summary_takes_seconds_and_little_memory(name):
    assert check_summary(name) < 10


def test_fields_of_a_preset_are_flags_and_others_are_refused(capsys):
    from neuralmon.cli import main

    command = ["launch.py", "--mode=summary"]
    assert main([*command, "--model=resnet20", "--model.num_classes=7"]) == 0
    assert "num_classes=7" in capsys.readouterr().out
    assert main([*command, "--model=gpt_tiny", "--model.num_heads=5"]) == 2
    assert "model: GPT cannot be applied to its inputs: ValueError: attention cuts a width of 64" in (
        capsys.readouterr().err
    )
    assert main([*command, "--model=resnet2"]) == 2
    assert "resnet20" in capsys.readouterr().err
    assert main([*command, "--model=resnet20", "--model.num_clases=7"]) == 2
    assert "--model.num_classes" in capsys.readouterr().err
    assert main([*command, "--model=resnet20", "--training.epochs=7"]) == 2
    assert "--training.epochs" in capsys.readouterr().err
