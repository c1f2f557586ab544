"""The predictions of a slice and of a volume."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from samjax.data.labels import roi_mask


class SlicePrediction(NamedTuple):
    """The mask (rows, columns) bool of one slice for one prompt, and the IoU that the model predicts for it."""

    slice: int
    mask: np.ndarray
    iou: float


@dataclass(frozen=True)
class PromptRounds:
    """Results of Z slices in K rounds of prompts from ground truth."""

    prompted: np.ndarray
    """The slices that show the region, (Z,) bool; the others were not run, and hold zeros below."""
    iou: np.ndarray
    """The IoU that the model predicts, (K, Z) float32."""
    counts: np.ndarray
    """Pixel counts, (K, Z, 3) int32: of prediction and label together, of the prediction, and of the label."""
    click: np.ndarray
    """The first click's pixel (x, y), (Z, 2) float32; zeros where the prompts are boxes."""


@dataclass(frozen=True)
class VolumePrediction:
    """A volume's prediction."""

    mask: np.ndarray
    """The mask, (Z, rows, columns): the region as bool or, from a U-Net, canonical codes as uint8."""
    iou: np.ndarray
    """The IoU that the model predicts for each slice, (Z,) float32, the lowest if a slice has several prompts; NaN for
    slices that were not run, and everywhere from a U-Net."""
    rounds: PromptRounds | None = None
    """Results by round; None unless the prompts came from ground truth."""

    def region(self, roi: str) -> np.ndarray:
        """One region of the prediction, (Z, rows, columns) bool."""
        return self.mask if self.mask.dtype == bool else roi_mask(self.mask, roi)


def united(
    predictions: Iterable[SlicePrediction], shape: tuple[int, int, int], initial: np.ndarray | None = None
) -> VolumePrediction:
    """Slices put into a volume of `shape` (Z, rows, columns); several of one slice are united.

    With a mask `initial` (Z, rows, columns) bool they take the place of its slices, and its other slices stay.
    """
    mask, iou = np.zeros(shape, bool), np.full(shape[0], np.nan, np.float32)
    if initial is not None:
        mask[:] = initial
    for found in predictions:
        first = np.isnan(iou[found.slice])
        mask[found.slice] = found.mask if first else mask[found.slice] | found.mask
        iou[found.slice] = np.fmin(iou[found.slice], found.iou)
    return VolumePrediction(mask, iou)


def not_run(mask: np.ndarray) -> VolumePrediction:
    """A prediction without any predicted IoU: a U-Net's, or one from a file."""
    return VolumePrediction(mask, np.full(len(mask), np.nan, np.float32))
