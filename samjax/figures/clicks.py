"""Dice after each further click."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from samjax.figures.canvas import WIDTH, colour, drawn, line, marker
from samjax.metrics.summary import Summary


def draw_clicks(curves: Mapping[str, Sequence[Summary]], path: Path) -> None:
    """Writes the mean Dice of each run after 1, 2, ... clicks, its 95 % interval shaded.

    Args:
        curves: K summaries of Dice for each run, the first after one click.
        path: the PNG; the PDF is written beside it.
    """
    most = max(len(curve) for curve in curves.values())
    with drawn(path, 3.4, 0.7 * WIDTH) as figure:
        axis = figure.subplots()
        for number, (run, curve) in enumerate(curves.items()):
            clicks = range(1, len(curve) + 1)
            label = f"{run} (n = {_counts(curve)})"
            means = [summary.mean for summary in curve]
            axis.plot(
                clicks, means, line(number), marker=marker(number), color=colour(number), markersize=4, label=label
            )
            if all(summary.ci95 is not None for summary in curve):
                low, high = zip(*(summary.ci95 for summary in curve), strict=True)
                axis.fill_between(clicks, low, high, color=colour(number), alpha=0.15, linewidth=0)
        axis.set_xticks(range(1, most + 1))
        axis.set(xlim=(0.8, most + 0.2), xlabel="clicks on each slice", ylabel="mean Dice")
        axis.set_title("Dice after each click, with 95 % intervals\nprompts from ground truth (point)", loc="left")
        axis.grid()
        figure.legend(loc="outside lower left", ncols=2)


def _counts(curve: Sequence[Summary]) -> str:
    """The values of n of a curve's summaries, usually a single one."""
    return " to ".join(str(n) for n in sorted({summary.n for summary in curve}))
