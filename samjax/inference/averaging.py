"""The mean of several predictions of one volume, by their probabilities."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from samjax.data.labels import COMPARTMENTS
from samjax.inference.model import SegmentationModel
from samjax.inference.predictions import NOT_RUN, VolumePrediction, not_run, volume_prediction

_SMALLEST = np.float32(2.0**-24)
"""Probabilities are kept this far from 0 and 1, so that their logits are finite: up to 16.6 in size."""


def logits_of(probabilities: np.ndarray) -> np.ndarray:
    """The finite logits float32 of probabilities of any shape."""
    from scipy.special import logit

    return logit(np.clip(probabilities, _SMALLEST, 1 - _SMALLEST).astype(np.float32))


def averaged(predictions: Iterable[VolumePrediction], model: SegmentationModel) -> VolumePrediction:
    """The mean of predictions of one volume; a single one is returned as it is.

    A slice that one of them did not run counts with probability 0 there. The predicted IoU is the mean over those that
    have one.

    Args:
        predictions: at least one, with logits unless it is alone. They are taken one after the other.
        model: a model that made one of them; the others have its regions. A U-Net's classes exclude each other, so that
            its mask is the most probable one; a SAM's region is where the mean probability is above 0.5.

    Returns:
        The mean prediction, whose logits are those of the mean probabilities; without results by round.
    """
    remaining = iter(predictions)
    first = next(remaining)
    count, total, run, ious = 1, None, None, [first.region_iou]
    for found in remaining:
        if total is None:
            total, run = first.probabilities, slices_run(first)
        total += found.probabilities
        run |= slices_run(found)
        ious.append(found.region_iou)
        count += 1
    if total is None:
        return first
    mean = total / np.float32(count)
    logits = logits_of(mean)
    logits[:, ~run] = NOT_RUN
    if model.is_unet:
        return replace(not_run(codes_of_regions(mean, model.rois)), logits=logits)
    return volume_prediction(mean > 0.5, _mean_iou(ious), model.rois, model.nested, logits=logits)


def slices_run(found: VolumePrediction) -> np.ndarray:
    """The slices that were run, (Z,) bool."""
    return (found.logits != NOT_RUN).any(axis=(0, 2, 3))


def _mean_iou(ious: Sequence[np.ndarray]) -> np.ndarray:
    """The mean (R, Z) float32 of those that are numbers; NaN where none is."""
    stacked = np.stack(ious)
    known = np.isfinite(stacked)
    total, count = np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def codes_of_regions(mean: np.ndarray, rois: Sequence[str]) -> np.ndarray:
    """A U-Net's canonical codes uint8 from probabilities (R, Z, rows, columns) of its regions."""
    by_roi = dict(zip(rois, mean, strict=True))
    inside = np.stack([by_roi[name] for name in COMPARTMENTS])
    codes = np.array([0, *COMPARTMENTS.values()], np.uint8)
    return codes[np.concatenate([1 - inside.sum(axis=0, keepdims=True), inside]).argmax(axis=0)]
