"""Scans and masks as NIfTI for NiiVue: voxel axes (column, row, slice), at the place that the source has in space."""

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from isal import igzip

from samjax.data.imaging.background import background_of
from samjax.data.imaging.geometry import Geometry

_LEVEL = 1
_SAMPLE = 7
"""Step at which voxels are looked at for a window."""


def affine_of(geometry: Geometry | None, spacing: Sequence[float]) -> np.ndarray:
    """The 4 x 4 matrix from (column, row, slice, 1) to RAS millimetres; of an array, axes to the left, back and top."""
    if geometry is not None:
        return geometry.oriented_affine[:, [2, 1, 0, 3]]
    return np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])


def nifti_bytes(array: np.ndarray, affine: np.ndarray) -> bytes:
    """An array (slices, rows, columns) as a compressed NIfTI-1 file whose data are in this very order."""
    image = nib.Nifti1Image(array.T, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, 1)
    image.set_qform(affine, 1, strip_shears=True)
    return igzip.compress(image.to_bytes(), _LEVEL)


def window_of(array: np.ndarray) -> tuple[float, float]:
    """The values of a scan that are first shown as black and white: percentiles 0.5 and 99.5 of its foreground."""
    sample = np.ascontiguousarray(array[:, ::_SAMPLE, ::_SAMPLE])
    shown = sample[sample != background_of(array)]
    low, high = np.percentile(shown if shown.size else sample, (0.5, 99.5)).tolist()
    return (low, high) if high > low else (low, low + 1)
