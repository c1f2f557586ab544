"""Predictions over their slices, in the colours of paper A (fig. 5-8), several runs side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import MODALITIES
from samjax.data.labels import roi_mask
from samjax.files import replacing
from samjax.metrics.overlap import dice

TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE = (0, 158, 15), (255, 221, 0), (255, 105, 180)
BORDER = "#e8000b"
DIMMED = 0.75
OPACITY = 0.55
MOST_CASES = 4
SHOWN = "flair"


@dataclass(frozen=True)
class Shown:
    """One slice of a case with one run's prediction."""

    run: str
    case: str
    slice: int
    picture: np.ndarray
    """(rows, columns) uint8, one modality."""
    truth: np.ndarray
    predicted: np.ndarray

    @property
    def dice(self) -> float:
        return dice(self.predicted, self.truth)


def largest_slice(case: CachedCase, predicted: np.ndarray, run: str, roi: str) -> Shown:
    """The slice that shows most of the ROI; predicted (Z, rows, columns) bool."""
    images, labels = case.read(0, case.shape[0])
    truth = roi_mask(labels, roi)
    z = int(truth.sum((1, 2)).argmax())
    return Shown(run, case.case.id, z, images[z, ..., MODALITIES.index(SHOWN)], truth[z], predicted[z])


def overlay(shown: Shown) -> np.ndarray:
    """(rows, columns, 3) uint8: the dimmed slice with true positives, false positives and false negatives."""
    picture = np.repeat(shown.picture[..., None] * DIMMED, 3, axis=-1)
    for mask, colour in (
        (shown.predicted & shown.truth, TRUE_POSITIVE),
        (shown.predicted & ~shown.truth, FALSE_POSITIVE),
        (~shown.predicted & shown.truth, FALSE_NEGATIVE),
    ):
        picture[mask] = (1 - OPACITY) * picture[mask] + OPACITY * np.array(colour)
    return picture.astype(np.uint8)


def draw_overlays(path: Path, shown: Sequence[Shown]) -> None:
    """One row a case (the first few), one column a run, after the slice itself."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    runs = list(dict.fromkeys(item.run for item in shown))
    cases = list(dict.fromkeys(item.case for item in shown))[:MOST_CASES]
    figure = Figure(figsize=(2.6 * (len(runs) + 1), 2.75 * len(cases) + 0.5), dpi=130, layout="constrained")
    figure.set_facecolor("black")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(cases), len(runs) + 1, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for item in shown:
        if item.case not in cases:
            continue
        row = axes[cases.index(item.case)]
        row[0].imshow(item.picture, cmap="gray", vmin=0, vmax=255)
        row[0].set_title(f"{item.case}, slice {item.slice}", color="white", fontsize=8)
        axis = row[1 + runs.index(item.run)]
        axis.imshow(overlay(item))
        if item.truth.any():
            axis.contour(item.truth, levels=[0.5], colors=BORDER, linewidths=0.8)
        axis.set_title(f"{item.run}: Dice {item.dice:.2f}", color="white", fontsize=8)
    names = ("true positive", "false positive", "false negative")
    colours = (TRUE_POSITIVE, FALSE_POSITIVE, FALSE_NEGATIVE)
    patches = [Patch(color=np.array(c) / 255, label=n) for n, c in zip(names, colours, strict=True)]
    patches.append(Patch(facecolor="none", edgecolor=BORDER, label="border of the label"))
    figure.legend(handles=patches, loc="outside lower center", ncols=4, fontsize=8, frameon=False, labelcolor="white")
    with replacing(path) as temporary:
        figure.savefig(temporary)
