"""Several regions in one label map."""

from collections.abc import Mapping, Sequence

import numpy as np

from samjax.data.labels import COMPARTMENTS, roi_codes
from samjax.errors import UserError

MERGE_ORDER = ("whole-tumor", "tumor-core", *COMPARTMENTS)
"""Order in which regions are written; later ones go over earlier ones."""


def region_codes(masks: Mapping[str, np.ndarray], nested: bool = False) -> np.ndarray:
    """The canonical codes (..., uint8) of several regions' masks, each written as its outermost compartment.

    Later regions of `MERGE_ORDER` go over earlier ones. A label map cannot show a tumour core outside the whole tumour:
    what an inner region has beyond an outer one makes the outer one larger or, if `nested`, is left out.

    Args:
        masks: (...) bool of each region, by its name.
        nested: whether to clip each region to all those among `masks` that enclose it.
    """
    order = sorted(masks, key=MERGE_ORDER.index)
    codes = np.zeros(masks[order[0]].shape, np.uint8)
    clipped: dict[str, np.ndarray] = {}
    for roi in order:
        mask = masks[roi]
        for outer, around in clipped.items():
            if nested and set(roi_codes(roi)) < set(roi_codes(outer)):
                mask = mask & around
        clipped[roi] = mask
        codes[mask] = roi_codes(roi)[0]
    return codes


def require_inner(rois: Sequence[str]) -> None:
    """Raises a `UserError` for `--nested` where none of these regions of SAM lies inside another one."""
    codes = [set(roi_codes(roi)) for roi in rois]
    if not any(inner < outer for inner in codes for outer in codes):
        raise UserError("--nested: there are no regions of SAM of which one lies inside another; leave it out")
