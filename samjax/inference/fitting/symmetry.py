"""The plane between the halves of a head, and a volume seen in that mirror."""

import numpy as np

_SPACING = 6.0
"""Distance in mm of the points by which the plane is found."""
_MOST_DEGREES, _MOST_MM = 15.0, 25.0
"""How far the plane may be turned, and how far it may lie from the brain's centre."""


def mirrored_indices(brain: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """For every voxel the place of its mirror image in the other half of the head.

    The plane is the one that lays the brain onto itself best, near to the plane between left and right.

    Args:
        brain: (Z, rows, columns) bool; columns run from side to side. Not empty.
        spacing: (3,) mm along these axes.

    Returns:
        (3, Z, rows, columns) float32, indices that are not whole and may lie outside of the volume.
    """
    from scipy import ndimage
    from scipy.optimize import minimize

    inside = np.argwhere(brain)
    centre = inside.mean(axis=0)
    step = np.maximum(1, np.round(_SPACING / spacing)).astype(int)
    coarse = tuple(slice(n // 2, None, n) for n in step)
    soft = ndimage.gaussian_filter(brain.astype(np.float32), _SPACING / spacing)
    points = np.stack(
        np.meshgrid(*(np.arange(n)[one] for n, one in zip(brain.shape, coarse, strict=True)), indexing="ij")
    )
    values = soft[coarse]

    def mismatch(plane: np.ndarray) -> float:
        seen = ndimage.map_coordinates(soft, _reflected(points, plane, centre, spacing), order=1)
        return float(np.square(seen - values).mean())

    start = np.vstack([np.zeros(3), 5.0 * np.eye(3)])  # degrees and mm
    found = minimize(
        mismatch,
        np.zeros(3),
        method="Nelder-Mead",
        options={"initial_simplex": start, "xatol": 0.05, "fatol": 1e-7, "maxfev": 150},
    )
    plane = np.clip(found.x, (-_MOST_DEGREES, -_MOST_DEGREES, -_MOST_MM), (_MOST_DEGREES, _MOST_DEGREES, _MOST_MM))
    return _reflected(np.indices(brain.shape, np.float32), plane, centre, spacing).astype(np.float32)


def _reflected(points: np.ndarray, plane: np.ndarray, centre: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Points (3, ...) in voxels, reflected by a plane: degrees about the row and the slice axis, mm from the centre."""
    about_rows, about_slices = np.deg2rad(plane[:2])
    normal = np.array([np.sin(about_rows), np.sin(about_slices), 1.0])
    normal /= np.linalg.norm(normal)
    shape = (3,) + (1,) * (points.ndim - 1)
    ahead = (points - centre.reshape(shape)) * spacing.reshape(shape)
    distance = np.tensordot(normal, ahead, axes=1) - plane[2]
    return points - 2 * distance * (normal / spacing).reshape(shape)
