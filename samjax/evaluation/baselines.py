"""Prompt-only baselines of prompted results: masks made from the prompt without the image."""

from collections.abc import Sequence

import numpy as np

from samjax.data.cache.cases import CachedCase
from samjax.data.labels import roi_codes
from samjax.metrics.boxes import bounding_box

FILLED_BOX, ELLIPSE, DISK = "filled box", "inscribed ellipse", "disk at the click"


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
