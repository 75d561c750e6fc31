"""Where a step's time goes: neuralmon's own training program, traced on this machine.

  python -m benchmarks.profile [--only=mlp,gpt] [--out=FOLDER]

Writes profile.md into FOLDER: for each work the milliseconds of a step by kind of operation, and the costliest ones.
"""

import argparse
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.__main__ import RESULTS, chosen
from benchmarks.works import WORKS
from neuralmon import process
from neuralmon.errors import RequestError

# What kind an instruction is, by what it says of itself: its name and shape, its opcode, the operation it came from.
_KINDS = {
    "convolutions": r"neuralmon_(convolve|kernel_gradient)|conv_general_dilated",
    "attention": r"neuralmon_attention",
    "recurrence": r"neuralmon_lstm",
    "sums of batch normalisation": r"neuralmon_(moments|products)",
    "matrix products": r"dot_general| dot |matmul|/transpose .*\bdot\b",
    "batch (order and gather)": r"while/body/(gather|jit\(_take\)|jit\(take\)|while)",
    "copies": r" (copy|transpose|bitcast|concatenate|slice|dynamic-slice|pad|broadcast) ",
}
ELSEWHERE = "elementwise operations, reductions, optimizer"
# Their time is that of what they contain.
_CONTAINERS = {"while", "call", "conditional", "tuple", "async-start", "async-done"}
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)")
_SECONDS = 1.5

# The shape of what it returns, its opcode, and where it came from.
Instruction = tuple[str, str, str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help=f"some of {', '.join(WORKS)}")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help=f"default: {RESULTS}")
    given = parser.parse_args(arguments)
    try:
        names = [name for name in chosen(given.only, quick=False) if name in WORKS]
        if not names:
            raise RequestError(f"--only={given.only}: training is profiled: {', '.join(WORKS)}")
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    process.configure()
    given.out.mkdir(parents=True, exist_ok=True)
    parts = []
    for name in names:
        print(f"profiles {name}", file=sys.stderr, flush=True)
        parts.append("\n".join(_described(name)))
    head = ["# Where a step's time goes", "", "Written by `python -m benchmarks.profile`; see docs/benchmarks.md.", ""]
    (given.out / "profile.md").write_text("\n".join(head) + "\n\n".join(parts) + "\n")
    print(given.out / "profile.md")
    return 0


def _described(name: str) -> Iterator[str]:
    """Yields the lines of a work's section."""
    import jax

    from neuralmon.training.flops import peak_flops, traced_flops

    work = WORKS[name]
    experiment = work.experiment().resolve()
    step, times, instructions = _traced(name)
    kinds: dict[str, float] = defaultdict(float)
    for instruction, seconds in times.items():
        kinds[kind_of(instructions[instruction])] += seconds
    peak = peak_flops(jax.devices())
    least = traced_flops(experiment) / peak if peak else float("nan")
    yield f"## {work.title}"
    yield ""
    yield (
        f"A step takes {1e3 * step:.3g} ms, the operations in it {1e3 * sum(times.values()):.3g} ms; its "
        f"multiplications and additions would take {1e3 * least:.3g} ms at the speed of a large matrix product "
        f"({(peak or 0) / 1e9:.0f} GFLOP/s)."
    )
    yield ""
    yield from _table("kind", kinds, step)
    yield ""
    merged: dict[str, float] = defaultdict(float)
    for instruction, seconds in times.items():
        merged[_said(instructions[instruction])] += seconds
    yield from _table("the costliest", merged, step)


def _traced(name: str) -> tuple[float, dict[str, float], dict[str, Instruction]]:
    """Returns the seconds of a step, those of each instruction in it, and shape, opcode and origin of each."""
    import jax
    import numpy as np

    from neuralmon.training.feed import resident
    from neuralmon.training.program import compiled

    experiment = WORKS[name].experiment().resolve()
    program, numbers, mesh = compiled(experiment)
    data = resident(experiment.dataset, mesh)["train"]
    state = program.init(numbers)
    text = program.chunk.lower(numbers, state, data, np.int32(1)).compile().as_text() or ""
    instructions = dict(filter(None, map(parse, text.splitlines())))

    def run(state: Any, steps: int) -> tuple[Any, float]:
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(program.chunk(numbers, state, data, np.int32(steps)))
        return state, (time.perf_counter() - begun) / steps

    state, _ = run(state, 1)
    state, step = run(state, 2)
    steps = max(2, round(_SECONDS / step))
    state, step = run(state, steps)
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            run(state, steps)
        file = max(Path(folder).rglob("*.xplane.pb"))
        events = [
            event
            for plane in jax.profiler.ProfileData.from_file(str(file)).planes
            for line in plane.lines
            for event in line.events
            if event.name in instructions and instructions[event.name][1] not in _CONTAINERS
        ]
    times: dict[str, float] = defaultdict(float)
    for event in events:
        times[event.name] += event.duration_ns * 1e-9 / steps
    return step, times, instructions


def parse(line: str) -> tuple[str, Instruction] | None:
    """Returns the name of the instruction in a line of a compiled program, and what it is."""
    match = _INSTRUCTION.match(line)
    if match is None:
        return None
    origin = re.search(r'op_name="([^"]*)"', line)
    target = re.search(r'custom_call_target="([^"]*)"', line)
    return match[1], (match[2], match[3], " ".join(found[1] for found in (target, origin) if found))


def kind_of(instruction: Instruction) -> str:
    """Returns the name of the kind in the table."""
    text = " ".join(instruction)
    return next((kind for kind, pattern in _KINDS.items() if re.search(pattern, text)), ELSEWHERE)


def _said(instruction: Instruction) -> str:
    shape, opcode, origin = instruction
    shape = re.sub(r"\{[^}]*\}", "", shape)
    where = origin.replace("jit(chunk)/", "").replace("while/body/", "")
    return f"`{opcode} {shape[:40]}` {where[-60:]}"


def _table(head: str, rows: Mapping[str, float], step: float) -> Iterator[str]:
    """Yields the lines of a table: the eight largest, in milliseconds and as shares of a step."""
    yield f"| {head} | ms | share |"
    yield "| --- | ---: | ---: |"
    for name, seconds in sorted(rows.items(), key=lambda row: -row[1])[:8]:
        yield f"| {name.replace('|', '/')} | {1e3 * seconds:.3g} | {seconds / step:.0%} |"


if __name__ == "__main__":
    sys.exit(main())
