"""Draws predictions over their slices, in the colours of paper A (fig. 5-8), several runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samjax.data.cases import MODALITIES
from samjax.figures.canvas import drawn
from samjax.figures.palette import BORDER, DIMMED, FALSE_NEGATIVE, FALSE_POSITIVE, OPACITY, TRUE_POSITIVE
from samjax.metrics.boxes import bounding_box
from samjax.metrics.overlap import dice

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CASES = 4
"""Number of cases that the figure shows, the first ones."""
SHOWN = "flair"
"""The modality shown beneath a prediction, if the case has it."""
MARGIN = 4
"""Margin around the brain in pixels."""
COLUMN = 1.9
"""Width of a slice in inches."""


@dataclass(frozen=True)
class PredictedSlice:
    """One slice of a case with one run's prediction."""

    run: str
    case: str
    slice: int
    picture: np.ndarray
    """The image, (rows, columns) uint8, one modality."""
    truth: np.ndarray
    """The label's region, (rows, columns) bool."""
    predicted: np.ndarray
    """The predicted region, (rows, columns) bool."""

    @property
    def dice(self) -> float:
        return dice(self.predicted, self.truth)


def shown_picture(images: np.ndarray) -> np.ndarray:
    """The picture (rows, columns) uint8 that predictions are drawn over: FLAIR or, where that is empty, the first
    modality that is not.

    Args:
        images: (rows, columns, 4) uint8, t1, t1gd, t2, flair; a missing modality is 0.
    """
    shown = MODALITIES.index(SHOWN)
    filled = images.any((0, 1))
    return images[..., shown if filled[shown] else int(filled.argmax())]


def draw_overlays(path: Path, shown: Sequence[PredictedSlice]) -> None:
    """Writes one row per case (the first few), one column per run, after the slice itself.

    Args:
        path: the PNG; the PDF is written beside it.
        shown: slices of all runs, one per case.
    """
    runs = list(dict.fromkeys(item.run for item in shown))
    cases = list(dict.fromkeys(item.case for item in shown))[:MOST_CASES]
    tall = max(tallness(brain_box(item.picture)) for item in shown)
    with drawn(path, (COLUMN * tall + 0.2) * len(cases) + 0.4, COLUMN * (len(runs) + 1), dark=True) as figure:
        axes = figure.subplots(len(cases), len(runs) + 1, squeeze=False)
        for axis in axes.flat:
            clear(axis)
        for item in shown:
            if item.case not in cases:
                continue
            row = axes[cases.index(item.case)]
            inside = brain_box(item.picture)
            row[0].imshow(item.picture[inside], cmap="gray", vmin=0, vmax=255)
            row[0].set_title(f"{item.case}, slice {item.slice}", fontsize=6.5)
            axis = row[1 + runs.index(item.run)]
            draw_overlay(axis, item, inside)
            axis.set_title(f"{item.run}: Dice {item.dice:.2f}", fontsize=6.5)
        figure.legend(handles=overlay_legend(), loc="outside lower center", ncols=4 if len(runs) > 1 else 2)


def overlay(shown: PredictedSlice) -> np.ndarray:
    """The dimmed slice with true positives, false positives and false negatives, (rows, columns, 3) uint8."""
    picture = np.repeat(shown.picture[..., None] * DIMMED, 3, axis=-1)
    for mask, colour in (
        (shown.predicted & shown.truth, TRUE_POSITIVE),
        (shown.predicted & ~shown.truth, FALSE_POSITIVE),
        (~shown.predicted & shown.truth, FALSE_NEGATIVE),
    ):
        picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * np.array(colour)
    return picture.astype(np.uint8)


def draw_overlay(axis: "Axes", shown: PredictedSlice, inside: tuple[slice, slice]) -> None:
    """Draws a prediction over its slice with the border of the label, cropped to `inside`."""
    axis.imshow(overlay(shown)[inside])
    draw_border(axis, shown.truth[inside])


def draw_border(axis: "Axes", truth: np.ndarray) -> None:
    """Draws the border of a label (rows, columns) bool, where it has any."""
    if truth.any():
        axis.contour(truth, levels=[0.5], colors=BORDER, linewidths=0.7)


def overlay_legend() -> list:
    """The legend's handles of the colours of an overlay."""
    from matplotlib.patches import Patch

    names = ("true positive", "false positive", "false negative")
    fills = (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE)
    patches = [Patch(color=np.array(fill) / 255, label=name) for name, fill in zip(names, fills, strict=True)]
    return [*patches, Patch(facecolor="none", edgecolor=BORDER, label="border of the label")]


def clear(axis: "Axes") -> None:
    """Removes ticks, frame and ground; titles and labels stay."""
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.patch.set_visible(False)


def brain_box(picture: np.ndarray) -> tuple[slice, slice]:
    """The bounding box of the foreground with a margin; the whole of an empty picture."""
    box = bounding_box(picture != 0)
    if box is None:
        return tuple(slice(0, size) for size in picture.shape)
    return tuple(slice(max(0, side.start - MARGIN), side.stop + MARGIN) for side in box)


def tallness(box: tuple[slice, slice]) -> float:
    """The height of a box over its width."""
    return (box[0].stop - box[0].start) / (box[1].stop - box[1].start)
