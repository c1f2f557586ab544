"""Recognises scans whose skull has been stripped already."""

import numpy as np
from scipy import ndimage

from samjax.data.imaging.background import background_of, edge
from samjax.data.imaging.doubts import EDGE_BACKGROUND, MOST_BRAIN_ML

LEAST_BRAIN_ML = 300.0
"""Millilitres that the foreground of a stripped scan has at least; one that shows part of a brain is recognised too."""
CUT_OFF = 0.5
"""Share of the largest slice's area above which the first or last slice shows a head cut off by the field of view."""


def stripped_brain(array: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray | None:
    """The mask of the brain in a scan that is stripped, holes filled; None for a scan with a skull.

    A stripped scan has one value all around a foreground of a brain's volume, which ends within the field of view:
    a head with its neck does not.

    Args:
      array: (slice, row, column) of any real type.
      spacing: millimetres between slices, rows and columns.
    """
    background = background_of(array)
    if np.mean(edge(array) == background) < EDGE_BACKGROUND:
        return None
    foreground = ndimage.binary_fill_holes(array != background)
    areas = np.count_nonzero(foreground, axis=(1, 2))
    volume = areas.sum() * np.prod(spacing) / 1000
    if not LEAST_BRAIN_ML <= volume <= MOST_BRAIN_ML or max(areas[0], areas[-1]) > CUT_OFF * areas.max():
        return None
    return foreground
