"""The predictions of a slice and of a volume."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from samjax.data.labels import roi_codes, roi_mask
from samjax.errors import UserError
from samjax.inference.regions import region_codes

NOT_RUN = -1e4
"""The logit of slices that were not run; its probability is 0 in float32."""


class SlicePrediction(NamedTuple):
    """The masks (R, rows, columns) bool of one slice for one prompt, and the IoU (R,) that the model predicts for them.

    There is one for each region of the model, the prompted region first. Where asked for, there are also the masks'
    logits (R, rows, columns) float32.
    """

    slice: int
    masks: np.ndarray
    ious: np.ndarray
    logits: np.ndarray | None = None

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
    logits: np.ndarray | None = None
    """The logit of each of the model's R regions, (R, Z, rows, columns) float32, `NOT_RUN` in slices that were not run;
    None unless asked for. A SAM's region is where it is above 0; a U-Net's mask is the most probable class."""
    region_iou: np.ndarray | None = None
    """The predicted IoU of each region of a SAM, (R, Z) float32, the prompted one first; None from a U-Net."""

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
    predictions: Iterable[SlicePrediction],
    shape: tuple[int, int, int],
    rois: Sequence[str],
    nested: bool = False,
    logits: bool = False,
) -> VolumePrediction:
    """Slices put into a volume of `shape` (Z, rows, columns); several of one slice are united, region by region.

    `rois` are the model's regions, in the order of the slices' masks; `nested` as in `region_codes`. With `logits` the
    volume has logits, for which all slices must have theirs.
    """
    masks, ious = np.zeros((len(rois), *shape), bool), np.full((len(rois), shape[0]), np.nan, np.float32)
    whole = np.full((len(rois), *shape), NOT_RUN, np.float32) if logits else None
    for found in predictions:
        masks[:, found.slice] |= found.masks
        ious[:, found.slice] = np.fmin(ious[:, found.slice], found.ious)
        if whole is not None:
            assert found.logits is not None
            whole[:, found.slice] = np.maximum(whole[:, found.slice], found.logits)
    return volume_prediction(masks, ious, rois, nested, logits=whole)


def volume_prediction(
    masks: np.ndarray,
    ious: np.ndarray,
    rois: Sequence[str],
    nested: bool = False,
    rounds: PromptRounds | None = None,
    logits: np.ndarray | None = None,
) -> VolumePrediction:
    """The prediction of masks (R, Z, rows, columns) bool with predicted IoU (R, Z) of the regions `rois`."""
    mask = masks[0] if len(rois) == 1 else region_codes(dict(zip(rois, masks, strict=True)), nested)
    return VolumePrediction(mask, ious[0], rounds, logits, ious)


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
