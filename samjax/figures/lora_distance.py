"""Draws the distance between the LoRA updates of two runs over the encoder's blocks (paper B, fig. 8)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samjax.figures.canvas import WIDTH, colour, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMN = 1.6
"""Least width of a module's column in inches; fewer columns fill the page."""


@dataclass(frozen=True)
class DistanceColumn:
    """The distances of one module's updates in each of n encoder blocks."""

    title: str
    blocks: np.ndarray
    """Block numbers, (n,) int, from 0."""
    gaps: np.ndarray
    """Gaps between the singular values of the two updates, (n, r), the largest value's first."""
    norms: np.ndarray
    """Spectral norms of the difference of the updates, (n,)."""
    bounds: np.ndarray
    """Lower bounds of `norms` by eq. 8, (n,)."""


def draw_lora_distance(path: Path, runs: tuple[str, str], columns: Sequence[DistanceColumn]) -> None:
    """Writes one column per module: the gap of each singular value above, the norm and its bound below.

    Args:
        path: the PNG; the PDF is written beside it.
        runs: the names of the two runs.
    """
    with drawn(path, 3.8, max(WIDTH, 0.8 + COLUMN * len(columns))) as figure:
        axes = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
        for (above, below), column in zip(axes.T, columns, strict=True):
            above.set_title(column.title)
            _draw_gaps(above, column)
            _draw_norms(below, column)
        for axis in axes.flat:
            axis.grid(axis="y")
            axis.set_ylim(bottom=0)
            axis.locator_params(axis="x", integer=True, nbins=7)
            axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
        axes[0, 0].set_ylabel(r"$|\sigma_i(\Delta\phi_1) - \sigma_i(\Delta\phi_2)|$")
        axes[1, 0].set_ylabel(r"$\|\Delta\phi_1 - \Delta\phi_2\|$")
        figure.supxlabel("encoder block", fontsize=8.5)
        figure.suptitle(f"LoRA updates of {runs[0]} and {runs[1]}")
        for row in axes:
            row[-1].legend(loc="upper left", bbox_to_anchor=(1, 1))


def _draw_gaps(axis: "Axes", column: DistanceColumn) -> None:
    """Draws a line for each singular value, darker for a larger one."""
    from matplotlib import colormaps

    shades = colormaps["viridis"](np.linspace(0, 0.85, column.gaps.shape[1]))
    for i, (values, shade) in enumerate(zip(column.gaps.T, shades, strict=True), 1):
        axis.plot(column.blocks, values, marker=".", color=shade, linewidth=1.2, label=f"$i = {i}$")


def _draw_norms(axis: "Axes", column: DistanceColumn) -> None:
    axis.plot(column.blocks, column.norms, "-s", markersize=3.5, color=colour(1), label="true norm")
    axis.plot(column.blocks, column.bounds, "--o", markersize=3.5, color=colour(0), label="bound (eq. 8)")
