"""Box plots of Dice and HD95 (paper A, fig. 3-4)."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samjax.figures.canvas import colour, drawn, hatch
from samjax.figures.captions import count_text, prompts_text, run_text
from samjax.figures.palette import FAINT
from samjax.figures.panels import by_source, checked, rois_of, runs_of
from samjax.metrics.rows import Metric, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMES: dict[Metric, str] = {"dice": "Dice", "hd95": "HD95 (mm)"}
LONG = 28
"""Longest name in characters that fits three columns into the page's width."""
MOST_POINTS = 30
"""Largest number of values in a box of which each is shown; of more, only those beyond the whiskers are."""
LINEAR_MM = 1.0
"""HD95 in mm up to which its axis is linear. It is logarithmic beyond, since a missed region costs the image's
diagonal, which would squeeze all others."""
TICKS_MM = (0, 1, 3, 10, 30, 100, 300, 1000)


def draw_boxes(rows: Sequence[Row], metric: Metric, path: Path) -> None:
    """Writes box plots by region and run, n under each box, an axis for each domain and source of prompts.

    A box spans the quartiles, with the median in it and the mean as a diamond; whiskers reach the last value within
    1.5 box lengths. HD95's axis is linear up to 1 mm and logarithmic beyond.

    Args:
        rows: rows of one scope and any number of runs, regions and domains.
        path: the PNG; the PDF is written beside it.
    """
    rows = checked(rows)
    panels = by_source(rows, "domain")
    runs = runs_of(rows)
    with drawn(path, 0.6 + 2.5 * len(panels)) as figure:
        axes = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel, metric, runs)
        handles = _legend(runs)
        longest = max(len(handle.get_label()) for handle in handles)
        figure.legend(handles=handles, loc="outside lower center", ncols=3 if longest <= LONG else 2)


def _panel(axis: "Axes", rows: list[Row], metric: Metric, runs: list[tuple[str, str]]) -> None:
    rois, shown = rois_of(rows), runs_of(rows)
    width = 0.8 / len(shown)
    places, counts = [], []
    for group, roi in enumerate(rois):
        for number, run in enumerate(shown):
            values = [getattr(row, metric) for row in rows if (row.run, row.prompt) == run and row.roi == roi]
            if values:
                places.append(group + (number - (len(shown) - 1) / 2) * width)
                counts.append(len(values))
                _box(axis, values, places[-1], min(0.85 * width, 0.14 * len(rois)), runs.index(run))
    axis.set_xticks(places, [f"n = {count}" if len(places) < 12 else str(count) for count in counts])
    axis.tick_params(axis="x", labelsize=7, labelcolor=FAINT, length=0)
    for group, roi in enumerate(rois):
        below = {"xycoords": ("data", "axes fraction"), "xytext": (0, -16), "textcoords": "offset points"}
        axis.annotate(roi, (group, 0), ha="center", va="top", **below)
    axis.set_xlim(-0.6, len(rois) - 0.4)
    axis.set_title(f"{rows[0].domain}: {count_text(rows)}; {prompts_text(row.prompt for row in rows)}", loc="left")
    axis.set_ylabel(NAMES[metric])
    axis.grid(axis="y")
    _scale(axis, rows, metric)


def _scale(axis: "Axes", rows: list[Row], metric: Metric) -> None:
    if metric == "dice":
        axis.set_ylim(-0.03, 1.03)
        return
    highest = max(1.2 * LINEAR_MM, *(1.4 * row.hd95 for row in rows))
    axis.set_yscale("symlog", linthresh=LINEAR_MM)
    ticks = [tick for tick in TICKS_MM if tick <= highest]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.set_ylim(-0.08, highest)


def _box(axis: "Axes", values: list[float], place: float, width: float, run: int) -> None:
    few = len(values) <= MOST_POINTS
    shade = colour(run)
    axis.boxplot(
        [values], positions=[place], widths=width, showfliers=not few, showmeans=True, patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": (shade, 0.3), "edgecolor": shade, "hatch": hatch(run)},
        medianprops={"color": "black", "linewidth": 1.3},
        meanprops={"marker": "D", "markersize": 4, "markerfacecolor": "white", "markeredgecolor": "black"},
        whiskerprops={"color": shade}, capprops={"color": shade},
        flierprops={"marker": ".", "markersize": 4, "markerfacecolor": shade, "markeredgecolor": "none", "alpha": 0.5},
    )  # fmt: skip
    if few:
        # The golden ratio spreads any number of points evenly, the same way each time.
        across = place + (np.arange(len(values)) * 0.618 % 1 - 0.5) * 0.7 * width
        axis.plot(across, values, ".", color=shade, markersize=4, markeredgecolor="black", markeredgewidth=0.3)


def _legend(runs: list[tuple[str, str]]) -> list:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    boxes = [
        Patch(facecolor=(colour(i), 0.3), edgecolor=colour(i), hatch=hatch(i), label=run_text(*run))
        for i, run in enumerate(runs)
    ]
    mean = {"marker": "D", "markersize": 4, "markerfacecolor": "white", "markeredgecolor": "black"}
    return [*boxes, Line2D([], [], color="black", label="median"), Line2D([], [], linewidth=0, **mean, label="mean")]
