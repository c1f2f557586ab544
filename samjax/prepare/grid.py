"""The voxel grids that scans are resampled to: that of the search for the brain, and that of the files written."""

import math
from dataclasses import dataclass

import numpy as np

from samjax.errors import UserError

FINEST, COARSEST = 0.2, 10.0
"""Limits in millimetres of a spacing that a user may ask for."""
FIELD = (155.0, 240.0, 240.0)
"""Least field of view in mm of (slices, rows, columns) of the images written: that of BraTS, which models know."""
MARGIN = 5.0
"""Millimetres of background kept around a brain that is larger."""


@dataclass(frozen=True)
class Grid:
    """A grid with axes (slice, row, column) at right angles; `affine` leads from these indices to RAS millimetres."""

    affine: np.ndarray
    shape: tuple[int, int, int]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between slices, rows and columns."""
        slices, rows, columns = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return slices, rows, columns

    def resized(self, spacing: tuple[float, float, float]) -> "Grid":
        """The same field of view, or up to a voxel more, with another spacing."""
        fields = np.array(self.shape) * self.spacing
        shape = np.maximum(1, np.ceil(fields / spacing - 1e-3)).astype(int)
        factors = np.array(spacing) / self.spacing
        affine = self.affine @ np.diag([*factors, 1])
        affine[:3, 3] = (self.affine @ [*(factors - 1) / 2, 1])[:3]  # the first voxels share their outer corner
        return Grid(affine, tuple(shape.tolist()))

    def around(self, points: np.ndarray, spacing: tuple[float, float, float]) -> "Grid":
        """A grid with these axes and another spacing, whose middle is that of `points` (n, 3) in RAS millimetres.

        It holds all points and is at least as large as `FIELD`. Where the spacing stays, voxels fall on voxels.
        """
        places = points_to_voxels(points, self.affine) / (np.array(spacing) / self.spacing)
        low, high = places.min(axis=0), places.max(axis=0)
        margin = MARGIN / np.array(spacing)
        shape = np.ceil(np.maximum(np.array(FIELD) / spacing - 1e-3, high - low + 1 + 2 * margin)).astype(int)
        start = np.rint((low + high) / 2 - (shape - 1) / 2)
        affine = self.affine @ np.diag([*(np.array(spacing) / self.spacing), 1])
        affine[:3, 3] = (affine @ [*start, 1])[:3]
        return Grid(affine, tuple(shape.tolist()))

    def same_as(self, other: "Grid") -> bool:
        """Whether both put every voxel in the same place, to a thousandth of a millimetre."""
        if self.shape != other.shape:
            return False
        return bool(np.abs((self.affine - other.affine) @ [*self.shape, 1]).max() < 1e-3)


def points_to_voxels(points: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Points (n, 3) in RAS millimetres as fractional (slice, row, column)."""
    return (points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T


def voxels_to_points(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Fractional (slice, row, column) (n, 3) as points in RAS millimetres."""
    return voxels @ affine[:3, :3].T + affine[:3, 3]


def parse_spacing(text: str) -> tuple[float, float, float]:
    """Millimetres between slices, rows and columns from one number (cubes) or three (rows, columns, slices).

    Raises:
      UserError: `text` is something else, or a number is out of range.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) not in (1, 3) or not all(math.isfinite(n) and FINEST <= n <= COARSEST for n in numbers):
        raise UserError(
            f"--spacing {text}: expected one number of mm for cubic voxels, such as 1, or the distances between rows, "
            f"columns and slices, such as 0.8,0.8,3; each from {FINEST:g} to {COARSEST:g}"
        )
    rows, columns, slices = numbers * 3 if len(numbers) == 1 else numbers
    return slices, rows, columns
