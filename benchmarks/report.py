"""What was measured, as a file of numbers and as a table."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.rows import OURS, Row, Spread

FIRST, COMPILED = "PyTorch", "torch.compile"
# Which column of the table another contender is in; anybody else is PyTorch's library for that.
COLUMNS = {COMPILED: COMPILED, "Flax loop": "Flax loop", "bare scan": "bare scan", "bare JAX": "bare scan"}


@dataclasses.dataclass(frozen=True)
class Measured:
    """The rows of one name, and when, where and how they were measured.

    Attributes:
      rows: what was measured.
      time: when, as text.
      machine: see `machine.described`.
      settings: see `rounds.Settings`.
    """

    rows: Sequence[Row]
    time: str
    machine: Mapping[str, Any]
    settings: Mapping[str, Any]


def write(results: Mapping[str, Measured], path: Path) -> None:
    described = {name: dataclasses.asdict(one) for name, one in results.items()}
    path.write_text(json.dumps(described, indent=1) + "\n")


def read(path: Path) -> dict[str, Measured]:
    """Returns the results in a file; {} if there is none."""
    if not path.exists():
        return {}
    return {
        name: Measured(**{**one, "rows": [Row(**row) for row in one["rows"]]})
        for name, one in json.loads(path.read_text()).items()
    }


def column(contender: str) -> str:
    return COLUMNS.get(contender, FIRST)


def table(results: Mapping[str, Measured]) -> str:
    """Returns a table in Markdown: how many times better than each, as median and range of the rounds."""
    rows = [row for one in results.values() for row in one.rows]
    others = [FIRST, *dict.fromkeys(COLUMNS.values())]
    shown = [name for name in others if any(column(c) == name for row in rows for c in row.contenders[1:])]
    head = ["", OURS, *(f"against {name}" for name in shown), "of the matmul ceiling", "losses differ by"]
    lines = [_line(head), _line([" --- ", *[" ---: "] * (len(head) - 1)])]
    for row in rows:
        cells = {column(contender): _ratio(row, contender) for contender in row.contenders[1:]}
        ours = f"{_number(Spread.of(row.values(OURS)).median)} {row.unit}"
        share = _share(row)
        more = ["" if share is None else f"{share:.0%}", _difference(row)]
        lines.append(_line([row.work, ours, *(cells.get(name, "") for name in shown), *more]))
    notes = [f"- {row.work}: {row.note}" for row in rows if row.note]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def page(results: Mapping[str, Measured]) -> str:
    """Returns the table with what one must know to read it."""
    machines = list(dict.fromkeys(_machine(one) for one in results.values()))
    noise = [
        f"{row.work} {Spread.of(speeds).low / 1e9:.0f} to {Spread.of(speeds).high / 1e9:.0f}"
        for one in results.values()
        for row in one.rows
        if (speeds := row.details.get("machine_flops"))
    ]
    return "\n".join(
        [
            "# neuralmon beside PyTorch and plain JAX",
            "",
            "How many times faster neuralmon is: above 1 it is ahead. Medians of ratios within rounds, and their range "
            "in brackets. 1.2 of 1.7: a step that took no time but for its multiplications and additions, at the speed "
            "of a large matrix product, would be 1.7 times as fast as the other's.",
            "",
            table(results),
            "![ratios](benchmarks.png)",
            "",
            *(f"Measured on {text}." for text in machines),
            *([f"GFLOP/s of a fixed matrix product in NumPy before each round: {'; '.join(noise)}."] if noise else []),
            "",
        ]
    )


def _machine(one: Measured) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in one.machine["versions"].items())
    return f"{one.machine['processor']}, {one.machine['cores']} cores, Python {one.machine['python']}, {versions}"


def _ratio(row: Row, contender: str) -> str:
    spread, share = Spread.of(row.ratios(contender)), _share(row)
    most = f" of {spread.median / share:.2f}" if share and column(contender) in (FIRST, COMPILED) else ""
    return f"{spread.median:.2f}{most} ({spread.low:.2f} - {spread.high:.2f})"


def _share(row: Row) -> float | None:
    """Returns which part of what matrix products reach here our rate is, where it is known."""
    if "peak_flops" not in row.details:
        return None
    rate = Spread.of(row.values(OURS)).median
    return float(rate * row.details["flops_per_example"] / row.details["peak_flops"])


def _difference(row: Row) -> str:
    differences = row.details.get("loss_differences")
    return f"{max(differences.values()):.0e}" if differences else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.strip() for cell in cells)} |"
