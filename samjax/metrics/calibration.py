"""Calibration of predicted IoU: bins of a reliability diagram and the expected calibration error."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 10


@dataclass(frozen=True)
class Calibration:
    """Predicted and actual IoU in `BINS` bins of equal width of the predicted one; NaN in empty bins."""

    counts: NDArray
    """Masks in each bin, int64 (bins,)."""
    predicted: NDArray
    """Mean predicted IoU, float64 (bins,)."""
    actual: NDArray
    """Mean actual IoU, float64 (bins,)."""
    quartiles: NDArray
    """First and third quartile of the actual IoU, float64 (2, bins)."""
    error: float
    """Expected calibration error (Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian
    binning"): the mean over all masks of the gap between the two means of their bin."""


def calibrate(predicted_iou: ArrayLike, actual_iou: ArrayLike) -> Calibration:
    """Compares predicted with actual IoU.

    Args:
        predicted_iou: (n,) as the model gives them; values outside [0, 1] count for the first or last bin.
        actual_iou: (n,) in [0, 1].

    Raises:
        ValueError: the two differ in length, are empty or not finite.
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
    return Calibration(counts, means[0], means[1], quartiles, float(np.nansum(gaps * counts) / counts.sum()))
