"""The learning curves of a run: training loss, validation scores and learning rate over its steps."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samjax.figures.canvas import SCREEN, colour, drawn
from samjax.figures.palette import COLOURS, FAINT, GRID

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = {"last": "-", "average": "--"}
"""The line style of the scores of each kind of weights."""
NAMES = {"dice": "Dice by volume", "dice_slice": "Dice by slice"}
MOST_EPOCHS = 60
"""Number of epochs from which on they are not marked, since their lines would merge."""


@dataclass(frozen=True)
class Series:
    """Values of one quantity over the steps."""

    steps: np.ndarray
    """Steps, (S,) int64, rising."""
    values: np.ndarray
    """Values, (S,) float64, NaN where not finite."""


@dataclass(frozen=True)
class Curves:
    """Everything that the figure of a run shows."""

    loss: Series
    """The loss of each step."""
    smoothed: Series
    """The smoothed loss, at the steps whose loss is finite."""
    rate: Series
    """The learning rate of each step."""
    scores: dict[tuple[str, str], Series]
    """The validation scores by their name and the weights scored ("last", "average")."""
    epochs: np.ndarray
    """The first step of each epoch after the run's first, (E,) int64."""
    averaging: int | None
    """The first step whose weights entered the average, if any did."""


def draw_curves(curves: Curves, path: Path) -> None:
    """Writes loss, validation scores (where there are any) and learning rate of a run, as a PNG."""
    heights = (3, 3, 1.3) if curves.scores else (3, 1.3)
    with drawn(path, 0.5 + 0.8 * sum(heights), suffixes=SCREEN) as figure:
        axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
        for axis in axes:
            _mark(axis, curves)
        _draw_loss(axes[0], curves)
        if curves.scores:
            _draw_scores(axes[1], curves)
        _draw_rate(axes[-1], curves.rate)
        figure.align_ylabels(axes)


def _mark(axis: "Axes", curves: Curves) -> None:
    """Marks the epochs and the first step of the averaging."""
    axis.grid(axis="y")
    last = max(series.steps.max(initial=1) for series in (curves.loss, *curves.scores.values()))
    axis.set_xlim(0, last + max(1, last / 50))
    axis.locator_params(axis="x", integer=True)
    if len(curves.epochs) < MOST_EPOCHS:
        for step in curves.epochs:
            axis.axvline(step - 0.5, color=GRID, linewidth=0.8, zorder=0.5)
    if curves.averaging is not None:
        axis.axvline(curves.averaging - 0.5, color=FAINT, linewidth=1.2, linestyle=":", zorder=1.5)


def _draw_loss(axis: "Axes", curves: Curves) -> None:
    axis.set_ylabel("training loss")
    if len(curves.smoothed.steps):
        size = 3 if len(curves.loss.steps) > 1000 else 5
        axis.plot(
            curves.loss.steps, curves.loss.values, ".", color=COLOURS[5], alpha=0.45, markersize=size,
            markeredgewidth=0, label="each step",
        )  # fmt: skip
        axis.plot(curves.smoothed.steps, curves.smoothed.values, color=COLOURS[0], linewidth=1.6, label="smoothed")
        finite = curves.loss.values[np.isfinite(curves.loss.values)]
        low, high = finite.min(), max(np.percentile(finite, 99), curves.smoothed.values.max())
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        axis.set_ylim(low - margin, high + margin)
        for handle in axis.legend(loc="upper right").legend_handles:
            handle.set(alpha=1, markersize=6)
    if curves.averaging is not None:
        axis.annotate(" averaging", (curves.averaging, 1), xycoords=("data", "axes fraction"), va="bottom", color=FAINT)


def _draw_scores(axis: "Axes", curves: Curves) -> None:
    names = list(dict.fromkeys(name for name, _ in curves.scores))
    several = len({weights for _, weights in curves.scores}) > 1
    for (name, weights), series in curves.scores.items():
        label = NAMES.get(name, name.replace("iou", "IoU").replace("_", " "))
        axis.plot(
            series.steps, series.values, STYLES.get(weights, ":"), color=colour(names.index(name)), marker="o",
            markersize=4, markerfacecolor="white" if weights == "average" else None, linewidth=1.3,
            label=f"{label}, {weights} weights" if several else label,
        )  # fmt: skip
    values = np.concatenate([series.values for series in curves.scores.values()])
    low = np.nanmin(values) if np.isfinite(values).any() else 0.0
    axis.set_ylim(max(0.0, math.floor(10 * low - 0.5) / 10), 1.0)
    axis.set_ylabel("validation")
    axis.legend(ncols=2 if len(curves.scores) > 3 else 1, loc="best")


def _draw_rate(axis: "Axes", rate: Series) -> None:
    axis.plot(rate.steps, rate.values, "." if len(rate.values) == 1 else "-", color=COLOURS[2], linewidth=1.3)
    if len(rate.values) and rate.values.min() > 0 and rate.values.max() > 20 * np.median(rate.values):
        axis.set_yscale("log")
    elif len(rate.values):
        axis.set_ylim(0, 1.15 * rate.values.max() or 1.0)
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axis.set(xlabel="step", ylabel="learning rate")
