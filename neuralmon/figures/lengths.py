"""How often what is written is right, by how long it is."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from neuralmon.figures import style


def by_length(
    lengths: Sequence[int], exact: Sequence[float], longest_trained: int, title: str = "Exactly right, by length"
) -> Figure:
    """Draws the share of texts that are right at each length, and where what was trained on ends.

    Args:
      lengths: of the texts, ascending.
      exact: the share of those of each length that are exactly right.
      longest_trained: the longest text that there was in training.
      title: what stands above.
    """
    if len(lengths) != len(exact) or not lengths:
        raise ValueError(f"{len(lengths)} lengths and {len(exact)} shares: there has to be one for each")
    figure = style.new_figure(6.4, 3.6, title)
    axes = figure.subplots()
    inside = [length <= longest_trained for length in lengths]
    for chosen, colour, name in ((True, style.TRAIN, "lengths of the training"), (False, style.VALIDATION, "longer")):
        points = [(x, y) for x, y, trained in zip(lengths, exact, inside, strict=True) if trained is chosen]
        if points:
            axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.2, marker="o", markersize=4, label=name)
    axes.axvline(longest_trained + 0.5, color=style.GREY, linewidth=0.8, linestyle="--")
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("length in characters")
    axes.set_ylabel("exactly right")
    axes.grid(visible=True, axis="y")
    figure.legend(loc="outside right upper")
    return figure
