"""Whether the IoU that a model predicts for its masks is the one they have."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from samjax.figures.canvas import FAINT, WIDTH, colour, drawn, prompts_text
from samjax.figures.panels import plural

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Predicted and actual IoU in bins of equal width of the predicted one, `BINS` of them; NaN in empty bins."""

    counts: NDArray
    """(bins,) int64."""
    predicted: NDArray
    """(bins,) means."""
    actual: NDArray
    """(bins,) means."""
    quartiles: NDArray
    """(2, bins) first and third of the actual IoU."""
    error: float
    """The expected calibration error (Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian
    binning"): the mean over all masks of the gap between the two means of their bin."""


def calibrate(predicted_iou: ArrayLike, actual_iou: ArrayLike) -> Calibration:
    """Compares predicted with actual IoU.

    Args:
        predicted_iou: (n,) as the model gives them: what lies outside [0, 1] counts for the first or last bin.
        actual_iou: (n,) in [0, 1].

    Raises:
        ValueError: the two have other lengths, are empty or not finite.
    """
    predicted, actual = np.asarray(predicted_iou, float), np.asarray(actual_iou, float)
    if predicted.ndim != 1 or predicted.shape != actual.shape or not predicted.size:
        raise ValueError(f"calibration of IoUs of shapes {predicted.shape} and {actual.shape}: expected (n,) twice")
    if not (np.isfinite(predicted).all() and np.isfinite(actual).all()):
        raise ValueError("calibration of IoUs that are not finite")
    places = np.clip((predicted * BINS).astype(int), 0, BINS - 1)
    counts = np.bincount(places, minlength=BINS)
    means = np.full((2, BINS), np.nan)
    quartiles = np.full((2, BINS), np.nan)
    for place in np.flatnonzero(counts):
        inside = places == place
        means[:, place] = predicted[inside].mean(), actual[inside].mean()
        quartiles[:, place] = np.quantile(actual[inside], (0.25, 0.75))
    gaps = np.abs(means[1] - means[0])
    return Calibration(counts, *means, quartiles, float(np.nansum(gaps * counts) / counts.sum()))


def calibration(predicted_iou: ArrayLike, actual_iou: ArrayLike, path: Path, *, run: str, prompt: str) -> None:
    """Writes the reliability diagram of a run's predicted IoU, the counts of its bins beneath.

    Args:
        predicted_iou, actual_iou: (n,) of slices, as `calibrate` takes them.
        path: of the PNG; the PDF lies beside it.
        prompt: how the run was asked, as in its rows.
    """
    found = calibrate(predicted_iou, actual_iou)
    used = found.counts > 0
    with drawn(path, 4.4, 0.58 * WIDTH) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1))
        above.plot((0, 1), (0, 1), "--", color=FAINT, linewidth=1, label="as predicted")
        above.vlines(
            found.predicted[used], *found.quartiles[:, used], color=colour(0), linewidth=3, alpha=0.3, label="quartiles"
        )
        above.plot(found.predicted[used], found.actual[used], "-o", color=colour(0), markersize=4.5, label="mean")
        above.set(ylabel="actual IoU", ylim=(-0.02, 1.02))
        above.set_title(
            f"Predicted IoU of {run}\n{plural(int(found.counts.sum()), 'slice')}; {prompts_text([prompt])}\n"
            f"expected calibration error {found.error:.3f}",
            loc="left",
        )
        above.legend(loc="upper left")
        middles = (np.arange(BINS) + 0.5) / BINS
        bars = below.bar(middles, found.counts, 0.9 / BINS, color=colour(0), alpha=0.5)
        below.bar_label(bars, [str(count) if count else "" for count in found.counts], fontsize=7, padding=1)
        below.set(xlabel="predicted IoU", ylabel="slices", ylim=(0, 1.3 * found.counts.max()))
        lowest, highest = min(0.0, float(found.predicted[used][0])), max(1.0, float(found.predicted[used][-1]))
        below.set_xlim(lowest - 0.02, highest + 0.02)
        for axis in (above, below):
            axis.grid()
