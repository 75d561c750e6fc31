"""The table as a picture: a bar for each ratio, on a logarithmic axis with a line at 1."""

from collections.abc import Mapping

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.report import COLUMNS, FIRST, Measured, column
from benchmarks.rows import Spread
from neuralmon.figures import style

_HEIGHT, _GAP = 0.15, 0.16  # inches of a bar, and between two works
_TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128)
_SHADES = dict(
    zip((FIRST, *dict.fromkeys(COLUMNS.values())), ("#d55e00", "#e69f00", "#0072b2", "#b0b0b0"), strict=True)
)


def draw(results: Mapping[str, Measured]) -> bytes:
    """Returns a PNG."""
    rows = [row for one in results.values() for row in one.rows]
    bars = [len(row.contenders) - 1 for row in rows]
    inches = sum(bars) * _HEIGHT + (len(rows) + 1) * _GAP
    with style.applied():
        figure = style.new_figure(8.2, inches + 1.1, "How many times faster neuralmon is", constrained=False)
        height = figure.get_figheight()
        left = (style.widest([row.work for row in rows], style.NORMAL) + 0.25) / 8.2
        axes = figure.add_axes((left, 0.42 / height, 0.965 - left, inches / height))
        top, reach, seen = inches - _GAP, [0.9, 1.2], {}
        for row in rows:
            begun = top
            for contender in sorted(row.contenders[1:], key=lambda name: list(_SHADES).index(column(name))):
                spread, name = Spread.of(row.ratios(contender)), column(contender)
                centre = top - _HEIGHT / 2
                length, height = spread.median - 1, _HEIGHT * 0.86
                seen[name] = axes.barh(centre, length, height, left=1, color=_SHADES[name], linewidth=0)
                axes.plot([spread.low, spread.high], [centre, centre], color=style.INK, linewidth=0.8, alpha=0.75)
                end = max(spread.high, 1.0) * 1.03
                axes.text(end, centre, f"{spread.median:.2f}", va="center", fontsize=6.5, color=style.INK)
                reach += [spread.low, end * 1.12]
                top -= _HEIGHT
            axes.text(
                -0.12 / (8.2 * (0.965 - left)),
                (begun + top) / 2,
                row.work,
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="center",
                fontsize=style.NORMAL,
            )
            top -= _GAP
        axes.set_xscale("log")
        axes.set_xlim(min(reach) / 1.05, max(reach) * 1.03)
        axes.set_ylim(0, inches)
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in _TICKS if min(reach) <= tick <= max(reach)]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} x"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x")
        axes.axvline(1, color=style.INK, linewidth=1)
        shown = [name for name in _SHADES if name in seen]
        figure.legend(
            [seen[name] for name in shown],
            [f"than {'a ' if name in ('Flax loop', 'bare scan') else ''}{name}" for name in shown],
            loc="upper left",  # type: ignore[call-overload] # matplotlib's stubs know no anchor
            bbox_to_anchor=(0.0, 1 - 0.36 / height),
            ncols=len(shown),
            handlelength=1.1,
            handleheight=0.8,
            columnspacing=1.6,
        )
        return style.png(figure)
