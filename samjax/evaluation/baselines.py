"""Baselines of prompted results, which are masks from the prompt alone, and of prompt-free ones, a mask from FLAIR."""

from collections.abc import Sequence

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.cases import Case
from samjax.data.imaging.background import background_of
from samjax.data.imaging.volumes import read_scan
from samjax.data.labels import roi_codes
from samjax.metrics.boxes import bounding_box

FILLED_BOX, ELLIPSE, DISK = "filled box", "inscribed ellipse", "disk at the click"
FLAIR = "FLAIR threshold"
FLAIR_ROI = "whole-tumor"
"""The region that the FLAIR threshold stands for."""
SIGMA, TIMES_MEDIAN = 1.5, 1.3
"""The blur of the FLAIR threshold in voxels, and its level in medians of the brain."""
_REACH = 6
"""The voxels on each side that the blur takes into account: four standard deviations."""
_MOST_BELOW = 0.05
"""The largest share of the brain that may lie below its background where intensities are still raw ones."""


def median_area(cases: Sequence[CachedCase], roi: str) -> float:
    """The pixels of the ROI in the median slice that shows it; 0 if no slice does."""
    areas = np.concatenate([case.counts[:, list(roi_codes(roi))].sum(axis=1) for case in cases])
    return float(np.median(areas[areas > 0])) if areas.any() else 0.0


def of_boxes(truth: np.ndarray) -> dict[str, np.ndarray]:
    """The tight box of each slice, filled, and the ellipse that fits in it; truth (Z, rows, columns) bool."""
    masks = {FILLED_BOX: np.zeros_like(truth), ELLIPSE: np.zeros_like(truth)}
    for z in np.flatnonzero(truth.any((1, 2))):
        box = bounding_box(truth[z])
        height, width = (side.stop - side.start for side in box)
        masks[FILLED_BOX][z][box] = True
        y, x = (2 * (np.arange(height) + 0.5) / height - 1)[:, None], 2 * (np.arange(width) + 0.5) / width - 1
        masks[ELLIPSE][z][box] = x**2 + y**2 <= 1
    return masks


def of_clicks(truth: np.ndarray, click: np.ndarray, area: float) -> dict[str, np.ndarray]:
    """A disk of `area` pixels around each slice's click, (Z, 2) as (x, y), where the slice shows the ROI.

    The area is the median of the slices that are scored, which no user would know, so it favours the baseline.
    """
    rows, columns = (np.arange(size) for size in truth.shape[1:])
    disks = np.zeros_like(truth)
    for z in np.flatnonzero(truth.any((1, 2))):
        x, y = click[z]
        disks[z] = np.pi * ((rows[:, None] - y) ** 2 + (columns - x) ** 2) <= area
    return {DISK: disks}


def of_flair(case: Case) -> dict[str, np.ndarray]:
    """The FLAIR threshold of a case, from its FLAIR file as it is stored.

    Args:
        case: a case; only its FLAIR is opened.

    Returns:
        The mask (Z, rows, columns) bool on the scan's grid, by the baseline's name; nothing for a case without FLAIR or
        with intensities for which the rule means nothing.

    Raises:
        UserError: the FLAIR file cannot be read.
    """
    source = case.images.get("flair")
    if source is None:
        return {}
    mask = bright_in_flair(read_scan(source, {}).array)
    return {} if mask is None else {FLAIR: mask}


def bright_in_flair(flair: np.ndarray) -> np.ndarray | None:
    """The bright part of a FLAIR scan that a rule without any learning takes for the whole tumour.

    The voxels of the brain (all that are not background) in which the scan, blurred by a Gaussian of `SIGMA` voxels, is
    above `TIMES_MEDIAN` times the brain's median; of these the largest component of face neighbours, its holes filled
    in 3-D. Intensities count from the background, which is 0 in most scans.

    Args:
        flair: (Z, rows, columns) of any real type, with the scanner's own intensities.

    Returns:
        (Z, rows, columns) bool; None where a share of the brain lies below the background, as in z-scores, of whose
        median a multiple means nothing.
    """
    from scipy import ndimage

    background = background_of(flair)
    brain = flair != background
    box = bounding_box(brain)
    if box is None:
        return None
    # So far around the brain that the blur inside of it is that of the whole scan.
    wide = tuple(slice(max(0, side.start - _REACH), side.stop + _REACH) for side in box)
    values, brain = flair[wide].astype(np.float32) - np.float32(background), brain[wide]
    inside = values[brain]
    if (inside < 0).mean() > _MOST_BELOW:
        return None
    bright = brain & (ndimage.gaussian_filter(values, SIGMA) > TIMES_MEDIAN * np.median(inside))
    mask = np.zeros(flair.shape, bool)
    components, count = ndimage.label(bright)
    if count:
        largest = 1 + np.bincount(components.ravel())[1:].argmax()
        mask[wide] = ndimage.binary_fill_holes(components == largest)
    return mask
