"""The learning curves of a run, drawn from its metrics.jsonl."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from samjax.errors import UserError
from samjax.figures.palette import COLOURS
from samjax.files import replacing
from samjax.training.lr_finder import smooth

STYLES = {"last": "-", "average": "--"}
"""One per weights."""

NAMES = {"dice": "Dice by volume", "dice_slice": "Dice by slice"}

MOST_EPOCHS = 60
"""With more, their lines would be a grey ground."""


@dataclass(frozen=True)
class Series:
    """A number over the steps: steps (S,) int64, rising; values (S,) float64, NaN where not finite."""

    steps: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Curves:
    """What there is to draw.

    Attributes:
        loss: of each step.
        rate: learning rate of each step.
        scores: of the validations, by the score's name and the weights scored ("last", "average").
        epochs: (E,) int64, the first step of each epoch after the run's first.
        averaging: the first step whose weights entered the average, if any did.
    """

    loss: Series
    rate: Series
    scores: dict[tuple[str, str], Series]
    epochs: np.ndarray
    averaging: int | None


def read_curves(metrics: Path) -> Curves:
    """Reads the rows of a metrics.jsonl, whose last line may be unfinished.

    Raises:
        UserError: there is no such file, or it holds no finished row.
    """
    if not metrics.is_file():
        raise UserError(f"{metrics}: no such file; expected the metrics.jsonl of a run")
    rows = [row for row in map(_row, metrics.read_text().splitlines()) if row is not None]
    if not rows:
        raise UserError(f"{metrics}: holds no finished row, so there are no curves to draw; train for a step first")
    # A step trained again after a resumption replaces what was there.
    train = {row["step"]: row for row in rows if row["kind"] == "train"}
    train = [train[step] for step in sorted(train)]
    return Curves(
        loss=_series((row["step"], row["loss"]) for row in train),
        rate=_series((row["step"], row["lr"]) for row in train),
        scores=_scores(row for row in rows if row["kind"] == "validation"),
        epochs=np.array([b["step"] for a, b in pairwise(train) if b["epoch"] > a["epoch"]], np.int64),
        averaging=next((row["step"] for row in train if row.get("averaging")), None),
    )


def _row(line: str) -> dict | None:
    """A row; None for a line cut off when the run was killed."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "kind" in row and "step" in row else None


def _series(pairs: Iterable[tuple[int, float]]) -> Series:
    latest = dict(pairs)
    steps = np.array(sorted(latest), np.int64)
    values = np.array([latest[step] for step in steps.tolist()], np.float64)
    return Series(steps, np.where(np.isfinite(values), values, np.nan))


def _scores(rows: Iterable[dict]) -> dict[tuple[str, str], Series]:
    """Every float of the validation rows whose name begins with dice or iou."""
    found: dict[tuple[str, str], list[tuple[int, float]]] = {}
    for row in rows:
        for name, value in row.items():
            if name.startswith(("dice", "iou")) and isinstance(value, float):
                found.setdefault((name, row.get("weights", "last")), []).append((row["step"], value))
    return {key: _series(pairs) for key, pairs in found.items()}


def draw_curves(metrics: Path, out: Path) -> None:
    """Draws loss, validation scores (where there are any) and learning rate of a run, as a PNG.

    Raises:
        UserError: as `read_curves`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    curves = read_curves(metrics)
    heights = (3, 3, 1.3) if curves.scores else (3, 1.3)
    figure = Figure(figsize=(8, 0.5 + 0.9 * sum(heights)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for axis in axes:
        _mark(axis, curves)
    _draw_loss(axes[0], curves)
    if curves.scores:
        _draw_scores(axes[1], curves)
    _draw_rate(axes[-1], curves.rate)
    figure.align_ylabels(axes)
    with replacing(out) as temporary:
        figure.savefig(temporary)


def _mark(axis, curves: Curves) -> None:
    """Epochs and the begin of the averaging."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color="#e8e8e8", linewidth=0.8)
    axis.set_axisbelow(True)
    last = max(series.steps.max(initial=1) for series in (curves.loss, *curves.scores.values()))
    axis.set_xlim(0, last + max(1, last / 50))
    axis.locator_params(axis="x", integer=True)
    if len(curves.epochs) < MOST_EPOCHS:
        for step in curves.epochs:
            axis.axvline(step - 0.5, color="#e0e0e0", linewidth=0.8, zorder=0.5)
    if curves.averaging is not None:
        axis.axvline(curves.averaging - 0.5, color="#555555", linewidth=1.2, linestyle=":", zorder=1.5)


def _draw_loss(axis, curves: Curves) -> None:
    axis.set_ylabel("training loss")
    finite = np.isfinite(curves.loss.values)
    steps, values = curves.loss.steps[finite], curves.loss.values[finite]
    if len(values):
        line = smooth(values, smoothing(len(values)))
        size = 4 if len(values) > 1000 else 7
        axis.plot(
            steps, values, ".", color="#56b4e9", alpha=0.45, markersize=size, markeredgewidth=0, label="of a step"
        )
        axis.plot(steps, line, color=COLOURS[0], linewidth=2, label="smoothed")
        low, high = values.min(), max(np.percentile(values, 99), line.max())
        margin = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        axis.set_ylim(low - margin, high + margin)
        for handle in axis.legend(frameon=False, fontsize=9, loc="upper right").legend_handles:
            handle.set(alpha=1, markersize=7)
    if curves.averaging is not None:
        axis.annotate(
            " averaging", (curves.averaging, 1), xycoords=("data", "axes fraction"), va="bottom", fontsize=9,
            color="#555555",
        )  # fmt: skip


def smoothing(steps: int) -> float:
    """Beta of the smoothed loss of a run, which averages some 4 % of it, and never fewer than a few steps."""
    return 1 - 1 / max(2, steps / 100)


def _draw_scores(axis, curves: Curves) -> None:
    names = list(dict.fromkeys(name for name, _ in curves.scores))
    several = len({weights for _, weights in curves.scores}) > 1
    for (name, weights), series in curves.scores.items():
        label = NAMES.get(name, name.replace("iou", "IoU").replace("_", " "))
        axis.plot(
            series.steps, series.values, STYLES.get(weights, ":"), color=COLOURS[names.index(name) % len(COLOURS)],
            marker="o", markersize=4, markerfacecolor="white" if weights == "average" else None, linewidth=1.5,
            label=f"{label}, {weights} weights" if several else label,
        )  # fmt: skip
    values = np.concatenate([series.values for series in curves.scores.values()])
    low = np.nanmin(values) if np.isfinite(values).any() else 0.0
    axis.set_ylim(max(0.0, math.floor(10 * low - 0.5) / 10), 1.0)
    axis.set_ylabel("validation")
    axis.legend(frameon=False, fontsize=9, ncols=2 if len(curves.scores) > 3 else 1, loc="best")


def _draw_rate(axis, rate: Series) -> None:
    axis.plot(rate.steps, rate.values, "." if len(rate.values) == 1 else "-", color=COLOURS[2], linewidth=1.5)
    if len(rate.values) and rate.values.min() > 0 and rate.values.max() > 20 * np.median(rate.values):
        axis.set_yscale("log")
    elif len(rate.values):
        axis.set_ylim(0, 1.15 * rate.values.max() or 1.0)
        axis.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    axis.set_ylabel("learning rate")
    axis.set_xlabel("step")
