"""The fit of `fit` for predictions of a model's regions."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from samjax.data.labels import COMPARTMENTS, roi_codes
from samjax.inference.averaging import codes_of_regions, logits_of, slices_run
from samjax.inference.fitting.fit import fit_classes
from samjax.inference.model import SegmentationModel
from samjax.inference.postprocess import Postprocess, cleaned
from samjax.inference.predictions import NOT_RUN, VolumePrediction, volume_prediction


def fitted(
    found: VolumePrediction, images: np.ndarray, spacing: Sequence[float], model: SegmentationModel
) -> VolumePrediction:
    """A prediction after the fit to its scan, see `fit_classes`.

    Args:
        found: with logits.
        images: (Z, rows, columns, 4) uint8 of the scan.
        spacing: mm along slices, rows and columns.
        model: a model that made it.

    Returns:
        The prediction with new masks and logits; slices that were not run stay so.
    """
    probabilities, run = found.probabilities, slices_run(found)
    if model.is_unet:
        inside = [probabilities[model.rois.index(name)] for name in COMPARTMENTS]
        classes = fit_classes(np.stack([1 - sum(inside), *inside]), images, spacing)
        after = np.stack([classes[list(roi_codes(roi))].sum(axis=0) for roi in model.rois])
    else:
        nested = np.minimum.accumulate(probabilities, axis=0)  # a region's probability is no larger than an outer one's
        classes = np.stack([1 - nested[0], *(nested[:-1] - nested[1:]), nested[-1]])
        after = np.cumsum(fit_classes(classes, images, spacing)[:0:-1], axis=0)[::-1]
    logits = logits_of(after)
    logits[:, ~run] = NOT_RUN
    if model.is_unet:
        return replace(found, mask=codes_of_regions(after, model.rois), logits=logits)
    fit = volume_prediction(after > 0.5, found.region_iou, model.rois, model.nested)
    return replace(found, mask=np.where(run[:, None, None], fit.mask, found.mask), logits=logits)


def postprocessed(
    found: VolumePrediction,
    images: np.ndarray | None,
    spacing: Sequence[float],
    model: SegmentationModel,
    rule: Postprocess,
) -> VolumePrediction:
    """A prediction after a rule: fitted to its scan if the rule says so (with logits and images), then cleaned."""
    if rule.fit:
        found = fitted(found, images, spacing, model)
    return replace(found, mask=cleaned(found.mask, spacing, rule, model.rois))
