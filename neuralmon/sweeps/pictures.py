"""The figures of a sweep: what each parameter does, which values go together, how the trials learnt."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuralmon import figures
from neuralmon.sweeps.result import SweepResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = ("trials_by_parameter", "parallel_coordinates", "trial_curves")


def figure(result: SweepResult, name: str) -> "Figure":
    """Returns one of `FIGURES` as a matplotlib Figure.

    Raises:
      ValueError: there is no such figure, or the trials do not allow it.
    """
    if name not in FIGURES:
        raise ValueError(f"there is no figure {name!r} of a sweep; there are {', '.join(FIGURES)}")
    return figures.figure(name, **_data(result))


def draw(result: SweepResult, folder: Path, timeout: float = 60.0) -> list[str]:
    """Writes all figures as PNG files into a folder, as far as the trials allow; returns what went wrong."""
    data = _data(result)
    values = {tuple(map(str, row["values"].values())) for row in data["rows"] if row["objective"] is not None}
    wanted = [name for name in FIGURES if name == "trial_curves" or len(values) > 1]
    if not any(len(row["curve"]) > 1 for row in data["rows"]):
        wanted = [name for name in wanted if name != "trial_curves"]
    with figures.Drawing(folder) as drawing:
        for name in wanted:
            drawing.draw(name, **data)
        return drawing.finish(timeout) if wanted else []


def _data(result: SweepResult) -> dict[str, Any]:
    rows = [
        {
            "values": {path: cell for path, cell in cells.items() if path in row["values"]},
            "objective": row["objective"] if row["status"] == "finished" else None,
            "curve": [
                (one["step"], one["validation"][result.metric])
                for one in row["evaluations"]
                if one.get("validation", {}).get(result.metric) is not None
            ],
        }
        for row, cells in zip(result.rows, result.table, strict=True)
    ]
    return {"rows": rows, "metric": result.metric, "direction": result.direction}
