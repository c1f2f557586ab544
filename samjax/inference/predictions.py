"""The predictions of a slice and of a volume."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from samjax.data.labels import roi_mask
from samjax.inference.regions import region_codes


class SlicePrediction(NamedTuple):
    """The masks (R, rows, columns) bool of one slice for one prompt, and the IoU (R,) that the model predicts for them.

    There is one for each region of the model, the prompted region first.
    """

    slice: int
    masks: np.ndarray
    ious: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """The prompted region's mask (rows, columns) bool."""
        return self.masks[0]

    @property
    def iou(self) -> float:
        """The IoU that the model predicts for the prompted region."""
        return float(self.ious[0])


@dataclass(frozen=True)
class PromptRounds:
    """Results of Z slices in K rounds of prompts from ground truth."""

    prompted: np.ndarray
    """The slices that show the region, (Z,) bool; the others were not run, and hold zeros below."""
    iou: np.ndarray
    """The IoU that the model predicts for the prompted region, (K, Z) float32."""
    counts: np.ndarray
    """Pixel counts of the prompted region, (K, Z, 3) int32: of prediction and label together, of the prediction, and of
    the label."""
    click: np.ndarray
    """The first click's pixel (x, y), (Z, 2) float32; zeros where the prompts are boxes."""


@dataclass(frozen=True)
class VolumePrediction:
    """A volume's prediction."""

    mask: np.ndarray
    """The mask, (Z, rows, columns): the region as bool or, of several regions, canonical codes as uint8."""
    iou: np.ndarray
    """The IoU that the model predicts for each slice, (Z,) float32, the lowest if a slice has several prompts; NaN for
    slices that were not run, and everywhere from a U-Net. Of several regions, that of the prompted one."""
    rounds: PromptRounds | None = None
    """Results by round; None unless the prompts came from ground truth."""
    region_iou: np.ndarray | None = None
    """The predicted IoU of each region of a SAM, (R, Z) float32, the prompted one first; None from a U-Net."""

    def region(self, roi: str) -> np.ndarray:
        """One region of the prediction, (Z, rows, columns) bool."""
        return self.mask if self.mask.dtype == bool else roi_mask(self.mask, roi)


def united(
    predictions: Iterable[SlicePrediction], shape: tuple[int, int, int], rois: Sequence[str], nested: bool = False
) -> VolumePrediction:
    """Slices put into a volume of `shape` (Z, rows, columns); several of one slice are united, region by region.

    `rois` are the model's regions, in the order of the slices' masks; `nested` as in `region_codes`.
    """
    masks, ious = np.zeros((len(rois), *shape), bool), np.full((len(rois), shape[0]), np.nan, np.float32)
    for found in predictions:
        masks[:, found.slice] |= found.masks
        ious[:, found.slice] = np.fmin(ious[:, found.slice], found.ious)
    return volume_prediction(masks, ious, rois, nested)


def volume_prediction(
    masks: np.ndarray, ious: np.ndarray, rois: Sequence[str], nested: bool = False, rounds: PromptRounds | None = None
) -> VolumePrediction:
    """The prediction of masks (R, Z, rows, columns) bool with predicted IoU (R, Z) of the regions `rois`."""
    mask = masks[0] if len(rois) == 1 else region_codes(dict(zip(rois, masks, strict=True)), nested)
    return VolumePrediction(mask, ious[0], rounds, ious)


def not_run(mask: np.ndarray) -> VolumePrediction:
    """A prediction without any predicted IoU: a U-Net's, or one from a file."""
    return VolumePrediction(mask, np.full(len(mask), np.nan, np.float32))
