"""The predictions of a slice and of a volume."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from samjax.data.labels import roi_codes, roi_mask
from samjax.errors import UserError

NOT_RUN = -1e4
"""The logit of slices that were not run; its probability is 0 in float32."""


class SlicePrediction(NamedTuple):
    """The mask (rows, columns) bool of one slice for one prompt, the IoU that the model predicts for it, and, where
    asked for, the mask's logits (rows, columns) float32."""

    slice: int
    mask: np.ndarray
    iou: float
    logits: np.ndarray | None = None


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
    logits: np.ndarray | None = None
    """The logit of each of the model's R regions, (R, Z, rows, columns) float32, `NOT_RUN` in slices that were not run;
    None unless asked for. A SAM's mask is where it is above 0; a U-Net's is the most probable class."""

    @property
    def probabilities(self) -> np.ndarray:
        """The probability of each of the model's R regions, the sigmoid of its logit: (R, Z, rows, columns) float32.

        They are the model's own, before any cleaning of masks, and 0 in slices that were not run.

        Raises:
            UserError: the prediction has no logits.
        """
        from scipy.special import expit

        if self.logits is None:
            raise UserError("the prediction has no logits; ask for them with segment(logits=True)")
        return expit(self.logits)

    def region(self, roi: str) -> np.ndarray:
        """One region of the prediction, (Z, rows, columns) bool."""
        return self.mask if self.mask.dtype == bool else roi_mask(self.mask, roi)


def united(
    predictions: Iterable[SlicePrediction], shape: tuple[int, int, int], logits: bool = False
) -> VolumePrediction:
    """Slices put into a volume of `shape` (Z, rows, columns); several of one slice are united.

    With `logits` the volume has logits, for which all slices must have theirs.
    """
    mask, iou = np.zeros(shape, bool), np.full(shape[0], np.nan, np.float32)
    whole = np.full((1, *shape), NOT_RUN, np.float32) if logits else None
    for found in predictions:
        mask[found.slice] |= found.mask
        iou[found.slice] = np.fmin(iou[found.slice], found.iou)
        if whole is not None:
            whole[0, found.slice] = np.maximum(whole[0, found.slice], found.logits)
    return VolumePrediction(mask, iou, logits=whole)


def from_classes(classes: np.ndarray, rois: Sequence[str]) -> VolumePrediction:
    """A U-Net's prediction, with the logits of its regions, from its logits (classes, Z, rows, columns) by code.

    A region's logit is log(p / (1 - p)) of the probability p that the voxel is of one of its codes.
    """
    codes = range(len(classes))
    logits = np.stack(
        [
            np.logaddexp.reduce(classes[[code for code in codes if code in roi_codes(roi)]])
            - np.logaddexp.reduce(classes[[code for code in codes if code not in roi_codes(roi)]])
            for roi in rois
        ]
    )
    return replace(not_run(codes_of(classes)), logits=logits)


def codes_of(classes: np.ndarray) -> np.ndarray:
    """The most probable canonical codes, uint8, from logits (classes, ...) by code."""
    return classes.argmax(axis=0).astype(np.uint8)


def not_run(mask: np.ndarray) -> VolumePrediction:
    """A prediction without any predicted IoU: a U-Net's, or one from a file."""
    return VolumePrediction(mask, np.full(len(mask), np.nan, np.float32))
