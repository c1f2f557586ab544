"""Draws tumour size against Dice (paper A, fig. 9)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from samjax.figures.canvas import WIDTH, colour, drawn, marker
from samjax.figures.captions import count_text, prompts_text, run_text
from samjax.figures.panels import by_source, checked, runs_of
from samjax.metrics.rows import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLUMNS = 2
MANY = 500
"""Number of points of a run above which they are small and pale, and rasterised in the PDF."""


def draw_sizes(rows: Sequence[Row], path: Path) -> None:
    """Writes Dice over the true size (logarithmic), with Spearman's rho of each run.

    There is an axis for each domain, region and source of prompts. Rows without the region have no place on a
    logarithmic axis; the titles give the number of rows left out.

    Args:
        rows: rows of one scope and any number of runs, regions and domains.
        path: the PNG; the PDF is written beside it.
    """
    rows = checked(rows)
    panels = by_source(rows, "domain", "roi")
    runs = runs_of(rows)
    columns = min(MOST_COLUMNS, len(panels))
    height = -(-len(panels) // columns)
    with drawn(path, 0.1 + 3.2 * height, WIDTH if columns > 1 else 0.7 * WIDTH) as figure:
        axes = figure.subplots(height, columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _panel(axis, panel, runs)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)


def _panel(axis: "Axes", rows: list[Row], runs: list[tuple[str, str]]) -> None:
    shown = [row for row in rows if row.true_pixels > 0]
    for run in runs_of(rows):
        own = [row for row in shown if (row.run, row.prompt) == run]
        sizes, dice = [row.true_pixels for row in own], [row.dice for row in own]
        number, many = runs.index(run), len(own) > MANY
        axis.scatter(
            sizes, dice, s=6 if many else 16, marker=marker(number), color=colour(number),
            alpha=0.25 if many else 0.7, linewidths=0, rasterized=many,
            label=f"{run_text(*run)}: {rho_text(sizes, dice)}, n = {len(own)}",
        )  # fmt: skip
    _decades(axis, [row.true_pixels for row in shown])
    axis.set_ylim(-0.03, 1.03)
    axis.set(xlabel=f"size of the label ({'voxels' if rows[0].slice is None else 'pixels'})", ylabel="Dice")
    axis.grid()
    about = (f"{rows[0].domain}, {rows[0].roi}", _counts(rows), prompts_text(row.prompt for row in rows))
    axis.set_title("\n".join(about), loc="left")
    _legend(axis)


def _decades(axis: "Axes", sizes: list[int]) -> None:
    """Makes the axis logarithmic between whole powers of ten, at least two of them, so that ticks are few."""
    from matplotlib.ticker import NullFormatter

    first, last = int(np.log10(min(sizes, default=1))), int(np.ceil(np.log10(max(sizes, default=1))))
    axis.set_xscale("log")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlim(0.9 * 10**first, 1.1 * 10 ** max(last, first + 1))


def _legend(axis: "Axes") -> None:
    """Draws the legend beneath the axis and its label, at a distance that does not depend on the axis' height."""
    from matplotlib.transforms import ScaledTranslation

    beneath = axis.transAxes + ScaledTranslation(0, -0.4, axis.figure.dpi_scale_trans)
    legend = axis.legend(
        loc="upper left", bbox_to_anchor=(-0.02, 0), bbox_transform=beneath, handletextpad=0.3, borderaxespad=0
    )
    for handle in legend.legend_handles:
        handle.set(alpha=1, sizes=[18])


def _counts(rows: list[Row]) -> str:
    empty = len({(row.case, row.slice) for row in rows if row.true_pixels == 0})
    return count_text(rows) + (f", {empty} of them empty and left out" if empty else "")


def rho_text(sizes: ArrayLike, dice: ArrayLike) -> str:
    """Spearman's rank correlation in words; a dash where one side does not vary."""
    from scipy.stats import spearmanr

    if min(np.unique(sizes).size, np.unique(dice).size) < 2:
        return "ρ –"
    return f"ρ = {spearmanr(sizes, dice).statistic:.2f}"
